"""The record of one token: what the store keeps and readers get."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum

from ...config.secrecy import NeverPickled


class Kind(IntEnum):
    """Which call's answer the token is."""

    PARTNER = 0
    EXCHANGE = 1
    ACCOUNT = 2


@dataclass(frozen=True, slots=True)
class TokenRecord(NeverPickled):
    """One token with its instants, in milliseconds since 1970 UTC; its repr hides the token.

    `generation` rises with every exchange of a partner, so that of two records of an account the
    higher one is the newer.
    """

    account_id: str
    access_token: str = field(repr=False)
    kind: Kind
    generation: int
    issued_ms: int
    renew_ms: int
    expires_ms: int

    @property
    def issued_at(self) -> datetime:
        """When the request that brought the token was sent."""
        return _instant(self.issued_ms)

    @property
    def renew_at(self) -> datetime:
        """From when a newer token is wanted."""
        return _instant(self.renew_ms)

    @property
    def expires_at(self) -> datetime:
        """From when the token is worthless."""
        return _instant(self.expires_ms)

    def lasts(self, valid_for_seconds: float, now: float) -> bool:
        """Whether the token is still valid that many seconds after `now` (epoch seconds)."""
        return self.expires_ms > (now + valid_for_seconds) * 1000


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
