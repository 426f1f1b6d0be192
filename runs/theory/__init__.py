"""What theory, published numbers and human data say must hold: one file a question."""
