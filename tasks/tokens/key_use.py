"""Which key seals: never one that a live worker cannot open. docs/keys.md tells how to rotate."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ...config.logs import log
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
                "key.held_back",
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
    """The accounts' live tokens, by the key that sealed each."""

    by_key: Counter[str] = field(default_factory=Counter)
    last_expires_ms: dict[str, int] = field(default_factory=dict)

    def add(self, key_id: str, expires_ms: int) -> None:
        """Count one."""
        self.by_key[key_id] += 1
        self.last_expires_ms[key_id] = max(self.last_expires_ms.get(key_id, 0), expires_ms)


async def sealed_records(store: TokenStore) -> SealedRecords:
    """Count by what stands beside the tokens: none is read, as an operator's user may read none."""
    records, seen, now_ms = SealedRecords(), set[str](), store.now_ms()
    async for page in store.enrolled():
        accounts = [account for account in dict.fromkeys(page) if account not in seen]
        expiries = await store.expiries(accounts)
        async with store.redis.pipeline(transaction=False) as pipe:
            for account in accounts:
                pipe.hget(store.keys.state(account), "fingerprint")
            for account, kept in zip(accounts, await pipe.execute(), strict=True):
                if kept and expiries[account] > now_ms:
                    records.add(text_of(kept).partition(":")[0], expiries[account])
        seen.update(accounts)
    return records
