"""Errors that are shown to a person: as one message, without a traceback, with a documented exit code."""


class LandoError(Exception):
    """A failure that its message explains; a command then exits with ``exit_code``."""

    exit_code = 1


class DatabaseLocked(LandoError):
    """Another process holds the database's lock for longer than was waited; a later try can succeed."""


class UsageError(LandoError):
    """Wrong usage, configuration or job file: nothing was done, and a retry cannot help (exit code 2)."""

    exit_code = 2
