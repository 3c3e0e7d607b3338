"""Tasks that stand around ours in the canvases of the tests, and keep a record of what ran."""

import os
import time
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


@shared_task(name="probe.settle", queue=QUEUE)
def settle(account_id: str, list_name: str, bad: str = "", seconds: float = 0) -> None:
    """A user's task for one account; it notes how many of its kind there are at once."""
    with Redis.from_url(os.environ["SUBTOKENS_BROKER_URL"]) as redis:
        now = int(redis.incr(f"probe:now:{list_name}"))
        redis.set(
            f"probe:most:{list_name}", max(now, int(redis.get(f"probe:most:{list_name}") or 0))
        )
        time.sleep(seconds)
        redis.rpush(f"probe:{list_name}", account_id)
        redis.decr(f"probe:now:{list_name}")
    if account_id == bad:
        raise ValueError(account_id)
