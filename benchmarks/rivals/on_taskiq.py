"""A taskiq task per account, with an httpx.AsyncClient."""

import asyncio
import os
from collections.abc import Sequence
from functools import cache

import httpx
from redis.asyncio import Redis
from taskiq_redis import RedisStreamBroker

from rivals.calls import PARTNER_CALL, TAKES_TWO_CALLS, account_call, exchange_call, kept

broker = RedisStreamBroker(url=os.environ["SUBTOKENS_BROKER_URL"])


@cache
def parts() -> "asyncio.Task[tuple[httpx.AsyncClient, Redis, str]]":
    """Made by the first task of a process."""
    return asyncio.create_task(open_parts())


async def open_parts() -> tuple[httpx.AsyncClient, Redis, str]:
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=100))
    token = (await client.post(**PARTNER_CALL)).json()["access_token"]
    return client, Redis.from_url(os.environ["SUBTOKENS_STORE_URL"]), token


@broker.task
async def exchange(account_id: str) -> None:
    client, redis, partner_token = await parts()
    answer = (await client.post(**exchange_call(account_id, partner_token))).raise_for_status()
    if TAKES_TWO_CALLS:
        call = account_call(account_id, answer.json()["access_token"])
        answer = (await client.post(**call)).raise_for_status()
    token = answer.json()
    await redis.set(kept(account_id), token["access_token"], ex=token["expires_in"])


async def send_all(ids: Sequence[str]) -> None:
    await broker.startup()
    for account_id in ids:
        await exchange.kiq(account_id)
    await broker.shutdown()
