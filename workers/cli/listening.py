"""What is said where a command cannot listen at the port that it was given."""

import os

from ...config.errors import InputError


def cannot_listen(host: str, port: int, error: OSError) -> InputError:
    """The system's reason in its usual words, which an event loop hides among others."""
    number = error.errno or 0  # below zero where a name is not known
    why = os.strerror(number) if number > 0 else str(error)
    return InputError(f"cannot listen at {host}, port {port}: {why}; name another")
