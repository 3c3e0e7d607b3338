"""Reading: what batch jobs hold to get a token. Never calls Dintero, needs no broker."""

import time
from collections.abc import Iterable
from typing import Any, Self, TypeVar, cast

from redis import Redis

from ...config.durations import Duration
from .connections import open_redis
from .reading import Reading, RoundTrip, Steps
from .record import TokenRecord

T = TypeVar("T")


class TokenReader(Reading[Redis]):
    """Reads the tokens of one partner's sub-accounts out of Redis; AsyncTokenReader is its twin.

    Needs SUBTOKENS_PARTNER_ID, STORE_URL and ENCRYPTION_KEYS alone. May be shared by threads.
    A record is had at hand for `cache_seconds` at most, and not past its renewal; 0: never.
    `valid_for`: seconds, a timedelta or text such as "2h" that a token must last. Methods raise
    NoTokenError with the reason, SealError for a record that was tampered with (it is reported,
    and replaced), InputError, redis.RedisError where Redis fails.
    """

    def get(self, account_id: str, *, valid_for: Duration = 0) -> TokenRecord:
        """The account's token, valid for at least that long; its text is `.access_token`."""
        if record := self.at_hand(account_id, valid_for):
            return record
        return self.follow(self.waiting(account_id, valid_for))

    def get_many(
        self, account_ids: Iterable[str], *, valid_for: Duration = 0
    ) -> dict[str, TokenRecord]:
        """The tokens of those that have one, by account id, in one round trip."""
        return self.follow(self.gathering(account_ids, valid_for))

    def wait(
        self,
        account_id: str,
        *,
        valid_for: Duration = 0,
        newer_than: int = 0,
        timeout: float = 30.0,
    ) -> TokenRecord:
        """The account's token, as soon as there is one of a generation above `newer_than`.

        Raises NoTokenError with the reason after `timeout` seconds.
        """
        return self.follow(self.waiting(account_id, valid_for, newer_than, timeout))

    def reject(self, record: TokenRecord) -> None:
        """Report that Dintero refused this token, though it is valid by the clock."""
        self.follow(self.rejecting(record))

    def follow(self, steps: Steps[T]) -> T:
        """Take the steps one by one; returns what they come to."""
        try:
            step = next(steps)
            while True:
                step = steps.send(self._take(step))
        except StopIteration as end:
            return cast("T", end.value)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _open(url: str) -> Redis:
        return open_redis(url)

    def _take(self, step: RoundTrip | float) -> list[Any]:
        if not isinstance(step, list):
            time.sleep(step)
            return []
        client: Any = self._redis  # redis-py has types for its methods alone
        if len(step) == 1:
            return [client.execute_command(*step[0])]
        with client.pipeline(transaction=False) as pipe:
            for command in step:
                pipe.execute_command(*command)
            return list(pipe.execute())
