"""Continued training of agents in shifted worlds, on task reward, signals or neither."""
