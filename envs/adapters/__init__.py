"""Adapters to and from other libraries: gymnax, navix and craftax in, gymnasium out."""
