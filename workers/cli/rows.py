"""The enrolled accounts, one by one, for a list."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ...tasks.tokens.store import TokenStore, last_outcome


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
                pipe.hmget(store.keys.state(account_id), ["name", "history", "expires_at"])
            expiries, *states = await pipe.execute()
        for account_id, expiry, (name, history, kept) in zip(page, expiries, states, strict=True):
            until = float(expiry if expiry is not None else kept or -1)
            rows[account_id] = AccountRow(
                account_id,
                (name or b"").decode(),
                last_outcome(history or b""),
                datetime.fromtimestamp(until / 1000, UTC) if until >= 0 else None,
            )
    return [rows[account_id] for account_id in sorted(rows)]
