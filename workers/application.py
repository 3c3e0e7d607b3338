"""Our own Celery app, for `celery -A subtokens.workers`."""

import gc
import sys
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging, task_postrun, task_prerun

from ..config.celeryconfig import celery_configuration
from ..config.errors import SettingsError
from ..config.logs import configure_logging
from ..config.queues import QUEUES
from ..config.settings import Settings, load
from ..tasks import fan_out  # noqa: F401 - registers all, where they were met without Celery, too
from .exit_codes import BAD_INPUT
from .health import leave_signs_of_beat, leave_signs_of_worker
from .stopping import end_tickets_on_term

# A stint makes and drops objects by the thousand, hardly any of them in a cycle. Looked for after
# every 700, as Python does it unasked, they cost an eighth of a worker's CPU (docs/benchmarks.md).
_CYCLES_SOUGHT_AFTER = (20_000, 20, 20)


def make_app(settings: Settings) -> Celery:
    """A Celery app with our configuration and tasks; it consumes our queues alone."""
    app = Celery("subtokens")
    app.config_from_object(celery_configuration(settings))

    def choose_queues(instance: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
        queues = instance.app.amqp.queues
        # On a shared broker the default queue is somebody else's: we would discard their tasks.
        if instance.app is app and queues.consume_from is queues:
            queues.select(QUEUES)

    celeryd_after_setup.connect(choose_queues, weak=False)
    return app


@cache
def command_line_app() -> Celery:
    """The app for Celery's command line; unusable settings end the process with code 2."""
    try:
        settings = load(Settings)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is not configured yet
        raise SystemExit(BAD_INPUT) from None

    def configure(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
        configure_logging(settings)

    setup_logging.connect(configure, weak=False)
    task_prerun.connect(_bind_task)
    task_postrun.connect(_unbind_task)
    end_tickets_on_term()
    gc.set_threshold(*_CYCLES_SOUGHT_AFTER)
    if settings.health_folder:
        leave_signs_of_worker(Path(settings.health_folder))
        leave_signs_of_beat(Path(settings.health_folder))
    return make_app(settings)


def _bind_task(task_id: str, task: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task=task.name, task_id=task_id)


def _unbind_task(**_: Any) -> None:  # noqa: ANN401 - Celery's signal
    structlog.contextvars.clear_contextvars()
