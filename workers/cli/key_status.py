"""How keys, workers and records fit together, in figures and in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...tasks.tokens.key_use import (
    SILENT_SECONDS,
    KeyIds,
    SealedRecords,
    ignorant_of,
    sealed_records,
    sealing_key,
    workers_of,
)
from ...tasks.tokens.record import instant_of
from ...tasks.tokens.store import TokenStore

_SETTING = "SUBTOKENS_ENCRYPTION_KEYS"


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The keys of these settings beside those of the live workers and of the records."""

    partner_id: str
    key_ids: KeyIds  # of these settings, the first seals
    workers: dict[str, KeyIds]
    records: SealedRecords

    @property
    def seals_now(self) -> str:
        """The key that a worker with these settings seals with."""
        return sealing_key(self.key_ids, self.workers.values())

    @property
    def all_ids(self) -> list[str]:
        """Those of the settings in their order, then what else records were sealed with."""
        return list(dict.fromkeys([*self.key_ids, *sorted(self.records.by_key)]))

    @property
    def unheld(self) -> dict[str, int]:
        """Records by key whose key neither these settings nor any live worker holds."""
        held = {*self.key_ids}.union(*self.workers.values())
        return {key: count for key, count in self.records.by_key.items() if key not in held}

    @property
    def is_well(self) -> bool:
        """Whether all live workers know the first key, and every record's key is held."""
        return not (ignorant_of(self.key_ids[0], self.workers) or self.unheld)

    def may_be_first(self, key_id: str) -> bool:
        """Whether that key is held here and by all live workers."""
        return key_id in self.key_ids and not ignorant_of(key_id, self.workers)

    def last_expiry(self, key_id: str) -> datetime | None:
        """When the last record under that key expires."""
        last_ms = self.records.last_expires_ms.get(key_id)
        return instant_of(last_ms) if last_ms else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; instants in ISO 8601."""
        return {
            "partner_id": self.partner_id,
            "is_well": self.is_well,
            "seals_now": self.seals_now,
            "keys": [
                {
                    "id": key_id,
                    "is_held": key_id in self.key_ids,
                    "may_be_first": self.may_be_first(key_id),
                    "unknown_to": ignorant_of(key_id, self.workers),
                    "records": self.records.by_key[key_id],
                    "last_expires_at": (last := self.last_expiry(key_id))
                    and last.isoformat(timespec="seconds"),
                }
                for key_id in self.all_ids
            ],
            "unheld": self.unheld,
            "workers": {holder: list(key_ids) for holder, key_ids in self.workers.items()},
        }

    def sentences(self) -> Iterator[str]:
        """What an operator makes of it, and what to do."""
        first, *others = self.key_ids
        if not self.workers:
            yield (
                f"No worker has looked within {SILENT_SECONDS:g} s: "
                "nothing tells which keys the workers hold."
            )
        elif ignorant := ignorant_of(first, self.workers):
            yield (
                f"The first key, {first}, is not known to {', '.join(ignorant)}: {self.seals_now} "
                f"seals until they are restarted with {first} in {_SETTING}."
            )
        else:
            yield f"The first key, {first}, is known to all live workers: it may be the first."
        for key_id in others:
            last = self.last_expiry(key_id)
            if ignorant := ignorant_of(key_id, self.workers):
                yield f"{key_id} is not known to {', '.join(ignorant)}: do not promote it yet."
            elif last:
                yield f"{key_id} is in use: do not remove it before {last:%Y-%m-%d %H:%M:%S} UTC."
            else:
                yield f"{key_id} seals no record: promote it if it is new, remove it if it is old."
        for key_id, count in self.unheld.items():
            yield (
                f"{key_id} sealed {count:,} of the records, and no setting holds it: put it back, "
                f"last, into {_SETTING}, or replace them: subtokens exchange --all"
            )


async def key_status(store: TokenStore) -> KeyStatus:
    """Look at the workers and at what is known of all records. Raises redis.RedisError."""
    workers = await workers_of(store)
    records = await sealed_records(store)
    return KeyStatus(store.keys.partner_id, store.sealer.key_ids, workers, records)
