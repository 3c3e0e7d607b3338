"""What is logged while a command runs: warnings and errors, a line on stderr for each."""

import logging


class ShownEvents(logging.Handler):
    """Shows events as sentences are shown; a service configures logging and takes its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        from .terminal import say

        event = dict(record.msg) if isinstance(record.msg, dict) else {}
        name = event.pop("event", None) or record.getMessage()
        told = [f"{field}={value}" for field, value in event.items() if field not in _USUAL]
        say(f"{record.levelname.lower()}: {' '.join([name, *told])}", stderr=True)


_USUAL = {"level", "logger", "timestamp"}
SHOWN_EVENTS = ShownEvents(logging.WARNING)
