"""The enrolled accounts, one by one, for a list."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ...tasks.tokens.record import instant_of
from ...tasks.tokens.store import TokenStore, last_outcome, number_of, text_of


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
            until = number_of(expiry if expiry is not None else kept, -1)
            rows[account_id] = AccountRow(
                account_id,
                text_of(name),
                last_outcome(history or b""),
                instant_of(until) if until >= 0 else None,
            )
    return [rows[account_id] for account_id in sorted(rows)]
