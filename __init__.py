"""Keep one fresh access token for every sub-account of a Dintero partner.

`subtokens.fan_out`, `.exchange`, `.discover` and `.forget` are Celery tasks for your canvases;
`subtokens.TokenReader` hands the tokens to batch jobs. Everything is loaded when asked for:
`import subtokens` starts nothing, and Celery comes with the first task.
"""

import sys
from importlib import import_module, reload
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.errors import InputError, SettingsError, SubtokensError
    from .config.schedule import beat_schedule
    from .tasks import (
        account_done,
        discover,
        ensure,
        exchange,
        fan_out,
        for_each_account,
        forget,
        reject,
        renew_due,
        watch_runs,
        work,
    )
    from .tasks.errors import RunFailedError
    from .tasks.tokens.async_reader import AsyncTokenReader
    from .tasks.tokens.auth import SubAccountAuth
    from .tasks.tokens.errors import NoTokenError, SealError, TokenError
    from .tasks.tokens.reader import TokenReader
    from .tasks.tokens.record import TokenRecord
    from .tasks.tokens.selection import save_selection

__version__ = "0.1.0"

_HOMES = {  # of what is no task
    "AsyncTokenReader": ".tasks.tokens.async_reader",
    "InputError": ".config.errors",
    "SettingsError": ".config.errors",
    "SubAccountAuth": ".tasks.tokens.auth",
    "SubtokensError": ".config.errors",
    "beat_schedule": ".config.schedule",
    "NoTokenError": ".tasks.tokens.errors",
    "RunFailedError": ".tasks.errors",
    "SealError": ".tasks.tokens.errors",
    "TokenError": ".tasks.tokens.errors",
    "TokenReader": ".tasks.tokens.reader",
    "TokenRecord": ".tasks.tokens.record",
    "save_selection": ".tasks.tokens.selection",
}

__all__ = [
    "AsyncTokenReader",
    "InputError",
    "NoTokenError",
    "RunFailedError",
    "SealError",
    "SettingsError",
    "SubAccountAuth",
    "SubtokensError",
    "TokenError",
    "TokenReader",
    "TokenRecord",
    "account_done",
    "beat_schedule",
    "discover",
    "ensure",
    "exchange",
    "fan_out",
    "for_each_account",
    "forget",
    "reject",
    "renew_due",
    "save_selection",
    "watch_runs",
    "work",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a package's attributes have no one type
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, ".tasks")
    found = getattr(import_module(home, __name__), name)
    if isinstance(found, ModuleType):
        # A task's module bears its name, and was loaded by another door before the tasks were.
        found = getattr(reload(sys.modules[f"{__name__}{home}"]), name)
    if "celery" not in sys.modules:
        # The reader's import passed through subtokens.tasks, which registers no task without
        # Celery. A Celery app that comes later and includes it must find it as if never met.
        sys.modules.pop(f"{__name__}.tasks", None)
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
