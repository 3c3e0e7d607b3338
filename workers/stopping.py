"""TERM lets a worker's tickets end at once: they claim no more, and finish the calls under way."""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

from celery.signals import celeryd_after_setup, worker_process_init, worker_shutting_down

from ..tasks.runtime import stop_claiming


def end_tickets_on_term() -> None:
    """Have a worker of this process tell its pool's processes; only those of prefork need it."""
    celeryd_after_setup.connect(_remember, weak=False, dispatch_uid="subtokens.stopping")
    worker_process_init.connect(_listen, weak=False, dispatch_uid="subtokens.stopping")


def _listen(**_: Any) -> None:  # noqa: ANN401 - Celery's signals, as all here
    def stop(_signal: int, _frame: FrameType | None) -> None:
        stop_claiming()

    signal.signal(signal.SIGUSR2, stop)


def _remember(instance: Any, **_: Any) -> None:  # noqa: ANN401
    def tell(**_: Any) -> None:  # noqa: ANN401
        processes = instance.pool.info.get("processes", ()) if instance.pool else ()
        for pid in processes:
            if pid == os.getpid():
                continue
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)

    worker_shutting_down.connect(tell, weak=False, dispatch_uid="subtokens.tell")
