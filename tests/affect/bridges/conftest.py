"""Tests of bridges step gymnasium's environments: without it they are left out."""

try:
    import gymnasium  # noqa: F401
except ImportError:
    collect_ignore_glob = ["*.py"]
