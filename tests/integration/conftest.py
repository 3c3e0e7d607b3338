"""Shapes that the store's tests share."""

import pytest

from subtokens.tasks.tokens.limiter import Rate
from subtokens.tasks.tokens.record import Kind, TokenRecord


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
    async def claim(limit=10, lease_seconds=60):
        return await store.claim(limit, lease_seconds, unlimited)

    return claim
