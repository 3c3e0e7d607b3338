"""A Celery task per account."""

import os

from celery import Celery

from rivals import calls

app = Celery("rival", broker=os.environ["SUBTOKENS_BROKER_URL"])
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True
)


@app.task
def exchange(account_id: str) -> None:
    calls.exchange(account_id)


send = exchange.delay
