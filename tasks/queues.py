"""Makes any worker that has our tasks consume their queues, unless it was told which to consume."""

from typing import Any

from celery.signals import celeryd_after_setup

from ..config.celeryconfig import QUEUES


def consume_our_queues() -> None:
    """Connect to the worker's start; connecting twice changes nothing."""
    celeryd_after_setup.connect(_add_queues, dispatch_uid="subtokens.queues")


def _add_queues(instance: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signal
    queues = instance.app.amqp.queues
    # With -Q, or an app that chose (as ours does), consume_from is a choice and is respected.
    if queues.consume_from is queues:
        for name in QUEUES:
            queues.add(name)
