"""The shelf: records at hand for some seconds, so that a busy reader need not ask Redis."""

from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from .record import TokenRecord

MOST_RECORDS = 10_000


class _Place(NamedTuple):
    generation: int
    is_dropped: bool
    since: float = 0  # epoch seconds, as `until`
    until: float = 0
    record: TokenRecord | None = None


class Shelf:
    """Keeps each record for `seconds` at most, and never past its renewal or expiry.

    May be shared by threads.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._places: dict[str, _Place] = {}  # the oldest first
        self._lock = Lock()

    def find(self, account_id: str, valid_for_seconds: float) -> TokenRecord | None:
        """The account's record, if it is at hand and lasts that long."""
        place = self._places.get(account_id)
        if place is None or place.record is None:
            return None
        now = self._clock()
        # A clock that was set back must not keep it for longer.
        is_at_hand = place.since <= now < place.until
        return place.record if is_at_hand and place.record.lasts(valid_for_seconds, now) else None

    def keep(self, record: TokenRecord) -> None:
        """Have it at hand, unless a newer one was here."""
        now = self._clock()
        until = min(now + self._seconds, record.renew_ms / 1000)
        if now < until:
            self._put(record.account_id, _Place(record.generation, False, now, until, record))

    def drop(self, record: TokenRecord) -> None:
        """Never have that generation at hand again, as answers that bring it may still arrive."""
        self._put(record.account_id, _Place(record.generation, True))

    def _put(self, account_id: str, place: _Place) -> None:
        with self._lock:
            former = self._places.get(account_id)
            if former and former[:2] > place[:2]:  # a late answer
                return
            self._places.pop(account_id, None)
            self._places[account_id] = place
            if len(self._places) > MOST_RECORDS:
                del self._places[next(iter(self._places))]
