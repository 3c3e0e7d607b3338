"""When to renew: a pure function of the token's lifetime and of who it belongs to."""

from hashlib import blake2b

WINDOW_OPENS = 0.4  # share of the lifetime
WINDOW_CLOSES = 0.8


def renew_ms(
    account_id: str, generation: int, issued_ms: int, expires_ms: int, reserve_seconds: float
) -> int:
    """The instant from which a token is due for renewal, in milliseconds since 1970.

    A hash of account and generation places it within the window, so that a fleet onboarded at
    once spreads out, and so that every look finds the same instant. It leaves `reserve_seconds`
    before expiry for further attempts, or three fifths of a lifetime too short for that.
    """
    lifetime = expires_ms - issued_ms
    share = WINDOW_OPENS + (WINDOW_CLOSES - WINDOW_OPENS) * _unit(account_id, generation)
    reserve = min(reserve_seconds * 1000, lifetime * (1 - WINDOW_OPENS))
    return min(issued_ms + int(lifetime * share), expires_ms - int(reserve))


def _unit(account_id: str, generation: int) -> float:
    digest = blake2b(f"{account_id}:{generation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
