"""structlog and the standard library's logging in one stream, with secrets masked."""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from pydantic import SecretBytes, SecretStr

from .settings import Settings

MASK = "[masked]"
_SECRET_WORDS = (
    "secret",
    "password",
    "authorization",
    "encryption_key",
    "bearer",
    "credential",
)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
    """Structlog processor: mask values by the name they stand under and by their type."""
    for name, value in event.items():
        event[name] = _masked(name, value)
    return event


def _masked(name: object, value: object) -> object:
    lowered = str(name).lower()
    if lowered.endswith("token") or any(word in lowered for word in _SECRET_WORDS):
        return MASK
    if isinstance(value, SecretStr | SecretBytes | bytes | bytearray):
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(key, item) for key, item in value.items()}
    if isinstance(value, tuple):  # exc_info is one, and is only understood as one
        return tuple(_masked("", item) for item in value)
    if isinstance(value, list | set | frozenset):
        return [_masked("", item) for item in value]
    return value


_STEPS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class _Event(dict[str, Any]):
    """What is handed to the standard library's logging: a line where others format it."""

    def __str__(self) -> str:
        fields = (f"{name}={value!r}" for name, value in self.items() if name not in _IN_A_RECORD)
        return " ".join([str(self["event"]), *fields])


# What a record of the standard library tells by itself, and the event before its fields.
_IN_A_RECORD = {"event", "level", "logger", "timestamp"}


def _for_any_handler(
    logger: Any,  # noqa: ANN401
    name: str,
    event: MutableMapping[str, Any],
) -> tuple[tuple[_Event], dict[str, dict[str, Any]]]:
    (_, extra) = structlog.stdlib.ProcessorFormatter.wrap_for_formatter(logger, name, event)
    return (_Event(event),), extra


# Our events go to the standard library's logger of our name, whether or not the app that our
# tasks run in has configured structlog: its handlers and levels decide.
log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("subtokens"),
    processors=[
        structlog.stdlib.filter_by_level,
        *_STEPS,
        redact,
        _for_any_handler,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
).bind()  # once: unbound, each call would bind it anew


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send our events and everybody else's records through one chain to `stream` (stderr)."""
    output = stream or sys.stderr
    renderers: list[structlog.typing.Processor]
    if settings.log_format == "json":
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Tracebacks without local variables: those may hold secrets.
        traceback = structlog.dev.plain_traceback
        colours = output.isatty() and not os.environ.get("NO_COLOR")
        renderers = [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=traceback)]
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_STEPS,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
