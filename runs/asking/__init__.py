"""What feelings know, and which step they credit: readouts of trained heads and their rivals."""
