"""The errors a person sees: one message each, no traceback, and the exit code the commands promise."""


class LandoError(Exception):
    """Something went wrong that a sentence explains; ``exit_code`` is what a command exits with."""

    exit_code = 1


class UsageError(LandoError):
    """Wrong usage, configuration or job file: nothing was done, and repeating cannot help (exit code 2)."""

    exit_code = 2
