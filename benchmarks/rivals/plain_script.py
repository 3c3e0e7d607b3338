"""No task queue at all: an asyncio script with our transport, calls, sealing and batched writes.

It has no limit, no outcome of an account, no record of a run, and loses all if it is killed.
"""

import asyncio
from collections.abc import Iterator, Sequence

from redis.asyncio import Redis

from subtokens.config.settings import Settings, load
from subtokens.tasks.dintero.client import DinteroClient
from subtokens.tasks.dintero.transport import open_transport
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.sealing import Sealer


class Script:
    def __init__(self) -> None:
        self.settings = load(Settings)
        self.partner = self.settings.partners[0]
        self.keys = PartnerKeys(self.settings.namespace, self.partner.partner_id)
        self.sealer = Sealer(self.partner.partner_id, self.settings.master_keys)
        self._records: list[TokenRecord] = []

    async def run(self, ids: Sequence[str]) -> None:
        transport = open_transport(self.settings.concurrency)
        redis = Redis.from_url(self.settings.store_url.get_secret_value())
        client = DinteroClient(self.partner.base_url, transport, 10.0)
        partner = self.partner
        secret = partner.client_secret.get_secret_value()
        answer = await client.partner_token(partner.partner_id, partner.client_id, secret)
        bearer = answer.access_token.get_secret_value()
        left = iter(ids)
        await asyncio.gather(
            *(self._take(left, client, redis, bearer) for _ in range(self.settings.concurrency))
        )
        await self._write(redis)
        await transport.aclose()
        await redis.aclose()

    async def _take(
        self, left: Iterator[str], client: DinteroClient, redis: Redis, bearer: str
    ) -> None:
        for account_id in left:
            answer = await client.exchange(self.partner.partner_id, bearer, account_id)
            if self.partner.token_kind == "account":
                token = answer.access_token.get_secret_value()
                answer = await client.account_token(account_id, token, self.partner.partner_id)
            token, lifetime_ms = answer.access_token.get_secret_value(), answer.expires_in * 1000
            self._records.append(
                TokenRecord(account_id, token, Kind.EXCHANGE, 1, 0, lifetime_ms, lifetime_ms)
            )
            if len(self._records) >= self.settings.batch_size:
                await self._write(redis)

    async def _write(self, redis: Redis) -> None:
        records, self._records = self._records, []
        async with redis.pipeline(transaction=False) as pipe:
            for record in records:
                key = self.keys.token(record.account_id)
                pipe.set(key, self.sealer.seal(record, key), px=record.expires_ms)
            await pipe.execute()
