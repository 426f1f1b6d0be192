"""Pictures of every world under every shift: `python -m envs.gallery`."""
