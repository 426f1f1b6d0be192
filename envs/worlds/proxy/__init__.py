"""Worlds whose reward is a proxy of the true performance."""
