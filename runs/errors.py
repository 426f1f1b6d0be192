"""Exceptions of all studies: invalid input, and a stop that the user requested."""


class UserError(Exception):
    """Invalid input; a one-line message with cause and remedy, and exit code 2."""


class Interrupted(Exception):
    """The user requested a stop, and all finished work is saved."""
