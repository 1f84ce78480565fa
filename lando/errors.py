"""Errors that are shown to a person: as one message, without a traceback, with a documented exit code."""


class LandoError(Exception):
    """A failure that its message explains; a command then exits with ``exit_code``."""

    exit_code = 1


class DatabaseOutage(LandoError):
    """Another process holds the database's lock for longer than was waited, or its disk is full, fails, or is
    mounted read-only. A later try can succeed."""


class DatabaseUnusable(LandoError):
    """The database is damaged, or was removed or replaced while it was in use: somebody has to decide what
    to do, and until then nothing may be done by what it says (exit code 2: no restart helps)."""

    exit_code = 2
    is_left = False
    """Whether this process must end without cleaning up; see ``Store.leave``."""


class UsageError(LandoError):
    """Wrong usage, configuration or job file: nothing was done, and a retry cannot help (exit code 2)."""

    exit_code = 2
