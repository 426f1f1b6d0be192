"""Jitted worlds, each with its suite of shifts."""
