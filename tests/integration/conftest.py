"""Shapes that the store's tests share."""

import contextlib

import pytest

from subtokens.config.partners import Partner
from subtokens.config.settings import Settings
from subtokens.tasks.dintero.transport import open_transport
from subtokens.tasks.fleet import Fleet
from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.workers.sandbox import SandboxOptions, serving


@pytest.fixture
def unlimited():
    return Rate(1_000_000)


@pytest.fixture
def token(clock):
    """Makes a record as an exchange would, issued now and due at half its life."""

    def token(account_id, generation, lifetime_seconds=3600):
        now_ms = int(clock() * 1000)
        lifetime_ms = lifetime_seconds * 1000
        return TokenRecord(
            account_id,
            f"CANARY-token-of-{account_id}-{generation}",
            Kind.EXCHANGE,
            generation,
            now_ms,
            now_ms + lifetime_ms // 2,
            now_ms + lifetime_ms,
        )

    return token


@pytest.fixture
def enrol(store):
    async def enrol(*account_ids):
        return await store.enrol([(account_id, "") for account_id in account_ids], "imported")

    return enrol


@pytest.fixture
def claim(store, unlimited):
    """Claims what was asked for; where nothing was, what is due by the clock."""

    async def claim(limit=10, lease_seconds=60, lane=None):
        for chosen in [lane] if lane else ["exchange", "renew"]:
            found = await store.claim(limit, lease_seconds, unlimited, chosen)
            if found.accounts:
                break
        return found

    return claim


@pytest.fixture
def fleet_of(settings, redis, clock):
    """Makes fleets of several partners that call nobody, such as T11200000 of 112."""

    def fleet_of(number, redis=redis):
        values = {
            "id": f"T{number:03}00000",
            "client_id": "sandbox-client-id",
            "client_secret": "CANARY-client-secret",
            "base_url": "http://127.0.0.1:1/v1",
            "rate_limit": 50,
            "token_kind": "exchange",
            "audience": "partner",
        }
        return Fleet(settings, Partner.model_validate(values), redis, None, clock)

    return fleet_of


@pytest.fixture
async def fleet_at(redis, environment, clock):
    """A fleet with a pushed clock at a sandbox with the same clock; and that sandbox."""
    async with contextlib.AsyncExitStack() as stack:

        async def fleet_at(settings=None, **options):
            sandbox = await stack.enter_async_context(
                serving(SandboxOptions(**options), clock=clock)
            )
            values = {k.removeprefix("SUBTOKENS_").lower(): v for k, v in environment.items()}
            values |= {
                "client_secret": "sandbox-client-secret",
                "base_url": sandbox.base_url,
                "rate_limit": 100_000,
            }
            chosen = Settings(**(values | (settings or {})))
            transport = open_transport(chosen.concurrency)
            stack.push_async_callback(transport.aclose)
            return Fleet(chosen, chosen.partners[0], redis, transport, clock), sandbox.state

        yield fleet_at


@pytest.fixture
def work_off():
    """Works on all that is due in both lanes, as workers do when a sweep has sent tickets."""

    async def work_off(fleet, *lanes):
        async def on_ended(_runs):
            pass

        tallies = [
            await fleet.stint(lane, on_ended).run() for lane in lanes or ("renew", "exchange")
        ]
        return sum(tally.exchanged for tally in tallies)

    return work_off


@pytest.fixture
def push_to_next(clock):
    """Pushes the clock to when the next account is due, and a millisecond on; returns seconds."""

    async def push_to_next(fleet):
        redis, due = fleet.store.redis, fleet.store.keys.due
        scores = [abs(score) for _, score in await redis.zrange(due, 0, -1, withscores=True)]
        before = clock.now
        clock.now = max(before, min(scores) / 1000 + 0.001)
        return clock.now - before

    return push_to_next
