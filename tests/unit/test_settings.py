"""The settings: read once, checked before anything starts, frozen, and silent about secrets."""

import base64
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from subtokens.config.errors import InputError, SettingsError
from subtokens.config.settings import Settings, StoreSettings, load, parse_encryption_keys

CANARY = "CANARY-of-settings"
KEY = base64.b64encode(b"CANARY-master-key-of-32-bytes-!!").decode()
REQUIRED = {
    "PARTNER_ID": "T11200000",
    "CLIENT_ID": "an-id",
    "CLIENT_SECRET": CANARY,
    "ENCRYPTION_KEYS": f"k1:{KEY}",
}
NESTED = ["CALL_TIMEOUT", "BATCH_DEADLINE", "SOFT_LIMIT", "HARD_LIMIT", "LEASE"]
TIMES = [f"{name}_SECONDS" for name in [*NESTED, "VISIBILITY_TIMEOUT"]]
EXAMPLE = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8")


def loaded(kind: type[Settings] = Settings, /, **changes: str | None) -> Settings:
    """Settings of a complete environment with these changes; None takes a variable away."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (REQUIRED | changes).items():
            if value is not None:
                patch.setenv(f"SUBTOKENS_{name}", value)
        return load(kind)


def problems(**changes: str | None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(**changes)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return list(caught.value.problems)


def variable(field: str) -> str:
    return f"SUBTOKENS_{field.upper()}"


# What is read


def test_four_values_are_enough() -> None:
    settings = loaded()
    assert settings.partner_id == "T11200000"
    assert settings.base_url == "https://api.dintero.com/v1"
    assert (settings.token_kind, settings.audience) == ("exchange", "partner")
    assert (settings.rate_limit, settings.concurrency, settings.batch_size) == (50, 50, 100)
    assert settings.result_url is None


def test_the_secret_and_the_keys_are_there_for_who_asks() -> None:
    settings = loaded()
    assert settings.client_secret.get_secret_value() == CANARY
    assert settings.master_keys == {"k1": b"CANARY-master-key-of-32-bytes-!!"}
    assert settings.partner().client_secret is settings.client_secret


def test_a_reader_needs_neither_credential_nor_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PARTNER_ID", "ENCRYPTION_KEYS"):
        monkeypatch.setenv(f"SUBTOKENS_{name}", REQUIRED[name])
    assert load(StoreSettings).partner_id == "T11200000"


def test_the_environment_wins_over_the_file() -> None:
    Path(".env").write_text("SUBTOKENS_RATE_LIMIT=7\nSUBTOKENS_BATCH_SIZE=8\nOTHERS=9\n")
    settings = loaded(BATCH_SIZE="9")
    assert (settings.rate_limit, settings.batch_size) == (7, 9)


def test_a_file_that_is_not_utf_8_is_named() -> None:
    Path(".env").write_bytes(b"SUBTOKENS_CLIENT_SECRET=CANARY\xff\n")
    (problem,) = problems()
    assert ".env" in problem
    assert "UTF-8" in problem
    assert "CANARY" not in problem


@pytest.mark.parametrize("name", [name.lower() for name in Settings.model_fields])
def test_no_setting_can_be_changed(name: str) -> None:
    settings = loaded()
    with pytest.raises(ValidationError):
        setattr(settings, name, getattr(settings, name))


def test_the_only_partner_may_be_left_out_and_another_is_refused() -> None:
    settings = loaded()
    assert settings.partner() == settings.partner("T11200000") == settings.partners[0]
    with pytest.raises(InputError, match=r"T99900000 is not configured.*known are: T11200000"):
        settings.partner("T99900000")


# What is refused

NUMBERS = ["RATE_LIMIT", "CONCURRENCY", "BATCH_SIZE", "RUN_TIMEOUT_SECONDS", *TIMES]
BAD_VALUES = [
    *[(name, value) for name in NUMBERS for value in ("", "0", "-1", "nan", "inf", "many")],
    *[("PARTNER_ID", value) for value in ("", "112", "T11200001", "t11200000", "T112000001")],
    *[("CLIENT_ID", value) for value in ("", "\udcff", "id:secret")],
    *[("CLIENT_SECRET", value) for value in ("", "\udcff")],
    *[
        (name, value)
        for name in ("STORE_URL", "BROKER_URL", "RESULT_URL")
        for value in ("", "127.0.0.1:6379", "http://h", "redis://h:99999", "redis://h:a/0")
    ],
    *[(name, "redis://h/none") for name in ("STORE_URL", "BROKER_URL", "RESULT_URL")],
    *[(name, "unix:///run/redis.sock") for name in ("BROKER_URL", "RESULT_URL")],
    *[("NAMESPACE", value) for value in ("", "a b", "a:b", "{a}", "a\n", "a" * 41)],
    *[("TOKEN_KIND", value) for value in ("", "Exchange", "merchant")],
    *[("AUDIENCE", value) for value in ("", "merchant")],
    ("LOG_FORMAT", "xml"),
    ("LOG_LEVEL", "loud"),
    ("RATE_LIMIT", "1000001"),
    ("CONCURRENCY", "2001"),
    ("BATCH_SIZE", "1001"),
    ("RUN_TIMEOUT_SECONDS", "86401"),
    ("VISIBILITY_TIMEOUT_SECONDS", "300.5"),
    *[
        ("BASE_URL", value)
        for value in (
            "",
            "api.dintero.com",
            "ftp://api.dintero.com",
            "https://",
            "https:///v1",
            "https://h:99999",
            "https://h:many",
            "https://[::1",
            "https://h/v 1",
            "https://h/v1\n",
            "https://me:secret@h/v1",
            "https://h/v1?a=1",
            "https://h/v1#a",
        )
    ],
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_named_with_what_the_setting_is(name: str, value: str) -> None:
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"SUBTOKENS_{name} ")
    if "must be less than" not in problem:  # that one names both settings instead
        assert str(Settings.model_fields[name.lower()].description) in problem


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_missing_value_is_named_and_so_is_what_belongs_there(name: str) -> None:
    (problem,) = problems(**{name: None})
    assert problem.startswith(f"SUBTOKENS_{name} is not set (")


def test_all_problems_are_told_at_once() -> None:
    told = problems(CLIENT_ID=None, CLIENT_SECRET=None, RATE_LIMIT="0", BASE_URL="http://a.test")
    assert [line.split()[0].removeprefix("SUBTOKENS_") for line in told] == [
        *("CLIENT_ID", "CLIENT_SECRET", "BASE_URL", "RATE_LIMIT")
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:2/v1"])
def test_http_will_do_on_loopback(url: str) -> None:
    assert loaded(BASE_URL=url).base_url == url


@pytest.mark.parametrize(
    "host", ["api.dintero.com", "localhost.evil.test", "0.0.0.0", "10.0.0.1", "127.0.0.1.evil.test"]
)
def test_elsewhere_the_base_url_must_be_https(host: str) -> None:
    (problem,) = problems(BASE_URL=f"http://{host}/v1")
    assert problem.startswith("SUBTOKENS_BASE_URL must be https")
    assert loaded(BASE_URL=f"https://{host}/v1/").base_url == f"https://{host}/v1"


@pytest.mark.parametrize(("shorter", "longer"), list(pairwise(TIMES)))
def test_each_time_must_be_less_than_the_one_around_it(shorter: str, longer: str) -> None:
    times = {name: str(10 * number) for number, name in enumerate(TIMES, start=1)}
    loaded(**times)
    (problem,) = problems(**times | {shorter: times[longer]})
    assert f"SUBTOKENS_{shorter} " in problem
    assert f"must be less than SUBTOKENS_{longer} " in problem


def test_times_in_reverse_order_are_all_told_at_once() -> None:
    told = problems(**{name: str(60 - number) for number, name in enumerate(TIMES)})
    assert [line.split()[0].removeprefix("SUBTOKENS_") for line in told] == TIMES[:-1]


# The encryption keys


def test_the_first_key_seals_and_all_keep_their_order() -> None:
    second = base64.b64encode(bytes(32)).decode()
    assert list(parse_encryption_keys(f"k2:{second}, k1:{KEY}")) == ["k2", "k1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (KEY, "entry 1 must be id:base64"),
        ("CANARY", "entry 1 must be id:base64"),
        (f":{KEY}", "entry 1 must be id:base64"),
        (f"k-1:{KEY}", "entry 1 must be id:base64"),
        (f"{'k' * 17}:{KEY}", "entry 1 must be id:base64"),
        (f"k\u0661:{KEY}", "entry 1 must be id:base64"),
        (f"k1:{KEY},", "entry 2 must be id:base64"),
        ("k1:CANARY", r"entry 1 \(k1\) is not base64"),
        ("k1:CANARY-!", r"entry 1 \(k1\) is not base64"),
        ("k1:Q0FOQVJZ", r"entry 1 \(k1\) holds 6 bytes, 32 are needed"),
        (f"k1:{KEY},k2:", r"entry 2 \(k2\) holds 0 bytes, 32 are needed"),
        (f"k1:{KEY},k1:{KEY}", "k1 stands twice"),
    ],
)
def test_a_bad_key_is_told_by_its_place_without_its_material(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_encryption_keys(text)
    assert "CANARY" not in str(caught.value)
    (problem,) = problems(ENCRYPTION_KEYS=text)
    assert "openssl rand" in problem
    assert "CANARY" not in problem


# What is never shown

SECRETS = {
    "CLIENT_SECRET": CANARY,
    "STORE_URL": f"redis://:{CANARY}@127.0.0.1/1",
    "BROKER_URL": f"redis://:{CANARY}@127.0.0.1/0",
    "RESULT_URL": f"redis://:{CANARY}@127.0.0.1/2",
}


def test_no_secret_stands_in_any_text_of_the_settings() -> None:
    settings = loaded(**SECRETS)
    shown: list[object] = [settings, settings.model_dump(), settings.partners, settings.partner()]
    for text in [form(value) for value in shown for form in (repr, str)]:
        assert "CANARY" not in text
        assert KEY not in text
    for name, field in Settings.model_fields.items():
        if variable(name).removeprefix("SUBTOKENS_") in {*SECRETS, "ENCRYPTION_KEYS"}:
            assert isinstance(getattr(settings, name), SecretStr), field


def odd(value: str) -> str:
    return f"CANARY-{value}-CANARY"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(odd))
@example(value="redis://:CANARY/CANARY@127.0.0.1/0")  # its port is read as part of the password
@example(value="redis://:CANARY\u2100@127.0.0.1/0")  # urlsplit refuses this with the text itself
@example(value="https://[CANARY]/v1")
@example(value="https://me:CANARY@api.dintero.com")
def test_no_error_repeats_a_value(name: str, value: str) -> None:
    try:
        shown = repr(loaded(**{name.upper(): value}))
    except SettingsError as error:
        shown = f"{error} {error!r}"
    if name not in {"client_id", "namespace"}:  # no secrets: they may show
        assert "CANARY" not in shown


def test_pydantics_own_error_repeats_no_value_either() -> None:
    bad: dict[str, Any] = {"rate_limit": CANARY, "client_secret": CANARY, "broker_url": CANARY}
    with pytest.raises(ValidationError) as caught:
        Settings(**bad)
    assert "CANARY" not in f"{caught.value} {caught.value!r}"


# The example file


def documented(pattern: str) -> dict[str, str]:
    return dict(re.findall(pattern, EXAMPLE, re.MULTILINE))


def test_the_example_holds_each_setting_once_and_nothing_else() -> None:
    names = re.findall(r"^#? ?(SUBTOKENS_[A-Z_]+)=", EXAMPLE, re.MULTILINE)
    assert sorted(names) == sorted(variable(name) for name in Settings.model_fields)
    for line in EXAMPLE.splitlines():
        assert not line or line.startswith(("# ", "SUBTOKENS_"))


def test_the_example_asks_first_for_what_has_no_default() -> None:
    asked = documented(r"^(SUBTOKENS_\w+)=(.*)$")
    assert list(asked) == [
        *map(variable, ["partner_id", "client_id", "client_secret", "encryption_keys"])
    ]
    assert set(asked.values()) == {""}
    fields = Settings.model_fields.items()
    required = {variable(name) for name, field in fields if field.is_required()}
    needed_without_a_file = {variable(n) for n in ("partner_id", "client_id", "client_secret")}
    assert set(asked) == required | needed_without_a_file
    assert "echo k1:$(openssl rand -base64 32)" in EXAMPLE


def test_the_example_shows_the_defaults() -> None:
    settings = loaded()
    shown = documented(r"^# (SUBTOKENS_\w+)=(.*)$")
    assert shown.pop("SUBTOKENS_RESULT_URL") == shown.pop("SUBTOKENS_PARTNERS_FILE") == ""
    for name, text in shown.items():
        value = getattr(settings, name.removeprefix("SUBTOKENS_").lower())
        assert text == (
            value.get_secret_value()
            if isinstance(value, SecretStr)
            else f"{value:g}"
            if isinstance(value, float | int)
            else value
        )
    values = {name.removeprefix("SUBTOKENS_"): text for name, text in shown.items()}
    assert loaded(**values) == settings


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_example_says_what_the_setting_is(name: str) -> None:
    text = " ".join(line.removeprefix("# ") for line in EXAMPLE.splitlines())
    meaning = str(Settings.model_fields[name].description).partition(", several")[0]
    assert meaning in text


def test_a_copy_that_was_not_filled_in_asks_for_the_four_values() -> None:
    Path(".env").write_text(EXAMPLE)
    told = problems(**dict.fromkeys(REQUIRED))
    assert sorted(line.split()[0].removeprefix("SUBTOKENS_") for line in told) == sorted(REQUIRED)


# Before anything starts


@pytest.mark.parametrize(
    "command",
    [
        ["celery", "-A", "subtokens.workers", "worker"],
        ["celery", "-A", "subtokens.workers", "beat"],
        ["subtokens.workers.cli", "status"],
        ["subtokens.workers.cli", "accounts", "list"],
    ],
    ids=" ".join,
)
def test_a_process_with_bad_settings_ends_with_code_2_and_a_line_for_each(
    command: list[str], tmp_path: Path
) -> None:
    bad = {"SUBTOKENS_CLIENT_SECRET": CANARY, "SUBTOKENS_RATE_LIMIT": "0"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command],
        env=dict(os.environ) | bad,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        *map(variable, ["partner_id", "encryption_keys", "client_id", "rate_limit"])
    ]
