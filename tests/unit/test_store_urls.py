"""The forms of SUBTOKENS_STORE_URL, and what is said of one that is none."""

from pathlib import Path

import pytest

from subtokens.config.errors import SettingsError
from subtokens.config.settings import StoreSettings, load
from subtokens.config.urls import store_address

KEY = "k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE="


def problem(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    for name, value in (("PARTNER_ID", "T11200000"), ("ENCRYPTION_KEYS", KEY), ("STORE_URL", url)):
        monkeypatch.setenv(f"SUBTOKENS_{name}", value)
    try:
        load(StoreSettings)
    except SettingsError as error:
        return str(error)
    return ""


def test_sentinels_and_the_masters_name_and_database_are_read() -> None:
    address = store_address("redis+sentinel://u:p%40w@one:1,two,[::1]:3/mymaster/4?protocol=2")
    assert (address.kind, address.master) == ("sentinel", "mymaster")
    assert address.nodes == (("one", 1), ("two", 26379), ("::1", 3))
    assert address.url == "redis://u:p%40w@one:1/4?protocol=2"


def test_the_nodes_of_a_cluster_are_read() -> None:
    address = store_address("rediss+cluster://one:1,two")
    assert (address.kind, address.nodes) == ("cluster", (("one", 1), ("two", 6379)))
    assert address.url.startswith("rediss://one:1/")


def test_an_address_does_not_show_its_password() -> None:
    assert "CANARY" not in repr(store_address("redis+cluster://u:CANARY@one"))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis+sentinel://:CANARY@one:26379", "must end with the master's name and a database"),
        ("redis+sentinel://:CANARY@one:26379/mymaster", "must end with the master's name"),
        ("redis+sentinel://:CANARY@one:26379/a/b/0", "must end with the master's name"),
        ("redis+sentinel://:CANARY@/mymaster/0", "must name hosts by comma"),
        ("redis+cluster://:CANARY@one:6379,,two/0", "must name hosts by comma"),
        ("redis+cluster://:CANARY@one:6379/1", "must name no database"),
        ("redis+cluster://:CANARY@one:99999", "a port from 0 to 65535"),
        ("redis+magic://:CANARY@one:6379", "must begin with redis://"),
        ("http+cluster://:CANARY@one:6379", "must begin with redis://"),
        ("redis://:CANARY@one/0?ssl_ca_certs=/dev/null", "must begin with rediss"),
        ("rediss://:CANARY@one/0?ssl_ca_certs=/nowhere/CANARY.pem", "cannot be read"),
        ("rediss+cluster://one?ssl_ca_certs=/nowhere/CANARY.pem", "cannot be read"),
    ],
)
def test_an_unusable_url_is_told_with_its_remedy_and_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    said = problem(monkeypatch, url)
    assert told in said
    assert "CANARY" not in said


@pytest.mark.parametrize(
    "url",
    [
        "redis://one:6379/1",
        "unix:///run/redis.sock?db=1",
        "rediss://u:pw@one:6379/1?ssl_ca_certs={ca}",
        "redis+sentinel://u:pw@one:1,two:2/mymaster/0",
        "rediss+sentinel://one/mymaster/0?ssl_ca_certs={ca}",
        "redis+cluster://one:6379,two:6379",
    ],
)
def test_a_usable_url_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    assert problem(monkeypatch, url.format(ca=ca)) == ""
