"""No form of an object that holds a secret tells it: repr, str, format, a pickle, a traceback."""

import json
import pickle
import pprint
import traceback
from collections.abc import Callable
from copy import copy
from typing import Any

import httpx
import pytest
from kombu.utils.json import dumps
from pydantic import SecretStr

import subtokens
from subtokens.config.celeryconfig import celery_configuration
from subtokens.config.partners import Partner
from subtokens.config.settings import Settings, StoreSettings, load
from subtokens.config.urls import store_address
from subtokens.tasks.dintero.client import DinteroClient
from subtokens.tasks.dintero.wire import TokenAnswer, parse_token
from subtokens.tasks.errors import RunFailedError
from subtokens.tasks.fleet import Fleet
from subtokens.tasks.tokens.reader import TokenReader
from subtokens.tasks.tokens.record import Kind, TokenRecord
from subtokens.tasks.tokens.sealing import Opener, Sealer, derived_keys
from subtokens.workers.application import make_app

PARTNER = "T11200000"
KEY = b"CANARY-master-key-of-32-bytes-!!"
URL = "redis://user:CANARY-redis-password@127.0.0.1:6379/0"
TOKEN = "CANARY-token"
SECRETS = ("CANARY", "Q0FOQVJZ")  # the latter is the former in base64, as keys are written

RECORD = TokenRecord("T11200001", TOKEN, Kind.EXCHANGE, 1, 2, 3, 4)
ANSWER = TokenAnswer.model_validate_json(
    json.dumps(
        {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 9, "refresh_token": TOKEN}
    )
)


def settings() -> Settings:
    chosen = Settings(
        partner_id=PARTNER,
        client_id="an-id",
        client_secret=SecretStr("CANARY-client-secret"),
        encryption_keys=SecretStr("k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE="),
        broker_url=SecretStr(URL),
        store_url=SecretStr(URL),
        result_url=SecretStr(URL),
        _env_file=None,
    )
    assert chosen.master_keys == {"k1": KEY}  # cached where a careless repr would look
    assert chosen.partners[0].client_secret
    return chosen


def fleet() -> Fleet:
    chosen = settings()
    return Fleet(chosen, chosen.partners[0], None, httpx.AsyncHTTPTransport())  # type: ignore[arg-type]


# Everything that holds a secret, ours to give or to pass about. In a pickle: whatever can be one.
HOLDERS: dict[str, Callable[[], Any]] = {
    "Settings": settings,
    "StoreSettings": lambda: StoreSettings(
        store_url=SecretStr(URL), reader_keys=settings().encryption_keys, _env_file=None
    ),
    "Partner": lambda: settings().partners[0],
    "Partner, by itself": lambda: Partner.model_validate(
        settings().partners[0].model_dump(by_alias=True)
    ),
    "StoreAddress": lambda: store_address(URL),
    "TokenRecord": lambda: RECORD,
    "TokenAnswer": lambda: ANSWER,
    "TokenReader": lambda: TokenReader(settings()),
    "AsyncTokenReader": lambda: subtokens.AsyncTokenReader(settings()),
    "SubAccountAuth": lambda: subtokens.SubAccountAuth(TokenReader(settings()), "T11200001"),
    "Sealer": lambda: Sealer(PARTNER, {"k1": KEY}),
    "Opener": lambda: Opener(derived_keys(PARTNER, {"k1": KEY})),
    "DinteroClient": lambda: DinteroClient("https://x/v1", httpx.AsyncHTTPTransport(), 1.0),
    "Fleet": fleet,
    "app": lambda: make_app(settings()),
    "app's configuration": lambda: make_app(settings()).conf.humanize(),
}
FORMS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "format": "{}".format,
    "pprint": pprint.pformat,
    "in a list": lambda holder: repr([holder, {"it": holder}]),
    "as an error's argument": lambda holder: repr(ValueError(holder)),
    "in a traceback": lambda holder: _traceback(holder),
}


def _traceback(holder: Any) -> str:
    return "".join(traceback.format_exception(ValueError(holder)))


def secrets_in(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [secret for secret in SECRETS if secret.encode() in data]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HOLDERS)
def test_no_form_of_what_holds_a_secret_tells_it(name: str, form: str) -> None:
    assert secrets_in(FORMS[form](HOLDERS[name]())) == []


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("name", [name for name in HOLDERS if not name.startswith("app")])
def test_what_holds_a_secret_is_not_pickled(name: str, protocol: int) -> None:
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
        pickle.dumps(HOLDERS[name](), protocol)
    assert secrets_in(str(caught.value)) == []


def test_the_reason_and_the_remedy_are_told() -> None:
    with pytest.raises(TypeError, match="TokenRecord holds secrets and is never pickled: pass ids"):
        pickle.dumps([RECORD])
    with pytest.raises(TypeError, match="Settings holds secrets"):
        copy(pickle.dumps(settings()))


def test_a_record_that_a_task_returns_is_no_result() -> None:
    with pytest.raises(Exception, match="TokenRecord") as caught:
        dumps({"result": RECORD})
    assert secrets_in(str(caught.value)) == []


def test_an_app_tells_of_its_configuration_no_password_and_still_has_it() -> None:
    assert "CANARY" in celery_configuration(settings())["broker_url"]
    shown = make_app(settings()).conf.humanize(with_defaults=True, censored=True)
    assert "127.0.0.1" in shown
    assert secrets_in(shown) == []


@pytest.mark.parametrize(
    "name", ["client_secret", "encryption_keys", "reader_keys", "store_url", "broker_url"]
)
def test_a_setting_that_is_refused_is_named_and_its_value_is_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SUBTOKENS_{name.upper()}", "k1:\udcff/€ CANARY")
    with pytest.raises(subtokens.SettingsError) as caught:
        load(Settings)
    text = f"{caught.value!r} {caught.value} {pickle.dumps(caught.value)!r}"
    assert f"SUBTOKENS_{name.upper()}" in text
    assert secrets_in(text) == []


def test_an_answer_that_is_refused_is_not_repeated() -> None:
    body = json.dumps({"access_token": TOKEN, "token_type": TOKEN, "expires_in": TOKEN}).encode()
    with pytest.raises(subtokens.SubtokensError) as caught:
        parse_token("exchange", body)
    error = caught.value
    chain = [error, error.__cause__, error.__context__]
    shown = "".join(traceback.format_exception(error))
    # The context holds pydantic's error, which is not shown and does not leave the process.
    assert secrets_in(f"{shown} {chain[0]!r} {vars(error)!r} {error.__cause__!r}") == []
    assert secrets_in(pickle.dumps(error)) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_secret_is_found_in_each_form(form: str) -> None:
    class Leaky:
        def __repr__(self) -> str:
            return f"Leaky({TOKEN})"

    assert secrets_in(FORMS[form](Leaky())) == ["CANARY"]
    assert secrets_in(pickle.dumps(TOKEN)) == ["CANARY"]
    assert secrets_in(pickle.dumps(RunFailedError(TOKEN))) == ["CANARY"]
