"""Preregistration: the plan, its splits, the ledger of looks, the seal, and their audit."""
