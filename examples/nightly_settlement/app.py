"""A night in a Celery app of your own: tokens first, then your task for each account, a report.

Run, with the SUBTOKENS_* variables of .env.example exported:
    celery -A app worker -n renew@%h -Q subtokens.sweep,subtokens.renew   # waits for no batch
    celery -A app worker -Q celery,subtokens.exchange,subtokens.accounts  # as many as you like
    celery -A app beat                                    # sends the sweep, and at two the night
"""

import os
from functools import cache
from typing import Any

import httpx
from celery import Celery, chain
from celery.schedules import crontab
from celery.utils.log import get_task_logger

import subtokens

REDIS = os.environ["SUBTOKENS_BROKER_URL"]
DINTERO = os.environ.get("SUBTOKENS_BASE_URL", "https://api.dintero.com/v1")

app = Celery("nightly", broker=REDIS, backend=REDIS, include=["subtokens.tasks"])
app.conf.beat_schedule = subtokens.beat_schedule() | {
    "settle-by-night": {"task": "nightly.tonight", "schedule": crontab(hour="2", minute="0")},
}
log = get_task_logger(__name__)


@app.task(name="nightly.tonight")
def tonight() -> None:
    night = chain(
        subtokens.discover.si(),  # enrol what is new since the last hour
        subtokens.ensure.si(valid_for="2h", policy=0.995, timeout=1800),
        subtokens.for_each_account.si(settle.s(), at_once=200, policy=0.99),
        report.s(),
    )
    night.on_error(alarm.s()).delay()


@cache  # one of each in a worker process, made by its first task
def parts() -> tuple[subtokens.TokenReader, httpx.Client]:
    return subtokens.TokenReader(), httpx.Client(base_url=DINTERO, timeout=30)


@app.task(name="nightly.settle")
def settle(account_id: str) -> None:
    reader, dintero = parts()
    auth = subtokens.SubAccountAuth(reader, account_id)
    answer = dintero.get(f"/accounts/{account_id}/management/settings", auth=auth)
    answer.raise_for_status()  # your work goes here; what it raises counts as failed


@app.task(name="nightly.report")
def report(summary: dict[str, Any]) -> None:
    log.info("settled %(done)d of %(accounts)d accounts, failed: %(failed)s", summary)


@app.task(name="nightly.alarm")
def alarm(request: Any, error: Exception, traceback: Any) -> None:  # noqa: ANN401, ARG001
    log.error("the night ended at %s: %s", request.task, error)
