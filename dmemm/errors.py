"""The one exception whose message is meant for the user."""


class UserError(Exception):
    """Bad input: one line that names the file or key, and what to do about it.

    The command line prints it without a traceback and exits with 1.
    """
