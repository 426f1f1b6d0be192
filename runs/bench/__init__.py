"""The benchmark's parts: what is measured, in which processes, and what becomes of the figures."""
