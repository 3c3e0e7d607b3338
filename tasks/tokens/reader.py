"""Reading: what batch jobs hold to get a token. Never calls Dintero, needs no broker."""

import time
from collections.abc import Callable, Iterable
from typing import cast

from redis import Redis

from ...config.ids import checked_account_id, checked_account_ids
from ...config.settings import StoreSettings, load
from .errors import NoTokenError
from .keys import PartnerKeys
from .record import TokenRecord
from .sealing import Sealer

_MOST_IN_A_COMMAND = 1_000


class TokenReader:
    """Reads the tokens of one partner's sub-accounts out of Redis.

    Needs SUBTOKENS_PARTNER_ID, STORE_URL and ENCRYPTION_KEYS alone. May be shared by threads.
    Methods raise NoTokenError, SealError, InputError for an unusable id, redis.RedisError where
    Redis fails.
    """

    def __init__(
        self,
        settings: StoreSettings | None = None,
        *,
        partner_id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        chosen = settings or load(StoreSettings)
        self.partner_id = chosen.chosen_partner_id(partner_id)
        self._keys = PartnerKeys(chosen.namespace, self.partner_id)
        self._sealer = Sealer(self.partner_id, chosen.master_keys)
        self._clock = clock
        self._redis = Redis.from_url(
            chosen.store_url.get_secret_value(), socket_timeout=10, socket_connect_timeout=5
        )

    def get(self, account_id: str, *, valid_for_seconds: float = 0) -> TokenRecord:
        """The account's token, valid for at least that long; its text is `.access_token`."""
        key = self._keys.token(checked_account_id(account_id, self.partner_id))
        sealed = cast("bytes | None", self._redis.get(key))
        if sealed is None:
            raise NoTokenError(
                f"{account_id} has no valid token: it is not enrolled, was never exchanged or its "
                f"token has expired; see: subtokens token {account_id}"
            )
        record = self._sealer.open(sealed, key, account_id)
        if not record.lasts(valid_for_seconds, self._clock()):
            raise NoTokenError(
                f"{account_id} has a token until {record.expires_at:%Y-%m-%d %H:%M:%S} UTC alone, "
                f"it was asked for {valid_for_seconds:g} s; exchange it first"
            )
        return record

    def get_many(
        self, account_ids: Iterable[str], *, valid_for_seconds: float = 0
    ) -> dict[str, TokenRecord]:
        """The tokens of those that have one, by account id, in one round trip per 1,000."""
        chosen = checked_account_ids(account_ids, self.partner_id)
        now = self._clock()
        found: dict[str, TokenRecord] = {}
        for start in range(0, len(chosen), _MOST_IN_A_COMMAND):
            accounts = chosen[start : start + _MOST_IN_A_COMMAND]
            keys = [self._keys.token(account) for account in accounts]
            answers = cast("list[bytes | None]", self._redis.mget(keys))
            for account, key, sealed in zip(accounts, keys, answers, strict=True):
                if sealed is not None:
                    record = self._sealer.open(sealed, key, account)
                    if record.lasts(valid_for_seconds, now):
                        found[account] = record
        return found

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
