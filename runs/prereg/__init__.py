"""Preregistration: plan file, train/dev/sealed splits, ledger of looks, sealed draw, audit."""
