"""Checks of what the store holds: whether records open and can be read, and who is at work."""

import asyncio
import time
from datetime import UTC, datetime
from typing import cast

from ...config.queues import SWEEP_QUEUE
from ...config.settings import Settings
from ...tasks.tokens.errors import NoTokenError, SealError
from ...tasks.tokens.reader import TokenReader
from ...tasks.tokens.status import FleetStatus
from ...tasks.tokens.store import TokenStore
from .finding import Finding, doubtful, failed, well

_SAMPLE = 20
_LATE_SECONDS = 10
_FAULTS = {"upstream": "the upstream", "credential": "our credential", "us": "our settings"}


async def sample(store: TokenStore) -> list[str]:
    """Some accounts whose tokens live, those that live longest."""
    key, now = store.keys.expiry, store.now_ms() + _LATE_SECONDS * 1000
    found = await store.redis.zrange(
        key, "+inf", now, byscore=True, desc=True, offset=0, num=_SAMPLE
    )
    return [account.decode() for account in cast("list[bytes]", found)]


async def records(store: TokenStore, accounts: list[str]) -> Finding:
    """That the keys held open what is stored."""
    if not accounts:
        return well("records", "no token is stored yet")
    missing, faults = 0, []
    for account in accounts:
        try:
            missing += await store.load(account) is None
        except SealError as error:
            faults.append(str(error).partition(": ")[2])
    if faults:
        text = f"{len(faults)} of {len(accounts)} do not open: {faults[0]}"
        remedy = "put the key that sealed them behind the first in SUBTOKENS_ENCRYPTION_KEYS"
        return failed("records", text, remedy)
    if missing:
        text = f"{missing} of {len(accounts)} are gone before their time: evicted or deleted"
        return doubtful("records", text, "keep others and eviction away from the store")
    return well("records", f"{len(accounts)} of {len(accounts)} that were tried open")


async def reading(settings: Settings, partner_id: str, accounts: list[str]) -> Finding:
    """That a reader with this store and these keys hands out a token."""
    if not accounts:
        return well("reader", "no token to read yet")

    def read() -> None:
        with TokenReader(settings, partner_id=partner_id, cache_seconds=0) as reader:
            reader.get(accounts[0])

    try:
        await asyncio.to_thread(read)
    except (NoTokenError, SealError) as error:
        return failed("reader", str(error), f"subtokens explain {accounts[0]}")
    return well("reader", f"a reader gets the token of {accounts[0]}")


def sweep(status: FleetStatus) -> Finding:
    """That beat and a worker are at it."""
    remedy = (
        f"start celery -A subtokens.workers beat, and a worker with -Q {SWEEP_QUEUE},…, "
        "or your own app's with subtokens.beat_schedule()"
    )
    if status.last_sweep_at is None:
        text = f"never swept: no beat, or no worker for {SWEEP_QUEUE}"
        return doubtful("beat and workers", text, remedy)
    age = (datetime.fromtimestamp(time.time(), UTC) - status.last_sweep_at).total_seconds()
    if age > _LATE_SECONDS:
        text = f"last sweep {age:.0f} s ago: no beat, or no worker for {SWEEP_QUEUE}"
        return doubtful("beat and workers", text, remedy)
    return well("beat and workers", f"last sweep {max(0.0, age):.1f} s ago")


def pause(status: FleetStatus) -> list[Finding]:
    """Whether nobody may call Dintero now, and why."""
    if not (status.paused_seconds or status.barred_by):
        return []
    until, remedy = (
        f" for {status.paused_seconds:.0f} s",
        "put right what the reason names; it goes on",
    )
    if status.barred_by:
        until = f" but a prober, by the fault of {_FAULTS.get(status.barred_by, status.barred_by)}"
        remedy += " within a minute, or at once after subtokens exchange --retry"
    text = f"nobody calls Dintero{until}: {status.pause_reason}"
    return [doubtful("pause", text, remedy)]


def accounts_held(status: FleetStatus) -> Finding:
    """How many accounts there are, and whether some are in quarantine."""
    counts = ", ".join(f"{count} {reason}" for reason, count in status.quarantined.items())
    text = f"{status.enrolled} enrolled, {status.valid} with a valid token"
    if not counts:
        return well("accounts", text)
    remedy = "subtokens explain tells why for each; then subtokens exchange --retry"
    return doubtful("accounts", f"{text}; in quarantine: {counts}", remedy)
