"""All that runs: the Celery app, the command line, the sandbox.

`celery -A subtokens.workers worker` and `… beat` find the app here; it is made when asked for,
since a package that is merely imported should read no settings.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    app: Celery

__all__ = ["app"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes have no one type
    if name == "app":
        from .application import command_line_app

        return command_line_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
