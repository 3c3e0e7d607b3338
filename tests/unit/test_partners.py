"""Several partners from a TOML file: each with what it needs, and clear errors for the rest."""

from pathlib import Path

import pytest

from subtokens.config.errors import InputError, SettingsError
from subtokens.config.settings import Settings, StoreSettings, load

KEYS = "k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE="
TWO = """
[[partner]]
id = "T11200000"
client_id = "first"
client_secret = "CANARY-first"
rate_limit = 7

[[partner]]
id = "P11300000"
client_id = "second"
client_secret_file = "second.secret"
token_kind = "account"
"""


@pytest.fixture
def load_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Loads settings with a partners file of that content."""

    def load_with(content: str, **environment: str) -> Settings:
        file = tmp_path / "partners.toml"
        file.write_text(content)
        (tmp_path / "second.secret").write_text("CANARY-second\n")
        values = {"PARTNERS_FILE": str(file), "ENCRYPTION_KEYS": KEYS} | environment
        for name, value in values.items():
            monkeypatch.setenv(f"SUBTOKENS_{name}", value)
        return load(Settings)

    return load_with


def test_each_partner_has_its_own_credential_and_what_differs_from_the_rest(load_with) -> None:
    settings = load_with(TWO, RATE_LIMIT="30")
    first, second = settings.partners
    assert (first.partner_id, first.rate_limit, first.token_kind) == ("T11200000", 7, "exchange")
    assert (second.partner_id, second.rate_limit, second.token_kind) == ("P11300000", 30, "account")
    assert second.client_secret.get_secret_value() == "CANARY-second"
    assert settings.partner("P11300000") is second
    assert "CANARY" not in repr(settings) + repr(settings.partners)


def test_which_partner_is_meant_must_be_said_unless_there_is_a_default(load_with) -> None:
    settings = load_with(TWO)
    with pytest.raises(InputError, match="name one of T11200000, P11300000"):
        settings.partner()
    assert load_with(TWO, PARTNER_ID="P11300000").partner().client_id == "second"
    with pytest.raises(SettingsError, match="SUBTOKENS_PARTNER_ID is none of"):
        load_with(TWO, PARTNER_ID="T11400000")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", r"must hold tables \[\[partner\]\]"),
        ("x = 1", r"must hold tables \[\[partner\]\]"),
        ("[[partner", "cannot be read as TOML"),
        ('partner = ["T11200000"]', "partner 1: must be a table"),
        (TWO.replace("first", "fi:rst", 1), "partner 1: client_id must not hold a colon"),
        (TWO.replace('"T11200000"', '"T11200001"'), "partner 1: id must be T"),
        (TWO.replace("P11300000", "T11200000"), "partner 2: T11200000 stands twice"),
        (TWO.replace("second.secret", "gone.secret"), "client_secret_file gone.secret cannot be"),
        (TWO + 'client_secret = "CANARY-both"', "partner 2: client_secret and client_secret_file"),
        (TWO.replace("rate_limit = 7", "rate_limit = 0"), "partner 1: rate_limit"),
        (TWO.replace("rate_limit = 7", "ratelimit = 7"), "partner 1: ratelimit"),
        (TWO.replace('client_id = "first"', ""), "partner 1: client_id"),
    ],
)
def test_a_bad_file_is_named_with_the_entry_and_no_secret(load_with, content, text) -> None:
    with pytest.raises(SettingsError, match=text) as caught:
        load_with(content)
    assert "CANARY" not in str(caught.value)


def test_a_file_beside_a_single_credential_is_refused(load_with) -> None:
    with pytest.raises(SettingsError, match="SUBTOKENS_CLIENT_ID stands beside"):
        load_with(TWO, CLIENT_ID="third")


def test_a_file_that_others_may_read_is_told(load_with, tmp_path: Path) -> None:
    settings = load_with(TWO)
    for name in ("partners.toml", "second.secret"):
        (tmp_path / name).chmod(0o600)
    assert settings.files_read_by_others() == []
    (tmp_path / "second.secret").chmod(0o644)
    assert [file.name for file in settings.files_read_by_others()] == ["second.secret"]


def test_a_reader_may_name_any_partner_where_none_is_set(monkeypatch) -> None:
    monkeypatch.setenv("SUBTOKENS_ENCRYPTION_KEYS", KEYS)
    settings = load(StoreSettings)
    assert settings.chosen_partner_id("T11300000") == "T11300000"
    with pytest.raises(InputError, match="or set SUBTOKENS_PARTNER_ID"):
        settings.chosen_partner_id()
