"""The other end of send.py: a worker that takes its own queue, and reads the tokens.

It needs the reader's three settings, SUBTOKENS_PARTNER_ID, _STORE_URL and _ENCRYPTION_KEYS, and
no credential of Dintero's. Run:
    celery -A settle worker -Q settling
"""

import os

import httpx
from celery import Celery

import subtokens

REDIS = os.environ["SUBTOKENS_BROKER_URL"]
DINTERO = os.environ.get("SUBTOKENS_BASE_URL", "https://api.dintero.com/v1")
app = Celery("settle", broker=REDIS, backend=REDIS)


@app.task(name="settling.settle_all")
def settle_all(account_ids: list[str]) -> int:
    with subtokens.TokenReader() as reader, httpx.Client(base_url=DINTERO, timeout=30) as dintero:
        for account_id in account_ids:
            auth = subtokens.SubAccountAuth(reader, account_id)
            answer = dintero.get(f"/accounts/{account_id}/management/settings", auth=auth)
            answer.raise_for_status()  # your work goes here
    return len(account_ids)
