"""Train and score agents over seeds, with checkpoints; jitted and host-stepped environments."""
