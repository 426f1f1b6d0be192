"""The page of a study: one file that loads and runs nothing."""
