"""Shared by all commands: settings, progress and interruption, the index of studies."""
