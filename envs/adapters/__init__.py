"""In-adapters: everybody's jitted environments as suites of worlds, with our channel and shifts.

Each module makes the suites of one package, which is imported only then: the extra `jaxenvs`.
"""
