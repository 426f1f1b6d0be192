"""Continued training of agents in shifted worlds, on task reward, head signals or no reward."""
