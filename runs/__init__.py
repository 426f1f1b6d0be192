"""The laboratory: each module asks one question and is run as `python -m runs.NAME`."""
