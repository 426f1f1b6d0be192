"""Small worlds in which theory gives the exact answer."""
