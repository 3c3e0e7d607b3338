"""Which key seals: never one that a live worker cannot open. docs/keys.md tells how to rotate."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ...config.logs import log
from .sealing import LONGEST_HEADER_BYTES, sealed_header
from .store import TokenStore, number_of, text_of

SILENT_SECONDS = 60.0  # a worker process that has not looked for so long counts as gone
_TOLD_AGAIN_SECONDS = 60.0

KeyIds = tuple[str, ...]


def sealing_key(own_ids: Sequence[str], ids_of_others: Collection[Collection[str]]) -> str:
    """The first of our own keys that all others know; without one, the one that most know."""
    return max(own_ids, key=lambda key_id: sum(key_id in ids for ids in ids_of_others))


def live_workers(kept: Iterable[tuple[bytes, bytes]], now_ms: int) -> dict[str, KeyIds]:
    """Holder to the ids of the keys that it holds, its first one first."""
    live: dict[str, KeyIds] = {}
    for holder, told in sorted(kept):
        seen_at, _, key_ids = text_of(told).partition(" ")
        if number_of(seen_at) + SILENT_SECONDS * 1000 >= now_ms:
            live[text_of(holder)] = tuple(key_ids.split(","))
    return live


def ignorant_of(key_id: str, workers: Mapping[str, KeyIds]) -> list[str]:
    """The workers that do not hold that key."""
    return [holder for holder, key_ids in workers.items() if key_id not in key_ids]


class KeyUse:
    """Keeps one process's sealer to a key that all live workers of the partner know."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._has_heard = False
        self._told_at = float("-inf")

    async def learn(self) -> None:
        """Ask what the others hold, unless it is known: a new process may seal before it looks."""
        if not self._has_heard:
            self.heed(await workers_of(self._store))

    def heed(self, workers: Mapping[str, KeyIds]) -> None:
        """Choose the key that seals from now on; an error is logged where it is not the first."""
        self._has_heard = True
        store, sealer = self._store, self._store.sealer
        others = {name: ids for name, ids in workers.items() if name != store.holder}
        sealer.sealing_id = sealing_key(sealer.key_ids, others.values())
        first = sealer.key_ids[0]
        ignorant = ignorant_of(first, others)
        if ignorant and store.clock() - self._told_at >= _TOLD_AGAIN_SECONDS:
            self._told_at = store.clock()
            log.error(
                "key.not_known_everywhere",
                partner_id=store.keys.partner_id,
                key_id=first,
                sealing_with=sealer.sealing_id,
                workers=ignorant,
                remedy=f"restart these with {first} in SUBTOKENS_ENCRYPTION_KEYS; who knows it "
                "and who does not: subtokens keys status",
            )


async def workers_of(store: TokenStore) -> dict[str, KeyIds]:
    """The live workers, and the keys that they hold. Raises redis.RedisError."""
    kept = cast("dict[bytes, bytes]", await store.redis.hgetall(store.keys.workers))
    return live_workers(kept.items(), store.now_ms())


@dataclass(slots=True)
class SealedRecords:
    """The records that are stored, by the key that sealed them."""

    by_key: Counter[str] = field(default_factory=Counter)
    last_expires_ms: dict[str, int] = field(default_factory=dict)
    illegible: int = 0  # of another format, or damaged

    def add(self, start: bytes) -> None:
        """Count the record that begins so; one that has gone is empty."""
        header = sealed_header(start)
        if header:
            self.by_key[header.key_id] += 1
            last = self.last_expires_ms.get(header.key_id, 0)
            self.last_expires_ms[header.key_id] = max(last, header.expires_ms)
        elif start:
            self.illegible += 1


async def sealed_records(store: TokenStore) -> SealedRecords:
    """Read the headers of all records, the partner's own too; none is opened."""
    records, seen, end = SealedRecords(), set[str](), LONGEST_HEADER_BYTES - 1
    records.add(cast("bytes", await store.redis.getrange(store.keys.partner, 0, end)))
    async for page in store.enrolled():
        async with store.redis.pipeline(transaction=False) as pipe:
            for account_id in set(page) - seen:
                pipe.getrange(store.keys.token(account_id), 0, end)
            for start in await pipe.execute():
                records.add(start)
        seen.update(page)
    return records
