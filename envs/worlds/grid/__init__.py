"""Grid worlds: lava, keys and chests, coin and flag."""
