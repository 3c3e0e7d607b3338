"""Errors of the tasks."""

from typing import Any

from ..config.errors import SubtokensError


class RunFailedError(SubtokensError):
    """A run ended without meeting its policy; `summary` holds its counts.

    Take `summary["run_id"]` to look the accounts up, mend what the reasons name, and run the
    step again: accounts that have their token keep it.
    """

    __module__ = "subtokens"  # where a result backend finds it again, with `import subtokens` alone

    def __init__(self, text: str, summary: dict[str, Any] | None = None) -> None:
        super().__init__(text, summary)
        self.summary = summary or {}

    def __str__(self) -> str:
        return str(self.args[0])


class NotAWorkerError(SubtokensError):
    """A step that waits was called in place; send it with .delay() or in a canvas instead."""
