"""Learning on in another world, paid by the task, by a feeling, or not at all."""
