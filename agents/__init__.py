"""Agents, one algorithm per file; they receive the signals of heads, never the heads."""
