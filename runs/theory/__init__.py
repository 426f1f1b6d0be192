"""Tests against theory, published numbers and human data: one file a question."""
