"""Shared ground of all tests: no setting from outside, a real Redis, a pushable clock."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis

from subtokens.config.settings import Settings
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.sealing import Sealer
from subtokens.tasks.tokens.store import TokenStore
from subtokens.workers.private_redis import PrivateRedis, RedisServerMissing

PARTNER = "T11200000"
MASTER_KEY = b"CANARY-master-key-of-32-bytes-!!"
KEYS = "k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE="
CANARY_SECRET = "CANARY-client-secret"

# A busy machine makes an example slow; that is no fault of the rule it tries.
hypothesis_settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("patient")

# The names of queues are read once: not from the developer's .env, and before tests move.
os.environ["SUBTOKENS_NAMESPACE"] = "subtokens"
import_module("subtokens.config.queues")
for _name in [name for name in os.environ if name.startswith("SUBTOKENS_")]:
    del os.environ[_name]

# What was started in the background ignores these, and would hand that down to what it starts.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


class PushableClock:
    """Epoch seconds that move only when pushed."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def push(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env of the developer's colours a result."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[PrivateRedis]:
    """One private Redis for the whole session; tests use a database or namespace of their own."""
    try:
        server = PrivateRedis()
    except RedisServerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
async def redis(redis_server: PrivateRedis) -> AsyncIterator[Redis]:
    """A client of database 1, emptied before: the server is the session's own."""
    client = Redis.from_url(redis_server.url(1))
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture
def clock() -> PushableClock:
    return PushableClock()


@pytest.fixture
def keys() -> PartnerKeys:
    return PartnerKeys("test", PARTNER)


@pytest.fixture
def store(redis: Redis, keys: PartnerKeys, clock: PushableClock) -> TokenStore:
    return TokenStore(redis, keys, Sealer(PARTNER, {"k1": MASTER_KEY}), clock)


@pytest.fixture
def environment(redis_server: PrivateRedis) -> dict[str, str]:
    """What a complete set-up sets; tests change what they are about."""
    return {
        "SUBTOKENS_PARTNER_ID": PARTNER,
        "SUBTOKENS_CLIENT_ID": "sandbox-client-id",
        "SUBTOKENS_CLIENT_SECRET": CANARY_SECRET,
        "SUBTOKENS_ENCRYPTION_KEYS": KEYS,
        "SUBTOKENS_BROKER_URL": redis_server.url(0),
        "SUBTOKENS_STORE_URL": redis_server.url(1),
    }


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()
