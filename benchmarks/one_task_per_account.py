"""What is usually written on Celery: a task per account, one shared httpx.Client per process."""

import os

import httpx
from celery import Celery
from redis import Redis

BASE_URL = os.environ["SUBTOKENS_BASE_URL"]
PARTNER_ID = os.environ["SUBTOKENS_PARTNER_ID"]

app = Celery(
    "one_task_per_account",
    broker=os.environ["SUBTOKENS_BROKER_URL"],
    backend=os.environ["SUBTOKENS_BROKER_URL"],
)
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True
)

_clients: dict[int, tuple[httpx.Client, Redis, str]] = {}


def clients() -> tuple[httpx.Client, Redis, str]:
    """One HTTP client, one Redis client and one partner token per process."""
    pid = os.getpid()
    if pid not in _clients:
        client = httpx.Client(base_url=BASE_URL, limits=httpx.Limits(max_connections=100))
        answer = client.post(
            f"/accounts/{PARTNER_ID}/auth/token",
            auth=(os.environ["SUBTOKENS_CLIENT_ID"], os.environ["SUBTOKENS_CLIENT_SECRET"]),
            json={
                "grant_type": "client_credentials",
                "audience": f"https://api.dintero.com/v1/accounts/{PARTNER_ID}",
            },
        )
        token = answer.json()["access_token"]
        _clients[pid] = client, Redis.from_url(os.environ["SUBTOKENS_STORE_URL"]), token
    return _clients[pid]


@app.task(name="one_task_per_account.exchange")
def exchange(account_id: str) -> None:
    client, redis, token = clients()
    answer = client.post(
        f"/accounts/{PARTNER_ID}/auth/exchange_token",
        headers={"Authorization": f"Bearer {token}"},
        json={"account_id": account_id},
    )
    answer.raise_for_status()
    body = answer.json()
    redis.set(f"naive:{account_id}", body["access_token"], ex=body["expires_in"])
