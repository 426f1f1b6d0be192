"""What every study shares: training, scoring, statistics, and everything that touches the disk."""
