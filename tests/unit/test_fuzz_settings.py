"""Odd settings and partners files: SettingsError with a line for each, or what can be used."""

# ruff: noqa: PT017 - an error that tells and a setting that is taken are both fine

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from subtokens.config.errors import InputError, SettingsError
from subtokens.config.settings import Settings, load
from subtokens.config.urls import celery_address
from subtokens.tasks.tokens.connections import open_async_redis, open_redis

KEYS = "k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE="
COMPLETE = {
    "PARTNER_ID": "T11200000",
    "CLIENT_ID": "an-id",
    "CLIENT_SECRET": "CANARY-secret",
    "ENCRYPTION_KEYS": KEYS,
}
ODD = [
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e999", "9" * 400, "0x10", "1_0", "\u0663", "💥"),
    *("\udcff", "a\nb", "\r", "{}", "[]", "null", '"', "true", "CANARY" * 9, "/", "..", "%", "%zz"),
    *("//", "://", "redis://", "redis://[", "redis://[::1", "redis://h:-1", "redis://h:0x1", "h:1"),
    *("redis://h/1/2", "redis://h/٣", "redis://:@h", "redis://h?db=x", "redis://h?db=99999999999"),
    *("redis://h?socket_timeout=soon", "redis://h?max_connections=x", "redis://h?protocol=9"),
    *("redis://h?health_check_interval=x", "redis://h?nonsense=1", "redis://h?host=x", "unix://"),
    *("rediss://h?ssl_cert_reqs=odd", "rediss://h?ssl_check_hostname=odd", "redis://h#f"),
    *("rediss://h?ssl_min_version=x", "redis://h?retry_on_timeout=x", "redis://h?ssl_ca_certs=/x"),
    *("redis+sentinel://h/m/0?a", "redis+sentinel://,/m/0", "redis+sentinel://h:x/m/0"),
    *("redis+cluster://h,,h", "redis+cluster://h?db=3", "redis+x://h", "unix:///s?db=x"),
    *("https://h/%zz", "https://h:0", "https://\u212aelvin", "https://a..b", "https://*"),
]
FIELDS = [name.upper() for name in Settings.model_fields]


def loaded(**changes: str) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (COMPLETE | changes).items():
            patch.setenv(f"SUBTOKENS_{name}", value)
        return load(Settings)


def told(error: SettingsError) -> str:
    text = f"{error}"
    assert "CANARY" not in f"{error} {error!r}"
    assert error.problems
    assert all(problem.strip() for problem in error.problems)
    return text


@pytest.mark.parametrize("name", FIELDS)
def test_no_value_of_a_setting_falls_over(name: str) -> None:
    for odd in ODD:
        try:
            settings = loaded(**{name: odd})
        except SettingsError as error:
            problem = told(error)
            assert "SUBTOKENS_" in problem, odd
            continue
        assert "CANARY-secret" not in repr(settings)
        assert settings.partner().partner_id == "T11200000"


@pytest.mark.parametrize("odd", [odd for odd in ODD if "://" in odd])
async def test_a_store_url_that_is_taken_makes_a_client(odd: str) -> None:
    try:
        url = loaded(STORE_URL=odd).store_url.get_secret_value()
    except SettingsError as error:
        told(error)
        return
    celery_address(url)
    if "cluster" not in url:  # whose clients look for its nodes at once
        with open_redis(url) as redis:
            redis.connection_pool.make_connection()  # it does not connect
        await open_async_redis(url).aclose()


VALUES = st.recursive(
    st.sampled_from(
        ['""', '"CANARY"', "1", "-1", "nan", "inf", "true", "1979-05-27", "9" * 30, '"\\u0000"']
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda many: f"[{', '.join(many)}]")
        | inner.map(lambda one: f"{{a = {one}}}")
    ),
    max_leaves=3,
)
NAMES = ["id", "client_id", "client_secret", "client_secret_file", "base_url", "rate_limit"]
NAMES += ["token_kind", "audience", "CANARY"]


def loaded_with_file(content: bytes) -> None:
    Path("partners.toml").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBTOKENS_PARTNERS_FILE", "partners.toml")
        patch.setenv("SUBTOKENS_ENCRYPTION_KEYS", KEYS)
        try:
            settings = load(Settings)
        except SettingsError as error:
            assert "partners.toml" in str(error)
            assert "CANARY" not in str(error).replace("CANARY Extra", "")
        else:
            settings.files_read_by_others()


@examples(max_examples=150)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_no_value_in_a_partners_file_falls_over_or_is_repeated(entry: dict[str, str]) -> None:
    good = {"id": '"T11200000"', "client_id": '"an-id"', "client_secret": '"CANARY-secret"'}
    lines = [f"{name} = {value}" for name, value in (good | entry).items()]
    loaded_with_file("\n".join(["[[partner]]", *lines]).encode())


@examples(max_examples=100)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
def test_no_bytes_in_a_partners_file_fall_over(content: bytes) -> None:
    loaded_with_file(content)


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf[[partner]]\n", b"[" * 5_000, b"a=" + b"[" * 5_000, b"a.b=1\n" * 99]
)
def test_an_odd_partners_file_is_named(content: bytes) -> None:
    loaded_with_file(content)


@given(st.one_of(st.none(), st.integers(), st.text(max_size=20), st.binary(), st.lists(st.none())))
def test_no_partner_that_is_named_falls_over(odd: Any) -> None:
    settings = loaded()
    try:
        assert settings.partner(odd).partner_id == "T11200000"
    except InputError as error:
        assert len(str(error)) < 250
