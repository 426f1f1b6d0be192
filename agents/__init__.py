"""Agents that see signals and never heads. One algorithm, one file."""
