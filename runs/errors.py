"""The one error that a user's input can cause."""


class UserError(Exception):
    """Bad input: one line that names the cause and the remedy; the command exits with code 2."""
