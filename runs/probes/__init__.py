"""What trained heads and critics predict: AUROC, rank correlation, credit assignment."""
