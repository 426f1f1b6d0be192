"""Training and scoring of agents over seeds, checkpoints, and the two ways worlds are stepped."""
