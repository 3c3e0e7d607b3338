"""What a status means: the error's class, and so whose door the failure is laid at."""

import pickle
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtokens.config.errors import InputError, SettingsError, SubtokensError
from subtokens.tasks.dintero.errors import (
    Blame,
    DinteroError,
    InvalidAnswerError,
    MisaddressedError,
    RefusedError,
    ThrottledError,
    UnauthorizedError,
    UnreachableError,
    UpstreamError,
    error_for_status,
)
from subtokens.tasks.errors import NotAWorkerError, RunFailedError
from subtokens.tasks.tokens.errors import NoTokenError, SealError, TokenError

REFUSED = {400, 403, 404, 409, 410, 422}


@pytest.mark.parametrize("status", [status.value for status in HTTPStatus if status != 200])
def test_every_status_but_200_is_an_error_of_one_class(status: int) -> None:
    expected: type[DinteroError] = UpstreamError
    if status in REFUSED:
        expected = RefusedError
    elif status == 401:
        expected = UnauthorizedError
    elif status == 429:
        expected = ThrottledError
    elif 300 <= status < 400:
        expected = MisaddressedError
    error = error_for_status("exchange", status)
    assert type(error) is expected
    assert error.status == status
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("kind", "blame", "reason"),
    [
        (UnreachableError, Blame.UPSTREAM, "unreachable"),
        (ThrottledError, Blame.UPSTREAM, "throttled"),
        (UpstreamError, Blame.UPSTREAM, "upstream_failed"),
        (InvalidAnswerError, Blame.UPSTREAM, "invalid_answer"),
        (UnauthorizedError, Blame.CREDENTIAL, "unauthorized"),
        (RefusedError, Blame.ACCOUNT, "refused"),
        (MisaddressedError, Blame.US, "misaddressed"),
    ],
)
def test_each_class_is_laid_at_one_door_for_one_reason(
    kind: type[DinteroError], blame: Blame, reason: str
) -> None:
    error = kind("exchange", "a detail")
    assert (error.blame, error.reason) == (blame, reason)
    assert str(error) == "exchange: a detail"


@given(st.integers(201, 999), st.none() | st.floats(0, 3600))
def test_a_wish_to_wait_is_kept_except_in_a_redirect(status: int, seconds: float | None) -> None:
    error = error_for_status("exchange", status, retry_after_seconds=seconds)
    expected = None if isinstance(error, MisaddressedError) else seconds
    assert error.retry_after_seconds == expected


def test_a_redirect_names_the_setting_to_look_at() -> None:
    assert "SUBTOKENS_BASE_URL" in str(error_for_status("exchange", 308))


@pytest.mark.parametrize(
    "kind",
    [
        *(DinteroError, InputError, NotAWorkerError, RunFailedError),
        *(SettingsError, NoTokenError, SealError, TokenError),
    ],
)
def test_all_errors_have_one_root(kind: type[Exception]) -> None:
    assert issubclass(kind, SubtokensError)


def test_bad_input_is_a_value_error_too() -> None:
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        SettingsError(["SUBTOKENS_A is not set", "SUBTOKENS_B is not set"]),
        RunFailedError("1 of 2 failed", {"run_id": "r", "failed": {"refused": 1}}),
        error_for_status("exchange", 429, retry_after_seconds=7.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_from_a_pool_process(error: SubtokensError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
