"""Durations: what people write is understood, and what is not names an example."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.config.durations import seconds_of
from subtokens.config.errors import InputError

SIZES = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
AMOUNTS = st.fixed_dictionaries({}, optional=dict.fromkeys(SIZES, st.integers(0, 5000)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("45s", 45),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d", 86_400),
        ("0.5s", 0.5),
    ],
)
def test_text_is_read_by_its_units(text, seconds):
    assert seconds_of(text) == seconds


@given(AMOUNTS.filter(bool), st.sampled_from(["", " "]))
def test_any_of_the_units_in_their_order_add_up(amounts, space):
    ordered = [(unit, amounts[unit]) for unit in SIZES if unit in amounts]
    text = space.join(f"{amount}{unit}" for unit, amount in ordered)

    assert seconds_of(text) == sum(amount * SIZES[unit] for unit, amount in ordered)


@given(st.floats(0, 1e9) | st.integers(0, 10**9))
def test_a_number_is_seconds_and_so_is_what_a_timedelta_tells(seconds):
    assert seconds_of(seconds) == seconds
    assert seconds_of(timedelta(seconds=seconds)) == pytest.approx(seconds, abs=1e-6)


@given(
    st.floats(max_value=0, exclude_max=True)
    | st.floats(min_value=1e9, exclude_min=True)
    | st.integers(max_value=-1)
    | st.timedeltas(max_value=timedelta(microseconds=-1))
    | st.sampled_from([float("nan"), 10**400])
)
def test_what_is_negative_or_without_end_is_refused_with_an_example(odd):
    with pytest.raises(InputError, match="such as 45s"):
        seconds_of(odd)


@given(st.text().filter(lambda text: not text[:1].isdigit()))
def test_text_without_an_amount_in_front_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="1h30m or 1d"):
        seconds_of(text)


@pytest.mark.parametrize(
    "odd", ["90", "1h1h", "30m1h", "-1h", "1 h", "1w", "1h\n", "\u0661h", "9" * 400 + "d", "1e3s"]
)
def test_text_that_one_could_misread_is_refused(odd):
    with pytest.raises(InputError, match="is no duration") as caught:
        seconds_of(odd)

    assert len(str(caught.value)) < 140


@pytest.mark.parametrize("odd", [None, b"1h", [3600], {"hours": 1}])
def test_another_type_is_refused(odd):
    with pytest.raises(InputError):
        seconds_of(odd)
