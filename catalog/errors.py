"""Errors a user can act on."""


class PdidError(Exception):
    """One clear sentence for the user: what was expected, what came, what to do.

    Commands print the message without a traceback and exit with 1 (something failed).
    """


class UsageError(PdidError):
    """The command, the settings or a sources file are wrong; commands exit with 2."""
