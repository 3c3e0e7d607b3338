"""How one partner's fleet stands, read from the indexes in one round trip."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from .store import TokenStore


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """Counts of accounts, and the instants that matter."""

    partner_id: str
    enrolled: int
    valid: int  # have a token that has not expired
    expired: int
    never_exchanged: int
    due: int  # wait for a worker now
    claimed: int  # being exchanged now
    failing: int  # last attempt failed
    oldest_due_seconds: float  # 0 if none is due
    next_expiry_at: datetime | None
    open_runs: int
    paused_seconds: float  # nobody calls Dintero for that long
    pause_reason: str  # of the pause now, or the last one

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; instants in ISO 8601."""
        plain = asdict(self)
        plain["next_expiry_at"] = self.next_expiry_at and self.next_expiry_at.isoformat()
        return plain


async def fleet_status(store: TokenStore) -> FleetStatus:
    """Look at the fleet now. Raises redis.RedisError."""
    now, keys = store.now_ms(), store.keys
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.zcard(keys.due)
        pipe.zcount(keys.expiry, f"({now}", "+inf")
        pipe.zcard(keys.expiry)
        pipe.zcount(keys.due, "-inf", now)
        pipe.hlen(keys.claims)
        pipe.scard(keys.failing)
        pipe.zrange(keys.due, 0, now, byscore=True, offset=0, num=1, withscores=True)
        pipe.zrange(
            keys.due, "(0", "-inf", byscore=True, desc=True, offset=0, num=1, withscores=True
        )
        pipe.zrange(keys.expiry, f"({now}", "+inf", byscore=True, offset=0, num=1, withscores=True)
        pipe.zcard(keys.runs)
        pipe.hmget(keys.limiter, ["paused_until", "pause_reason"])
        pipe.time()
        (
            enrolled,
            valid,
            ever,
            due,
            claimed,
            failing,
            oldest,
            asked,
            expiring,
            runs,
            *pause,
        ) = await pipe.execute()
    (paused_until, reason), (server_seconds, server_us) = pause
    waits = [now - abs(score) for _, score in [*oldest, *asked]]
    next_expiry = datetime.fromtimestamp(expiring[0][1] / 1000, UTC) if expiring else None
    return FleetStatus(
        partner_id=keys.partner_id,
        enrolled=enrolled,
        valid=valid,
        expired=ever - valid,
        never_exchanged=enrolled - ever,
        due=due,
        claimed=claimed,
        failing=failing,
        oldest_due_seconds=max([0.0, *waits]) / 1000,
        next_expiry_at=next_expiry,
        open_runs=runs,
        paused_seconds=max(0.0, int(paused_until or 0) / 1e6 - server_seconds - server_us / 1e6),
        pause_reason=(reason or b"").decode(),
    )


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One enrolled account, for a list."""

    account_id: str
    name: str
    outcome: str  # of the last attempt; empty if there was none
    expires_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; instants in ISO 8601."""
        plain = asdict(self)
        plain["expires_at"] = self.expires_at and self.expires_at.isoformat(timespec="seconds")
        return plain


async def account_rows(store: TokenStore) -> list[AccountRow]:
    """Every enrolled account, sorted by id. Raises redis.RedisError."""
    rows: dict[str, AccountRow] = {}
    async for page in store.enrolled():
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.zmscore(store.keys.expiry, page)
            for account_id in page:
                pipe.hmget(store.keys.state(account_id), ["name", "outcome"])
            expiries, *states = await pipe.execute()
        for account_id, expiry, (name, outcome) in zip(page, expiries, states, strict=True):
            rows[account_id] = AccountRow(
                account_id,
                (name or b"").decode(),
                (outcome or b"").decode(),
                datetime.fromtimestamp(expiry / 1000, UTC) if expiry else None,
            )
    return [rows[account_id] for account_id in sorted(rows)]
