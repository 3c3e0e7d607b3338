"""The record of one token: what the store keeps and readers get."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum

from ...config.secrecy import NeverPickled

_LAST_MS = 253_402_300_799_000  # the end of the year 9999


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
        return instant_of(self.issued_ms)

    @property
    def renew_at(self) -> datetime:
        """From when a newer token is wanted."""
        return instant_of(self.renew_ms)

    @property
    def expires_at(self) -> datetime:
        """From when the token is worthless."""
        return instant_of(self.expires_ms)

    def lasts(self, valid_for_seconds: float, now: float) -> bool:
        """Whether the token is still valid that many seconds after `now` (epoch seconds)."""
        return self.expires_ms > (now + valid_for_seconds) * 1000


def instant_of(milliseconds: float) -> datetime:
    """The instant so long after 1970 began; what no calendar holds becomes its last one."""
    return datetime.fromtimestamp(max(0, min(milliseconds, _LAST_MS)) / 1000, UTC)
