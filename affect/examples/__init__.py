"""Example heads from the literature, a short file each, outside the core set."""
