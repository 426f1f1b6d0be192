"""Gymnasium environments stepped on the host by worker processes, as suites of worlds."""
