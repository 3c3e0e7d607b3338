"""Visits to the Redis servers: one connection each, without retries, and what it told."""

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...config.urls import StoreAddress, store_address
from ...tasks.tokens.connections import open_async_redis
from ..exit_codes import NO_REDIS
from .clocks import seconds_ahead
from .finding import Finding, failed

_WAIT_SECONDS = 5
_KOMBUS_OWN = ("unacked", "unacked_index")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, by its role for us."""

    role: str
    setting: str
    place: str  # host, port and database, without the password
    info: dict[str, Any] = field(default_factory=dict)  # empty where its user may not ask
    ahead_seconds: float = 0.0  # our clock before the server's
    foreign: tuple[str, ...] = ()  # keys that other Celery apps keep there


async def visit(role: str, setting: str, url: str) -> Server | Finding:
    """What a server tells, or the failure to reach it."""
    address = store_address(url)
    redis = open_async_redis(
        address.url if address.kind == "cluster" else url,  # of a cluster, its first node
        socket_timeout=_WAIT_SECONDS,
        socket_connect_timeout=_WAIT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    place = _place(address)
    try:
        await redis.ping()
        return await _ask(redis, role, setting, place)
    except RedisError as error:
        text, remedy = _why_not(error, setting)
        return failed(role, f"{place} {text}", remedy, NO_REDIS)
    finally:
        await redis.aclose()


async def _ask(redis: Redis, role: str, setting: str, place: str) -> Server:
    try:
        asked_at = time.time()
        seconds, microseconds = await redis.time()
        ahead = seconds_ahead(asked_at, time.time(), seconds + microseconds / 1e6)
        foreign = [key for key in _KOMBUS_OWN if role == "broker" and await redis.exists(key)]
        info: dict[str, Any] = await redis.info()
    except NoPermissionError:
        return Server(role, setting, place)
    return Server(role, setting, place, info, ahead, tuple(foreign))


def _place(address: StoreAddress) -> str:
    parts = urlsplit(address.url)
    if parts.scheme == "unix":
        return parts.path
    database = parts.path.strip("/") or "0"
    if address.kind == "sentinel":
        named = ",".join(f"{host}:{port}" for host, port in address.nodes)
        return f"{address.master} (named by {named})/{database}"
    return f"{parts.hostname}:{parts.port or 6379}/{database}"


def _why_not(error: RedisError, setting: str) -> tuple[str, str]:
    """Words of our own for an error, as a server's may repeat a password."""
    if isinstance(error, AuthenticationError):
        remedy = f"put its password into {setting}: redis://user:password@host:6379/1, % escaped"
        return "does not accept the password, or wants one", remedy
    if isinstance(error, RedisTimeoutError):
        remedy = f"is {setting} right? a firewall between? rediss:// where it has no TLS?"
        return f"does not answer within {_WAIT_SECONDS} s", remedy
    if "DB index" in str(error):
        return "has no such database", f"name one that it has at the end of {setting}, such as /0"
    if isinstance(error, NoPermissionError):
        remedy = f"give the user of {setting} +select, +ping and all commands on our keys"
        return "refuses its user the first command", remedy
    if isinstance(error, ResponseError):
        return f"refuses: {type(error).__name__}", f"look into its log; is {setting} right?"
    if "SSL" in str(error) or "certificate" in str(error):
        remedy = f"add ?ssl_ca_certs=/its/ca.pem to {setting}, or write redis:// if it has no TLS"
        return "fails to speak TLS, or its certificate is unknown", remedy
    remedy = f"start Redis, or correct {setting} (rediss:// where it speaks TLS)"
    return f"cannot be reached: {type(error).__name__}", remedy
