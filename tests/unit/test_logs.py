"""One stream of logs, whoever writes to it, and no secret in it."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretBytes, SecretStr

import subtokens
from subtokens.config.logs import MASK, configure_logging, log, redact
from subtokens.config.settings import Settings
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.workers.cli.events import SHOWN_EVENTS

CANARY = "CANARY-of-logs"
FORMATS = ["json", "console"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def opened(log_format: str, level: str = "INFO") -> io.StringIO:
    stream = io.StringIO()
    key = "k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE="
    settings = Settings.model_validate(
        {
            "partner_id": "T11200000",
            "client_id": "an-id",
            "client_secret": CANARY,
            "encryption_keys": key,
            "log_format": log_format,
            "log_level": level,
        }
    )
    configure_logging(settings, stream)
    return stream


def masked(**event: Any) -> dict[str, Any]:
    return dict(redact(None, "info", dict(event)))


@pytest.mark.parametrize(
    "name",
    [
        *("token", "Token", "access_token", "accessToken", "refresh_token", "partner_token"),
        *("exchange_token", "client_secret", "SECRET", "password", "Authorization"),
        *("proxy-authorization", "x-access-token", "encryption_keys", "bearer", "credentials"),
    ],
)
def test_what_stands_under_the_name_of_a_secret_is_masked(name: str) -> None:
    assert masked(**{name: CANARY}) == {name: MASK}
    assert masked(inner={"deep": [{name: CANARY}]}) == {"inner": {"deep": [{name: MASK}]}}


@pytest.mark.parametrize(
    "name", ["event", "partner_id", "account_id", "reason", "token_kind", "exchanged", "tokens_due"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert masked(**{name: "a value"}) == {name: "a value"}


@pytest.mark.parametrize(
    "secret",
    [SecretStr(CANARY), SecretBytes(CANARY.encode()), CANARY.encode(), bytearray(CANARY.encode())],
    ids=lambda secret: type(secret).__name__,
)
def test_a_secret_is_known_by_its_type_wherever_it_stands(secret: object) -> None:
    assert masked(value=secret) == {"value": MASK}
    assert masked(value=[1, (secret, {"a": secret})]) == {"value": [1, (MASK, {"a": MASK})]}
    assert masked(value={"a": {"b": [secret]}}) == {"value": {"a": {"b": [MASK]}}}


def test_the_event_that_was_passed_in_keeps_its_nested_values() -> None:
    inner = {"token": CANARY}
    masked(inner=inner)
    assert inner == {"token": CANARY}


@pytest.mark.parametrize("log_format", FORMATS)
def test_no_canary_comes_through_a_renderer(log_format: str) -> None:
    stream = opened(log_format)
    record = TokenRecord("T11200001", CANARY, Kind.EXCHANGE, 1, 1, 2, 3)
    secrets = {"token": CANARY, "inner": {"authorization": f"Bearer {CANARY}"}}
    log.info("tokens.kept", secret=SecretStr(CANARY), raw=CANARY.encode(), record=record, **secrets)
    with structlog.contextvars.bound_contextvars(access_token=CANARY):
        logging.getLogger("somebody.else").warning("said %s", SecretStr(CANARY))
    assert "CANARY" not in stream.getvalue()
    assert stream.getvalue().count(MASK) >= 4
    assert "T11200001" in stream.getvalue()


def test_each_line_of_json_is_one_event_with_its_place_and_time() -> None:
    stream = opened("json")
    log.info("run.ended", count=2)
    logging.getLogger("somebody.else").warning("a %s", "word")
    ours, theirs = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (ours["event"], ours["count"], ours["level"]) == ("run.ended", 2, "info")
    assert (theirs["event"], theirs["level"]) == ("a word", "warning")
    assert (ours["logger"], theirs["logger"]) == ("subtokens", "somebody.else")
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize("log_format", FORMATS)
def test_the_level_binds_everybody(log_format: str) -> None:
    stream = opened(log_format, "WARNING")
    log.info("quiet")
    logging.getLogger("somebody.else").info("quiet")
    assert stream.getvalue() == ""


def test_in_an_app_with_handlers_of_its_own_no_canary_comes_through_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with structlog.contextvars.bound_contextvars(access_token=CANARY):
        log.warning("tokens.kept", secret=SecretStr(CANARY), inner=[{"authorization": CANARY}])
    assert "tokens.kept" in caplog.text
    assert "CANARY" not in caplog.text


def fail() -> None:
    held = CANARY
    raise RuntimeError(f"with a local of {len(held)} letters")


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("logger", [log, logging.getLogger("a")], ids=["ours", "any"])
def test_a_traceback_shows_no_local_variables(log_format: str, logger: Any) -> None:
    stream = opened(log_format)
    try:
        fail()
    except RuntimeError:
        logger.exception("it.failed")
    assert "RuntimeError: with a local of 14 letters" in stream.getvalue()
    assert "in fail" in stream.getvalue()
    assert "CANARY" not in stream.getvalue()


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("logger", [log, logging.getLogger("a")], ids=["ours", "any"])
def test_an_exception_that_is_logged_later_keeps_its_traceback(
    log_format: str, logger: Any
) -> None:
    stream = opened(log_format)
    with pytest.raises(RuntimeError) as caught:
        fail()
    assert sys.exc_info() == (None, None, None)
    logger.error("it.failed", exc_info=caught.value)
    assert "RuntimeError: with a local of 14 letters" in stream.getvalue()
    assert "in fail" in stream.getvalue()


def tell(level: int, name: str, told: str) -> None:
    """As Celery logs of a task that it has run."""
    logger = logging.getLogger("celery.app.trace")
    logger.log(level, f"Task %(name)s[%(id)s] {told}", {"name": name, "id": "an-id"})


def test_celery_tells_of_what_we_send_to_ourselves_at_debug_and_of_its_failures_as_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert subtokens.fan_out.name == "subtokens.fan_out"  # its package is loaded with Celery
    with caplog.at_level(logging.INFO):
        tell(logging.INFO, "subtokens.work", "succeeded")
        tell(logging.ERROR, "subtokens.work", "raised")
        tell(logging.INFO, "subtokens.ensure", "succeeded")
        tell(logging.INFO, "users.settle", "succeeded")
    assert [record.getMessage() for record in caplog.records] == [
        "Task subtokens.work[an-id] raised",
        "Task subtokens.ensure[an-id] succeeded",
        "Task users.settle[an-id] succeeded",
    ]
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        tell(logging.INFO, "subtokens.renew_due", "succeeded")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_a_command_shows_what_it_meets_as_a_line_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.getLogger().addHandler(SHOWN_EVENTS)
    log.info("accounts.forgotten", count=1)
    log.warning("secrets.exposed", file="partners.toml", remedy="chmod 600 partners.toml")
    assert capsys.readouterr() == (
        "",
        "warning: secrets.exposed file=partners.toml remedy=chmod 600 partners.toml\n",
    )


def test_in_an_app_of_your_own_an_event_is_a_line_that_begins_with_its_name() -> None:
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root.handlers[:] = [handler]
    root.setLevel("INFO")
    log.info("accounts.exchanged", exchanged=2, failed={"refused_403": 1}, client_secret=CANARY)
    assert stream.getvalue() == (
        f"INFO accounts.exchanged exchanged=2 failed={{'refused_403': 1}} client_secret='{MASK}'\n"
    )
