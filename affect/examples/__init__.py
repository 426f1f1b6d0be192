"""Feelings from the literature in a page each: what the protocol holds beside the core set."""
