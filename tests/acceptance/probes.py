"""Tasks that stand around ours in the canvases of the tests, and keep a record of what ran."""

import os
from typing import Any

from celery import shared_task
from redis import Redis

QUEUE = "subtokens.exchange"


def _note(list_name: str, entry: str) -> None:
    with Redis.from_url(os.environ["SUBTOKENS_BROKER_URL"]) as redis:
        redis.rpush(f"probe:{list_name}", entry)


@shared_task(name="probe.echo", queue=QUEUE, ignore_result=False)
def echo(value: Any) -> Any:
    return value


@shared_task(name="probe.note", queue=QUEUE, ignore_result=False)
def note(*arguments: Any) -> str:
    """The last argument names the list that is written to."""
    _note(arguments[-1], "ran")
    return "ran"


@shared_task(name="probe.errback", queue=QUEUE)
def errback(request: Any, error: BaseException, _traceback: object, list_name: str) -> None:
    _note(list_name, f"{type(error).__name__}: {error}")
