"""Reading in an event loop: the twin of reader.py."""

import asyncio
from collections.abc import Iterable
from typing import Any, Self, TypeVar, cast

from redis.asyncio import Redis

from ...config.durations import Duration
from .connections import open_async_redis
from .reading import Reading, RoundTrip, Steps
from .record import TokenRecord

_MOST_CONNECTIONS = 20  # more would not make one event loop faster; who finds none free waits

T = TypeVar("T")


class AsyncTokenReader(Reading[Redis]):
    """TokenReader's twin: the same constructor, methods and errors, for one event loop."""

    async def get(self, account_id: str, *, valid_for: Duration = 0) -> TokenRecord:
        """The account's token, valid for at least that long; its text is `.access_token`."""
        if record := self.at_hand(account_id, valid_for):
            return record
        return await self.follow(self.waiting(account_id, valid_for))

    async def get_many(
        self, account_ids: Iterable[str], *, valid_for: Duration = 0
    ) -> dict[str, TokenRecord]:
        """The tokens of those that have one, by account id, in one round trip."""
        return await self.follow(self.gathering(account_ids, valid_for))

    async def wait(
        self,
        account_id: str,
        *,
        valid_for: Duration = 0,
        newer_than: int = 0,
        timeout: float = 30.0,  # noqa: ASYNC109 - as its twin has it; it ends with a reason
    ) -> TokenRecord:
        """The account's token, as soon as there is one of a generation above `newer_than`.

        Raises NoTokenError with the reason after `timeout` seconds.
        """
        return await self.follow(self.waiting(account_id, valid_for, newer_than, timeout))

    async def reject(self, record: TokenRecord) -> None:
        """Report that Dintero refused this token, though it is valid by the clock."""
        await self.follow(self.rejecting(record))

    async def follow(self, steps: Steps[T]) -> T:
        """Take the steps one by one; returns what they come to."""
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._take(step))
        except StopIteration as end:
            return cast("T", end.value)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @staticmethod
    def _open(url: str) -> Redis:
        return open_async_redis(url, _MOST_CONNECTIONS)

    async def _take(self, step: RoundTrip | float) -> list[Any]:
        if not isinstance(step, list):
            await asyncio.sleep(step)
            return []
        client: Any = self._redis  # redis-py has types for its methods alone
        if len(step) == 1:
            return [await client.execute_command(*step[0])]
        async with client.pipeline(transaction=False) as pipe:
            for command in step:
                pipe.execute_command(*command)
            return list(await pipe.execute())
