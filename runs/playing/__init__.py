"""Worlds played by hand: keys, the game, the page that shows it."""
