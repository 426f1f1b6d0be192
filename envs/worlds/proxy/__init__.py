"""Worlds whose paid reward is a proxy of the wanted performance."""
