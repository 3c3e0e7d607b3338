"""What was called, counted as it arrived."""

from collections import Counter, deque
from itertools import islice
from typing import Any, Literal, get_args

ROWS_KEPT = 200_000

Kind = Literal["partner_token", "exchange", "account_token", "accounts", "settings", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: One call: its number from 1, seconds since the start, kind, account ("" if none), status.
Row = tuple[int, float, Kind, str, int]


class Calls:
    """The sandbox's own count of every call. Times are Unix seconds, given in rising order."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._rows: deque[Row] = deque(maxlen=ROWS_KEPT)
        self._last = 0
        self._statuses: dict[Kind, Counter[int]] = {kind: Counter() for kind in KINDS}
        self._accounts: dict[Kind, Counter[str]] = {kind: Counter() for kind in KINDS}
        self._refused: Counter[str] = Counter()
        self._accepted_accounts: set[str] = set()
        self._accepted_tokens: set[int] = set()
        self._last_second: deque[float] = deque()
        self._busiest_second = 0

    def record(self, kind: Kind, account: str, status: int, reason: str, now: float) -> None:
        """Count a call; `reason` says why it was refused, and is empty where it was not."""
        self._last += 1
        self._rows.append((self._last, round(now - self._started_at, 6), kind, account, status))
        self._statuses[kind][status] += 1
        if account:
            self._accounts[kind][account] += 1
        if reason:
            self._refused[reason] += 1
        if kind != "settings":  # what batch jobs call is not under the partner's rate
            self._last_second.append(now)
            self._busiest_second = max(self._busiest_second, self._in_last_second(now))

    def accept(self, account: str, serial: int) -> None:
        """Note that `settings` served this account on the token with this serial."""
        self._accepted_accounts.add(account)
        self._accepted_tokens.add(serial)

    def of_account(self, kind: Kind, account: str) -> int:
        """Count the calls of one kind for one account so far."""
        return self._accounts[kind][account]

    def rows(self, after: int = 0) -> list[Row]:
        """Give the rows numbered above `after`; only the last ROWS_KEPT are there."""
        dropped = self._last - len(self._rows)
        return list(islice(self._rows, max(0, after - dropped), None))

    def stats(self, now: float, *, accounts: bool = False) -> dict[str, Any]:
        """Sum up; the calls of each account only when asked, as there may be 99,999 of them."""
        summary: dict[str, Any] = {
            "started_at": self._started_at,
            "elapsed_seconds": round(now - self._started_at, 6),
            "total": self._last,
            "calls": {kind: statuses.total() for kind, statuses in self._statuses.items()},
            "statuses": {kind: dict(statuses) for kind, statuses in self._statuses.items()},
            "refused": dict(self._refused),
            "settings": {
                "accepted": self._statuses["settings"][200],
                "accounts": len(self._accepted_accounts),
                "tokens": len(self._accepted_tokens),
            },
            "calls_per_second": self._in_last_second(now),
            "max_calls_in_any_second": self._busiest_second,
        }
        if accounts:
            summary["accounts"] = {kind: dict(calls) for kind, calls in self._accounts.items()}
        return summary

    def _in_last_second(self, now: float) -> int:
        while self._last_second and self._last_second[0] <= now - 1.0:
            self._last_second.popleft()
        return len(self._last_second)
