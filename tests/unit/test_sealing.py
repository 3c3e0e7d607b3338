"""Sealed records open only where, and as what, they were sealed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.tasks.tokens.errors import SealError
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.sealing import FORMAT, Sealer

PARTNER, ACCOUNT = "T11200000", "T11200001"
KEY = "subtokens:{T11200000}:token:T11200001"
FIRST = b"CANARY-first-master-key-32-bytes"
SECOND = b"CANARY-second-master-key-32-byte"
RECORD = TokenRecord(
    ACCOUNT, "CANARY-token", Kind.EXCHANGE, 7, 1_800_000_000_000, 1_800_000_040_000, 2**41
)
GENERATION_AT = 2  # its eight bytes follow format and kind
KEY_ID_LENGTH_AT = 34

sealer = Sealer(PARTNER, {"k1": FIRST})
SEALED = sealer.seal(RECORD, KEY)


def refused(sealed: bytes, key: str = KEY, opener: Sealer = sealer) -> str:
    """The complaint, which tells neither token nor key."""
    with pytest.raises(SealError) as caught:
        opener.open(sealed, key, ACCOUNT)
    assert "CANARY" not in f"{caught.value} {caught.value!r}"
    assert key in str(caught.value)
    return str(caught.value)


@given(
    st.builds(
        TokenRecord,
        account_id=st.just(ACCOUNT),
        access_token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
        kind=st.sampled_from(Kind),
        generation=st.integers(0, 2**64 - 1),
        issued_ms=st.integers(0, 2**63 - 1),
        renew_ms=st.integers(0, 2**63 - 1),
        expires_ms=st.integers(0, 2**63 - 1),
    )
)
def test_what_is_sealed_opens_as_it_was(record: TokenRecord) -> None:
    assert sealer.open(sealer.seal(record, KEY), KEY, ACCOUNT) == record


def test_a_sealed_record_holds_neither_token_nor_key_and_is_never_twice_the_same() -> None:
    assert b"CANARY" not in SEALED
    assert sealer.seal(RECORD, KEY) != SEALED


@pytest.mark.parametrize(
    "key",
    [
        "subtokens:{T11200000}:token:T11200002",
        "subtokens:{T11200000}:partner",
        "other:{T11200000}:token:T11200001",
        f"{KEY} ",
        "",
    ],
)
def test_a_record_that_was_moved_to_another_key_does_not_open(key: str) -> None:
    assert "altered or moved" in refused(SEALED, key)


_IDS = st.integers(1, 99_999).map(lambda number: f"T112{number:05}")
_PARTNERS = st.sampled_from([PARTNER, "T99900000", "P11200000"])
_PLACES = st.tuples(_PARTNERS, st.sampled_from(["one", "two"]), _IDS)


@given(_PLACES, _PLACES, st.integers(0, 2**63))
def test_a_record_opens_in_no_other_place_than_its_own(
    sealed_at: tuple[str, str, str], opened_at: tuple[str, str, str], generation: int
) -> None:
    sealers = [Sealer(place[0], {"k1": FIRST}) for place in (sealed_at, opened_at)]
    keys = [PartnerKeys(space, of).token(one) for of, space, one in (sealed_at, opened_at)]
    record = replace(RECORD, account_id=opened_at[2], generation=generation)
    sealed = sealers[0].seal(record, keys[0])
    if sealed_at == opened_at:
        assert sealers[1].open(sealed, keys[1], opened_at[2]) == record
    else:
        assert "altered or moved" in refused(sealed, keys[1], sealers[1])


@given(st.data())
def test_no_splice_of_two_records_opens_but_those_that_leave_one_whole(data: st.DataObject) -> None:
    """Cut, doubled, stitched together: whatever is done with the bytes of two generations."""
    other = sealer.seal(replace(RECORD, generation=8), KEY)
    start = data.draw(st.integers(0, len(SEALED)))
    end = data.draw(st.integers(start, len(SEALED)))
    spliced = SEALED[:start] + other[start:end] + SEALED[end:]
    if spliced not in {SEALED, other}:
        refused(spliced)


def test_an_older_token_under_a_newer_ones_header_does_not_open() -> None:
    newer = sealer.seal(replace(RECORD, generation=8), KEY)
    header = KEY_ID_LENGTH_AT + 1 + len("k1")
    refused(newer[:header] + SEALED[header:])


def test_a_record_of_another_generation_does_not_open() -> None:
    generation = (8).to_bytes(8)
    refused(SEALED[:GENERATION_AT] + generation + SEALED[GENERATION_AT + 8 :])


@pytest.mark.parametrize("place", range(len(SEALED)))
@pytest.mark.parametrize("bit", [0, 7])
def test_a_bit_turned_anywhere_keeps_a_record_shut(place: int, bit: int) -> None:
    turned = bytearray(SEALED)
    turned[place] ^= 1 << bit
    refused(bytes(turned))


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_a_record_cut_at_any_length_does_not_open(length: int) -> None:
    refused(SEALED[:length])


def test_a_record_with_anything_behind_it_does_not_open() -> None:
    refused(SEALED + b"\0")


@given(st.binary(max_size=120) | st.binary(max_size=120).map(lambda tail: SEALED[:37] + tail))
def test_no_other_bytes_open(sealed: bytes) -> None:
    refused(sealed)


@pytest.mark.parametrize("number", [0, FORMAT + 1, 255])
def test_a_record_of_another_format_says_so(number: int) -> None:
    assert f"format {number}" in refused(bytes([number]) + SEALED[1:])


def test_a_record_under_an_unknown_key_names_the_keys_id_and_the_setting() -> None:
    complaint = refused(SEALED, opener=Sealer(PARTNER, {"k2": FIRST}))
    assert "'k1'" in complaint
    assert "SUBTOKENS_ENCRYPTION_KEYS" in complaint


def test_the_right_key_id_with_another_key_does_not_open() -> None:
    assert "key k1" in refused(SEALED, opener=Sealer(PARTNER, {"k1": SECOND}))


def test_another_partners_key_does_not_open_though_the_master_key_is_the_same() -> None:
    refused(SEALED, opener=Sealer("T99900000", {"k1": FIRST}))


def test_a_rotation_opens_the_old_and_seals_with_the_new() -> None:
    added = Sealer(PARTNER, {"k1": FIRST, "k2": SECOND})
    promoted = Sealer(PARTNER, {"k2": SECOND, "k1": FIRST})
    removed = Sealer(PARTNER, {"k2": SECOND})
    new = promoted.seal(RECORD, KEY)

    assert promoted.open(SEALED, KEY, ACCOUNT) == RECORD
    assert added.open(new, KEY, ACCOUNT) == removed.open(new, KEY, ACCOUNT) == RECORD
    refused(new)
    refused(SEALED, opener=removed)


def test_no_repr_tells_the_token_or_the_key() -> None:
    for shown in (RECORD, sealer, vars(sealer), [RECORD], {"record": RECORD}):
        assert "CANARY" not in f"{shown!r} {shown}"


def test_a_record_lasts_until_just_before_its_expiry() -> None:
    record = replace(RECORD, expires_ms=100_000)
    assert record.lasts(40, now=59.999)
    assert not record.lasts(40, now=60.0)
    assert [instant.timestamp() for instant in (record.issued_at, record.expires_at)] == [
        *(1_800_000_000, 100)
    ]


PLACE = "subtokens:{T11200000}:run:r1 continuation"
SIGNED = sealer.sign("the step é", PLACE)


def test_a_message_is_verified_in_its_place_by_whoever_holds_the_key() -> None:
    assert sealer.verified(SIGNED, PLACE) == "the step é"
    rotated = Sealer(PARTNER, {"k2": SECOND, "k1": FIRST})
    assert rotated.verified(SIGNED, PLACE) == "the step é"
    assert sealer.sign("", PLACE) != sealer.sign("", f"{PLACE} ")


@pytest.mark.parametrize(
    ("signed", "place", "opener"),
    [
        (SIGNED + " ", PLACE, sealer),
        (SIGNED.replace("the step", "a step"), PLACE, sealer),
        (SIGNED, PLACE.replace("r1", "r2"), sealer),
        (SIGNED, PLACE.replace("continuation", "message"), sealer),
        (SIGNED, PLACE, Sealer("T11300000", {"k1": FIRST})),
        (SIGNED, PLACE, Sealer(PARTNER, {"k1": SECOND})),
        (SIGNED, PLACE, Sealer(PARTNER, {"k2": FIRST})),
        ("the step", PLACE, sealer),
        ("k1 é the step", PLACE, sealer),
        ("", PLACE, sealer),
    ],
)
def test_a_message_that_was_altered_moved_or_forged_is_refused(
    signed: str, place: str, opener: Sealer
) -> None:
    with pytest.raises(SealError, match="run:r") as caught:
        opener.verified(signed, place)
    assert "CANARY" not in str(caught.value)
