"""Which accounts a step is about: ids in its message, a stored set, or the whole fleet."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice
from typing import cast
from uuid import uuid4

from ...config.errors import InputError
from ...config.ids import checked_account_ids
from ...config.settings import StoreSettings, load
from .connections import open_redis
from .keys import PartnerKeys
from .store import TokenStore

MOST_IDS_IN_A_MESSAGE = 5_000
KEPT_SECONDS = 2 * 86_400
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_PAGE = 1_000


def save_selection(
    name: str,
    account_ids: Iterable[str],
    *,
    partner_id: str | None = None,
    settings: StoreSettings | None = None,
) -> int:
    """Store a set of accounts under a name for two days, in place of an earlier one.

    For more ids than a message should hold: `subtokens.ensure.si(selection="nightly", …)`. Returns
    how many there are. Raises InputError, SettingsError, redis.RedisError.
    """
    chosen = settings or load(StoreSettings)
    partner = chosen.chosen_partner_id(partner_id)
    ids = iter(checked_account_ids(account_ids, partner))
    key = PartnerKeys(chosen.namespace, partner).selection(checked_name(name))
    half_made = f"{key}:{uuid4().hex}"
    with open_redis(chosen.store_url.get_secret_value()) as redis:
        count = 0
        while page := list(islice(ids, _PAGE)):
            count += cast("int", redis.sadd(half_made, *page))
            redis.expire(half_made, KEPT_SECONDS)
        if count:
            redis.rename(half_made, key)
        else:
            redis.delete(key)
    return count


def checked_name(name: str) -> str:
    """Return a selection's name if it may be one. Raises InputError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"selection {name!r:.60} is no name: 1 to 80 letters, digits, _ . : -")
    return name


def ids_in_a_message(account_ids: Sequence[str], partner_id: str) -> list[str]:
    """The checked ids of a task's argument. Raises InputError, also where they are too many."""
    ids = checked_account_ids(account_ids, partner_id)
    if len(account_ids) > MOST_IDS_IN_A_MESSAGE:
        raise InputError(
            f"{len(account_ids)} account ids are too many for a message, at most "
            f"{MOST_IDS_IN_A_MESSAGE}: store them with subtokens.save_selection, and name that"
        )
    return ids


class Selection:
    """The accounts of one step, read anew each time. Raises InputError for unusable arguments.

    Without ids and name, they are the list that the step before returned, first in `previous`, if
    it is one. Ids that came `by_message` are bounded in number.
    """

    def __init__(
        self,
        store: TokenStore,
        ids: Sequence[str] | None,
        name: str | None,
        previous: Sequence[object] = (),
        *,
        by_message: bool = True,
    ) -> None:
        if ids is not None and name is not None:
            raise InputError("account_ids and selection were both given: one of the two")
        if ids is None and name is None and previous and isinstance(previous[0], list):
            ids = previous[0]
        self._store = store
        self._name = name
        self.is_whole_fleet = ids is None and name is None
        checked = ids_in_a_message if by_message else checked_account_ids
        self._ids = None if ids is None else checked(ids, store.keys.partner_id)
        self._key = None if name is None else store.keys.selection(checked_name(name))

    async def pages(self) -> AsyncIterator[list[str]]:
        """The account ids, page by page; of a set or the fleet in no order, some perhaps twice.

        Raises InputError where the stored set is not there, redis.RedisError.
        """
        if self._ids is not None:
            for start in range(0, len(self._ids), _PAGE):
                yield self._ids[start : start + _PAGE]
        elif self._key is None:
            async for page in self._store.enrolled():
                yield page
        else:
            if not await self._store.redis.exists(self._key):
                raise InputError(f"there is no selection {self._name!r}: one is kept for two days")
            cursor = 0
            while True:
                cursor, found = await self._store.redis.sscan(self._key, cursor, count=_PAGE)
                yield [cast("bytes", account).decode() for account in found]
                if not cursor:
                    return
