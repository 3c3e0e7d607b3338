"""When to renew: a pure function of the token's lifetime and of who it belongs to."""

from hashlib import blake2b

WINDOW_OPENS = 0.4  # share of the lifetime
WINDOW_CLOSES = 0.8
LARGEST_RESERVE = 0.4  # of a short lifetime: a narrower window would renew all at one instant


def renew_ms(
    account_id: str, generation: int, issued_ms: int, expires_ms: int, reserve_seconds: float
) -> int:
    """The instant from which a token is due for renewal, in milliseconds since 1970.

    A hash of account and generation places it evenly within the window, so that a fleet onboarded
    at once spreads out, and so that every look finds the same instant. The window closes
    `reserve_seconds` before expiry, for further attempts, or two fifths of a short lifetime.
    """
    lifetime = expires_ms - issued_ms
    reserve = min(reserve_seconds * 1000 / lifetime, LARGEST_RESERVE)
    closes = min(WINDOW_CLOSES, 1 - reserve)
    share = WINDOW_OPENS + (closes - WINDOW_OPENS) * _unit(account_id, generation)
    return issued_ms + int(lifetime * share)


def _unit(account_id: str, generation: int) -> float:
    digest = blake2b(f"{account_id}:{generation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
