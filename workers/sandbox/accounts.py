"""The partner's sub-accounts: consecutive ids, names from a seed, pages as Dintero lists them."""

import re
from hashlib import blake2b
from typing import Any

PARTNER_ID = re.compile(r"[PT][0-9]{3}00000")
ACCOUNT_ID = re.compile(r"[PT][0-9]{8}")

_FIRST = ("Aurora", "Birk", "Dugg", "Elv", "Fjell", "Granit", "Hav", "Lyng", "Nordlys", "Skog")
_SECOND = ("Bakeri", "Blomster", "Bok", "Kaffe", "Klær", "Optikk", "Sport", "Sykkel", "Te", "Verk")


class Accounts:
    """`count` accounts after the partner's own id; the last `inactive` of them are not active."""

    def __init__(self, partner_id: str, count: int, inactive: int, seed: int) -> None:
        self._partner_id = partner_id
        self._count = count
        self._first_inactive = count - inactive + 1
        self._seed = seed

    def __contains__(self, account_id: str) -> bool:
        return (
            ACCOUNT_ID.fullmatch(account_id) is not None
            and account_id[:4] == self._partner_id[:4]
            and 1 <= int(account_id[4:]) <= self._count
        )

    def is_active(self, account_id: str) -> bool:
        """Tell whether one of these accounts is active."""
        return int(account_id[4:]) < self._first_inactive

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
        ids = (
            f"{self._partner_id[:4]}{number:05}"
            for number in range(first, min(first + limit, self._count + 1))
        )
        return [
            self.settings(account_id)
            | {"deleted_at": None, "paging_token": self._paging_token(account_id)}
            for account_id in ids
        ]

    def _paging_token(self, account_id: str) -> str:
        return f"{self._digest('page', account_id).hex()}-{account_id[4:]}"

    def _digest(self, purpose: str, account_id: str) -> bytes:
        return blake2b(f"{self._seed}:{purpose}:{account_id}".encode(), digest_size=8).digest()
