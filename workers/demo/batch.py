"""A user's own Celery app, as the demo's workers run it: three lines bring subtokens in."""

import asyncio
import os

import httpx
from celery import Celery

from subtokens import TokenReader, beat_schedule

app = Celery(
    "batch",
    broker=os.environ["SUBTOKENS_BROKER_URL"],
    backend=os.environ["SUBTOKENS_BROKER_URL"],
    include=["subtokens.tasks"],
)
app.conf.beat_schedule = beat_schedule()
app.conf.broker_connection_retry_on_startup = True


@app.task(name="batch.read_all_settings")
def read_all_settings(account_ids: list[str]) -> int:
    """Call Dintero as every sub-account with its own token; returns how many calls it accepted."""
    return asyncio.run(_read_all_settings(account_ids))


async def _read_all_settings(account_ids: list[str]) -> int:
    tokens = TokenReader().get_many(account_ids)
    connections = asyncio.Semaphore(10)
    async with httpx.AsyncClient(base_url=os.environ["SUBTOKENS_BASE_URL"]) as client:

        async def accepted(account_id: str, access_token: str) -> bool:
            async with connections:
                answer = await client.get(
                    f"/accounts/{account_id}/management/settings",
                    headers={"Authorization": f"Bearer {access_token}"},
                )
            return answer.status_code == 200 and answer.json()["account_id"] == account_id

        calls = [accepted(account, record.access_token) for account, record in tokens.items()]
        return sum(await asyncio.gather(*calls))
