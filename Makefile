# The five things that a contributor runs, in an environment with `.[dev]` (README, second command).
.PHONY: check test slow docs build

check:  # style, formatting, types
	ruff check . && ruff format --check . && mypy

test:  # the default tests, about ten minutes on two cores
	python -m pytest -n 2 --dist loadfile

slow:  # learning curves, other Pythons, tutorials
	python -m pytest -m slow

docs:  # the site, into site/; in an environment with `.[docs]`
	$(or $(wildcard .venv-docs/bin/mkdocs),mkdocs) build --strict

build:  # wheel and sdist, into dist/
	python -m hatchling build
