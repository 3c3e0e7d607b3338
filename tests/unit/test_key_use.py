"""Which key seals: the rule, the header that tells, and a reader's own keys."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from subtokens.config.errors import SettingsError
from subtokens.config.settings import Settings, StoreSettings, load
from subtokens.tasks.tokens.errors import SealError
from subtokens.tasks.tokens.key_use import live_workers, sealing_key
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.sealing import (
    Opener,
    Sealer,
    derived_keys,
)

PARTNER, OTHER, ACCOUNT = "T11200000", "T99900000", "T11200001"
KEY = "subtokens:{T11200000}:token:T11200001"
MASTER = {"k2": b"CANARY-second-master-key-32-byte", "k1": b"CANARY-first-master-key-32-bytes"}
RECORD = TokenRecord(ACCOUNT, "CANARY-token", Kind.EXCHANGE, 7, 1, 2, 2**41)
DERIVED = ",".join(
    f"{key_id}:{base64.b64encode(key).decode()}"
    for key_id, key in derived_keys(PARTNER, MASTER).items()
)

key_ids = st.lists(st.sampled_from(["k1", "k2", "k3", "k4"]), min_size=1, unique=True)


# The rule


@given(key_ids, st.lists(key_ids))
def test_no_key_seals_that_another_lacks_while_there_is_one_that_all_know(own, others) -> None:
    chosen = sealing_key(own, others)
    shared = [key_id for key_id in own if all(key_id in ids for ids in others)]
    assert chosen in own
    assert not shared or chosen == shared[0]


@given(key_ids, st.lists(key_ids))
def test_the_first_key_seals_as_soon_as_all_know_it(own, others) -> None:
    assert sealing_key(own, []) == own[0]
    assert sealing_key(own, [[*ids, own[0]] for ids in others]) == own[0]


@given(key_ids, st.lists(key_ids, min_size=1))
def test_where_no_key_is_known_to_all_the_one_that_most_know_seals(own, others) -> None:
    known = {key_id: sum(key_id in ids for ids in others) for key_id in own}
    assert known[sealing_key(own, others)] == max(known.values())


STEPS = [("k1",), ("k1", "k2"), ("k2", "k1"), ("k2",)]


@given(st.lists(st.integers(0, 2), min_size=3, max_size=12))
def test_while_workers_promote_in_any_order_each_can_open_what_any_seals(order) -> None:
    """Workers take the first three steps of a rotation one by one, as fast as they like."""
    at = [0, 0, 0]
    for worker in order:
        at[worker] = min(at[worker] + 1, 2)
        holds = [STEPS[step] for step in at]
        for own in holds:
            chosen = sealing_key(own, [ids for ids in holds if ids is not own])
            assert all(chosen in ids for ids in holds)


@given(st.lists(st.integers(2, 3), min_size=3, max_size=3))
def test_while_the_old_key_is_removed_in_any_order_all_can_open_what_any_seals(at) -> None:
    holds = [STEPS[step] for step in at]
    for own in holds:
        assert sealing_key(own, holds) == "k2"


def test_a_worker_that_was_silent_for_longer_than_a_minute_is_gone() -> None:
    told = [(b"b:2", b"1000 k1"), (b"a:1", b"1001 k2,k1")]
    assert live_workers(told, 61_000) == {"a:1": ("k2", "k1"), "b:2": ("k1",)}
    assert live_workers(told, 61_001) == {"a:1": ("k2", "k1")}


# The sealer


def test_another_key_that_is_held_may_be_made_to_seal() -> None:
    sealer = Sealer(PARTNER, MASTER)
    assert sealer.sealing_id == "k2"
    sealer.sealing_id = "k1"
    sealed = sealer.seal(RECORD, KEY)
    assert Sealer(PARTNER, {"k1": MASTER["k1"]}).open(sealed, KEY, ACCOUNT) == RECORD


def test_fingerprints_agree_among_those_that_seal_with_the_same_key() -> None:
    promoted, old = Sealer(PARTNER, MASTER), Sealer(PARTNER, {"k1": MASTER["k1"]})
    promoted.sealing_id = "k1"
    assert promoted.fingerprint("CANARY-token") == old.fingerprint("CANARY-token")


def test_a_token_is_known_by_its_fingerprint_after_a_promotion_and_another_is_not() -> None:
    by_old = Sealer(PARTNER, {"k1": MASTER["k1"]}).fingerprint("CANARY-token")
    promoted, without = Sealer(PARTNER, MASTER), Sealer(PARTNER, {"k2": MASTER["k2"]})
    assert promoted.is_of(by_old, "CANARY-token")
    assert not promoted.is_of(by_old, "CANARY-other")
    assert not without.is_of(by_old, "CANARY-token")
    assert not promoted.is_of("", "CANARY-token")
    assert "CANARY" not in by_old


# A reader's own keys


def read_as(text: str, **others: str) -> StoreSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PARTNER_ID": PARTNER, "READER_KEYS": text, **others}.items():
            patch.setenv(f"SUBTOKENS_{name}", value)
        return load(StoreSettings)


def test_derived_keys_open_that_partners_records_and_no_others() -> None:
    opener = Opener(read_as(DERIVED).derived_keys)
    for key_id in MASTER:
        own, foreign = Sealer(PARTNER, MASTER), Sealer(OTHER, MASTER)
        own.sealing_id = foreign.sealing_id = key_id
        assert opener.open(own.seal(RECORD, KEY), KEY, ACCOUNT) == RECORD
        with pytest.raises(SealError):
            opener.open(foreign.seal(RECORD, KEY), KEY, ACCOUNT)


def test_a_reader_that_lacks_a_key_names_its_own_setting() -> None:
    opener = Opener(derived_keys(PARTNER, {"k1": MASTER["k1"]}))
    with pytest.raises(SealError, match="'k2', which SUBTOKENS_READER_KEYS does not hold"):
        opener.open(Sealer(PARTNER, MASTER).seal(RECORD, KEY), KEY, ACCOUNT)


def test_reader_keys_do_instead_of_the_master_keys_and_are_never_shown() -> None:
    settings = read_as(DERIVED)
    assert isinstance(settings.reader_keys, SecretStr)
    assert list(settings.derived_keys) == ["k2", "k1"]
    for entry in DERIVED.split(","):
        assert entry.partition(":")[2] not in f"{settings!r} {settings} {settings.model_dump()}"


def test_both_kinds_of_keys_at_once_are_refused() -> None:
    with pytest.raises(SettingsError, match="ENCRYPTION_KEYS stands beside SUBTOKENS_READER_KEYS"):
        read_as(DERIVED, ENCRYPTION_KEYS=DERIVED)


def test_a_reader_without_any_key_is_told_so() -> None:
    with pytest.raises(SettingsError, match="SUBTOKENS_ENCRYPTION_KEYS is not set"):
        read_as("")


def test_bad_reader_keys_are_told_by_their_place_without_their_material() -> None:
    with pytest.raises(SettingsError) as caught:
        read_as("k1:CANARY")
    assert str(caught.value).startswith("SUBTOKENS_READER_KEYS entry 1 (k1) is not base64")
    assert len(caught.value.problems) == 1
    assert "CANARY" not in str(caught.value)


def test_reader_keys_are_not_enough_for_a_worker() -> None:
    with pytest.raises(SettingsError, match="SUBTOKENS_ENCRYPTION_KEYS is not set"):
        load_worker_with_reader_keys()


def load_worker_with_reader_keys() -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PARTNER_ID": PARTNER, "READER_KEYS": DERIVED}.items():
            patch.setenv(f"SUBTOKENS_{name}", value)
        return load(Settings)
