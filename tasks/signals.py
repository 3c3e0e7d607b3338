"""What a worker that has our tasks does beside them: consume their queues, watch runs, log."""

import logging
import random
from collections.abc import Mapping
from typing import Any

from celery import Celery, bootsteps
from celery.signals import celeryd_after_setup, worker_init

from ..config.logs import log
from ..config.queues import QUEUES, SWEEP_QUEUE
from ..config.schedule import SWEEP_INTERVAL_SECONDS

TASKS, WATCH = "subtokens.tasks", "subtokens.watch_runs"
# What subtokens sends to itself, each second or for each account; what comes of it, it logs itself.
_OUR_OWN = {"subtokens.renew_due", WATCH, "subtokens.work", "subtokens.account_done"}
_LOGGERS_OF_TASKS = (
    *("celery.worker.strategy", "celery.worker.request"),  # received, discarded
    *("celery.app.trace", "celery.beat"),  # succeeded, sent
)


def accompany_our_tasks() -> None:
    """Have workers do what goes with our tasks; asked twice, they do it once.

    They consume our queues, unless they were told which; each that takes sweeps sends itself one,
    so that runs end where no beat is left; and Celery logs at debug, not at info, that a task came
    and went that nobody else sends.
    """
    celeryd_after_setup.connect(_add_queues, dispatch_uid="subtokens.queues")
    worker_init.connect(_add_watch, dispatch_uid="subtokens.watch")
    for name in _LOGGERS_OF_TASKS:
        logging.getLogger(name).addFilter(_at_debug)


def _at_debug(record: logging.LogRecord) -> bool:
    arguments = record.args or ()
    values = arguments.values() if isinstance(arguments, Mapping) else arguments
    if record.levelno != logging.INFO or not any(
        isinstance(v, str) and v in _OUR_OWN for v in values
    ):
        return True
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def _serves(app: Celery) -> bool:
    """Whether the app asked for our tasks: that they are loaded may come from a reader alone."""
    return TASKS in {*app.conf.include, *app.conf.imports}


def _add_queues(instance: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
    if not _serves(instance.app):
        return
    queues = instance.app.amqp.queues
    # With -Q, or an app that chose (as ours does), consume_from is a choice and is respected.
    if queues.consume_from is queues:
        for name in QUEUES:
            queues.add(name)


def _add_watch(sender: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
    if _serves(sender.app):
        sender.app.steps["consumer"].add(Watch)


class Watch(bootsteps.StartStopStep):
    """Sends the sweep. A worker that reconnects clears its timers, and starts its steps anew."""

    requires = ("celery.worker.consumer.connection:Connection",)
    _timer: Any = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Send one now and about every second, if the worker takes them."""
        app = parent.app
        if SWEEP_QUEUE in app.amqp.queues.consume_from:
            _send(app)
            # Not all in step, nor in step with the broker's own second.
            interval_seconds = SWEEP_INTERVAL_SECONDS * random.uniform(1.0, 1.3)  # noqa: S311
            self._timer = parent.timer.call_repeatedly(interval_seconds, _send, (app,))

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()


def _send(app: Celery) -> None:
    try:
        app.send_task(
            WATCH,
            queue=SWEEP_QUEUE,
            expires=SWEEP_INTERVAL_SECONDS,
            ignore_result=True,
            retry=False,
        )
    except Exception as error:  # noqa: BLE001 - the worker's own loop must go on
        log.warning("watch.not_sent", error=repr(error))
