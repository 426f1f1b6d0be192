"""Statistics of score files: intervals and tests over seeds, robustness, calibration."""
