"""What every command shares: settings, progress and interruption, the index of studies."""
