"""A fleet: the parts that keep one partner's tokens, put together from the settings."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..config.partners import Partner
from ..config.settings import Settings
from .dintero.client import DinteroClient
from .tokens.circuit import Circuit
from .tokens.connections import open_async_redis
from .tokens.exchanger import Exchanger
from .tokens.keys import PartnerKeys
from .tokens.lanes import LANES, Lane
from .tokens.limiter import Limiter, Rate
from .tokens.metrics import Metrics
from .tokens.prober import Prober
from .tokens.runs import Runs
from .tokens.sealing import Sealer
from .tokens.stint import Stint
from .tokens.store import Clock, TokenStore
from .tokens.tickets import Tickets


class Fleet:
    """Everything about one partner's accounts; its methods run in one event loop."""

    def __init__(
        self,
        settings: Settings,
        partner: Partner,
        redis: Redis,
        transport: httpx.AsyncBaseTransport,
        clock: Clock = time.time,
        stopping: asyncio.Event | None = None,
    ) -> None:
        self.settings = settings
        self._stopping = stopping
        self.partner = partner
        self.rate = Rate(partner.rate_limit)
        self.store = TokenStore(
            redis,
            PartnerKeys(settings.namespace, partner.partner_id),
            Sealer(partner.partner_id, settings.master_keys),
            clock,
        )
        self.runs = Runs(self.store)
        self.tickets = Tickets(
            self.store,
            max(settings.concurrency, settings.batch_size),
            settings.hard_limit_seconds,
        )
        self.metrics = Metrics(self.store.scripts)
        self.limiters: dict[Lane, Limiter] = {
            lane: Limiter(
                self.store.scripts, self.rate, self.store.holder, lane, clock, self.metrics
            )
            for lane in LANES
        }
        self.circuit = Circuit(self.store.scripts, partner.partner_id, clock)
        self.client = DinteroClient(
            partner.base_url, transport, settings.call_timeout_seconds, self.metrics.note_call
        )
        self.exchanger = Exchanger(
            partner,
            self.client,
            self.store,
            Limiter(self.store.scripts, self.rate, self.store.holder, "first", clock, self.metrics),
            self.circuit,
            call_timeout_seconds=settings.call_timeout_seconds,
        )
        self.prober = Prober(self.exchanger, self.limiters["renew"])

    def stint(self, lane: Lane, on_ended: Callable[[tuple[str, ...]], Awaitable[None]]) -> Stint:
        """One go at what is due in a lane."""
        return Stint(
            lane,
            self.exchanger,
            self.prober,
            self.limiters[lane],
            self.settings,
            on_ended,
            self._stopping,
        )


def open_store(url: str) -> Redis:
    """A Redis client for the store: bounded waits, a few reconnects, answers as bytes."""
    return open_async_redis(
        url,
        socket_keepalive=True,
        health_check_interval=25,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), retries=4),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )
