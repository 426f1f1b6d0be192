"""What keeps a study honest: its plan, its splits, its ledger, its seal, and who checks them."""
