"""A key is promoted over live workers of which one does not know it yet; and a reader's own key."""

import json
from collections.abc import Callable

import pytest

import subtokens
from subtokens.config.settings import StoreSettings
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.sealing import _HEADER

from .conftest import (
    DEADLINE_SECONDS,
    KEYS,
    PARTNER,
    RENEWING,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    sending_by,
)

pytestmark = pytest.mark.faults

SETTING = "SUBTOKENS_ENCRYPTION_KEYS"
ACCOUNTS = account_ids(1, 30)


def sealing_ids(site: Site) -> set[str]:
    """The ids of the keys that sealed the accounts' tokens."""
    stored = [site.store.get(site.keys.token(account_id)) for account_id in ACCOUNTS]
    records = [record for record in stored if isinstance(record, bytes)]
    return {one[(at := _HEADER.size) : at + one[at - 1]].decode() for one in records}


def told(site: Site) -> dict[str, str]:
    """The workers, and the keys that each holds."""
    kept = site.store.hgetall(site.keys.workers)
    assert isinstance(kept, dict)
    return {holder.decode(): text.decode().partition(" ")[2] for holder, text in kept.items()}


def exchange_all(site: Site) -> None:
    with sending_by(site.app):
        counts = subtokens.fan_out.si().apply_async().get(timeout=DEADLINE_SECONDS)
    assert counts["done"] == len(ACCOUNTS)


def readable(site: Site, **keys: str) -> int:
    settings = StoreSettings(partner_id=PARTNER, store_url=site.store_url, **keys, _env_file=None)
    with TokenReader(settings) as reader:
        return len(reader.get_many(ACCOUNTS))


def test_a_promotion_waits_for_the_last_live_worker_and_nothing_becomes_unreadable(
    new_site: Callable[..., Site],
) -> None:
    with Upstream(accounts=len(ACCOUNTS)) as upstream:
        site = new_site(upstream.base_url)
        new_key = site.cli("keys", "generate", "--id", "k2").out.strip()
        ignorant = site.worker("ignorant", *RENEWING, "--concurrency=1")
        (holder,) = eventually(lambda: told(site), told=ignorant.said)
        site.environment[SETTING] = f"{new_key},{KEYS}"
        promoted = site.worker("promoted", "--concurrency=1")
        await_ready(ignorant, promoted)
        eventually(lambda: "k2,k1" in told(site).values(), told=promoted.said)

        site.enrol(ACCOUNTS)  # only the promoted one takes what is asked for
        for _ in range(3):
            exchange_all(site)
            assert sealing_ids(site) == {"k1"}
            assert readable(site, encryption_keys=KEYS) == len(ACCOUNTS)
        assert "key.held_back" in promoted.said()
        assert holder in promoted.said()
        status = site.cli("keys", "status", "--json")
        (facts,) = json.loads(status.out)
        assert (status.code, facts["seals_now"]) == (1, "k1")
        assert facts["keys"][0]["unknown_to"] == [holder]
        said = site.cli("keys", "status").out
        assert f"The first key, k2, is not known to {holder}: k1 seals until" in said

        ignorant.stop()
        site.environment[SETTING] = f"{KEYS},{new_key}"
        informed = site.worker("informed", *RENEWING, "--concurrency=1")
        eventually(lambda: "k1,k2" in told(site).values(), told=informed.said)
        # As if a minute had passed since the one that is gone was last seen.
        site.store.hset(site.keys.workers, holder, "1 k1")
        eventually(lambda: holder not in told(site), told=promoted.said)
        site.environment[SETTING] = f"{new_key},{KEYS}"
        eventually(lambda: exchange_all(site) or sealing_ids(site) == {"k2"}, told=promoted.said)
        both = site.environment[SETTING]
        assert readable(site, encryption_keys=both) == len(ACCOUNTS)
        assert site.cli("keys", "status").code == 0

        derived = site.cli("keys", "derive", "--partner", PARTNER)
        assert "this is a secret" in derived.err
        assert readable(site, reader_keys=derived.out.strip()) == len(ACCOUNTS)
        for entry in both.split(","):
            assert entry.partition(":")[2] not in derived.out + derived.err + promoted.said()
