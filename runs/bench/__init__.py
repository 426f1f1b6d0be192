"""Parts of `runs.benchmark`: jobs, worker processes, statistics and table."""
