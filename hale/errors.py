"""Errors that are the user's to mend: one clear line each, shown without a traceback."""


class HaleError(ValueError):
    """Something the user can mend; the message says what, where and how."""


class DivergedError(HaleError):
    """Training left the finite numbers."""


class DatasetError(HaleError):
    """A dataset that cannot be used; one line says what, where, and how to mend it."""
