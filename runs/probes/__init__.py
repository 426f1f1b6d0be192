"""Measurements of what trained heads and critics predict: AUROC, rank correlation, credit."""
