"""UserError, the exception for invalid input."""


class UserError(Exception):
    """Invalid input; a one-line message with cause and remedy, and exit code 2."""
