"""The partner's sub-accounts: consecutive ids, names from a seed, pages as Dintero lists them."""

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import Any

PARTNER_ID = re.compile(r"[PT][0-9]{3}00000")
ACCOUNT_ID = re.compile(r"[PT][0-9]{8}")

_FIRST = ("Aurora", "Birk", "Dugg", "Elv", "Fjell", "Granit", "Hav", "Lyng", "Nordlys", "Skog")
_SECOND = ("Bakeri", "Blomster", "Bok", "Kaffe", "Klær", "Optikk", "Sport", "Sykkel", "Te", "Verk")


class Accounts:
    """`count` accounts after the partner's own id; the last `inactive` of them start closed.

    They may change at any time. Ids that are not of these accounts raise ValueError, and then
    nothing has changed.
    """

    def __init__(self, partner_id: str, count: int, inactive: int, seed: int) -> None:
        self._partner_id = partner_id
        self._count = count
        self._seed = seed
        self._hidden: set[str] = set()
        self._closed = {self._id(number) for number in range(count - inactive + 1, count + 1)}
        self._deleted: dict[str, str] = {}  # with the instant

    def __contains__(self, account_id: str) -> bool:
        return (
            ACCOUNT_ID.fullmatch(account_id) is not None
            and account_id[:4] == self._partner_id[:4]
            and 1 <= int(account_id[4:]) <= self._count
        )

    def is_active(self, account_id: str) -> bool:
        """Tell whether one of these accounts is neither closed nor deleted."""
        return account_id not in self._closed and account_id not in self._deleted

    def hide(self, account_ids: Iterable[str]) -> None:
        """Leave these out of the list; in all else they are as before."""
        self._hidden |= self._own(account_ids)

    def show(self, account_ids: Iterable[str]) -> None:
        """List hidden ones again."""
        self._hidden -= self._own(account_ids)

    def close(self, account_ids: Iterable[str]) -> None:
        """Make these inactive."""
        self._closed |= self._own(account_ids)

    def open(self, account_ids: Iterable[str]) -> None:
        """Make closed ones active again; a deleted one stays deleted."""
        self._closed -= self._own(account_ids)

    def delete(self, account_ids: Iterable[str], now: float | None = None) -> None:
        """List these as deleted `now` (Unix seconds; else by the system's clock), for good."""
        instant = datetime.fromtimestamp(time.time() if now is None else now, UTC)
        deleted_at = f"{instant:%Y-%m-%dT%H:%M:%SZ}"
        self._deleted = dict.fromkeys(self._own(account_ids), deleted_at) | self._deleted

    def settings(self, account_id: str) -> dict[str, Any]:
        """Give the account as `GET /accounts/{id}/management/settings` shows it."""
        digest = self._digest("name", account_id)
        name = f"{_FIRST[digest[0] % len(_FIRST)]} {_SECOND[digest[1] % len(_SECOND)]}"
        return {
            "account_id": account_id,
            "partner_id": self._partner_id[:4],
            "active": self.is_active(account_id),
            "livemode": account_id[0] == "P",
            "company": {"display_name": name, "business_name": f"{name} AS"},
        }

    def page(self, limit: int, starting_after: str | None) -> list[dict[str, Any]] | None:
        """Give up to `limit` accounts after that paging token, or None where it is unknown."""
        first = 1
        if starting_after is not None:
            number = starting_after.rpartition("-")[2]
            if not re.fullmatch("[0-9]{5}", number):
                return None
            last_id = self._partner_id[:4] + number
            if last_id not in self or starting_after != self._paging_token(last_id):
                return None
            first = int(number) + 1
        ids = map(self._id, range(first, self._count + 1))
        listed = (account_id for account_id in ids if account_id not in self._hidden)
        return [
            self.settings(account_id)
            | {
                "deleted_at": self._deleted.get(account_id),
                "paging_token": self._paging_token(account_id),
            }
            for account_id in islice(listed, limit)
        ]

    def _id(self, number: int) -> str:
        return f"{self._partner_id[:4]}{number:05}"

    def _own(self, account_ids: Iterable[str]) -> set[str]:
        own = set(account_ids)
        for account_id in own:
            if account_id not in self:
                raise ValueError(f"{account_id!r} is none of the partner's accounts")
        return own

    def _paging_token(self, account_id: str) -> str:
        return f"{self._digest('page', account_id).hex()}-{account_id[4:]}"

    def _digest(self, purpose: str, account_id: str) -> bytes:
        return blake2b(f"{self._seed}:{purpose}:{account_id}".encode(), digest_size=8).digest()
