"""Behind the API, under /__sandbox/: what tests ask and change, neither counted nor delayed."""

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

from pydantic import ValidationError

from . import checks
from .accounts import Accounts
from .calls import Row
from .checks import Call, Refused
from .options import CHANGEABLE, SandboxOptions
from .state import Answer, SandboxState

PATH = "/__sandbox/"


def answer(state: SandboxState, call: Call, now: float) -> Answer:
    """Report on the sandbox, or change it; what is refused has changed nothing."""
    try:
        return Answer.of(_serve(state, call, now))
    except Refused as refused:
        return Answer.of_refusal(refused)


def _serve(state: SandboxState, call: Call, now: float) -> object:
    query = parse_qs(call.query)
    match call.path.removeprefix(PATH):
        case "stats":
            checks.expect_method(call, "GET")
            return state.calls.stats(now, accounts=query.get("accounts") == ["1"])
        case "calls":
            checks.expect_method(call, "GET")
            return _rows(state, query.get("after", ["0"])[-1])
        case "options":
            checks.expect_method(call, "POST")
            return _change_options(state, checks.expect_json(call))
        case "accounts":
            checks.expect_method(call, "POST")
            return _change_accounts(state.accounts, checks.expect_json(call), now)
        case _:
            raise Refused(404, "not_found", "No such path")


def _rows(state: SandboxState, after: str) -> list[Row]:
    if not after.isdecimal():
        raise Refused(400, "invalid_after", "after must be the number of a call")
    return state.calls.rows(int(after))


def _change_options(state: SandboxState, given: dict[str, object]) -> dict[str, object]:
    for name in given:
        if name not in CHANGEABLE:
            raise Refused(400, "fixed_option", f"{name} is none of {', '.join(CHANGEABLE)}")
    try:
        options = SandboxOptions.model_validate(state.options.model_dump() | given, strict=True)
    except ValidationError as error:
        problems = [" ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors()]
        raise Refused(400, "invalid_option", "; ".join(problems)) from None
    state.options = options
    if given.get("revoked") == "tokens":
        state.tokens.revoke_partners()
    return options.model_dump(include=set(CHANGEABLE))


def _change_accounts(accounts: Accounts, given: dict[str, object], now: float) -> dict[str, object]:
    changes: dict[str, Callable[[list[str]], None]] = {
        "hide": accounts.hide,
        "show": accounts.show,
        "close": accounts.close,
        "open": accounts.open,
        "delete": partial(accounts.delete, now=now),
    }
    for name in given:
        if name not in changes:
            raise Refused(400, "unknown_change", f"{name} is none of {', '.join(changes)}")
    chosen = {name: _expect_ids(accounts, name, ids) for name, ids in given.items()}
    for name, account_ids in chosen.items():
        changes[name](account_ids)
    return {}


def _expect_ids(accounts: Accounts, name: str, given: object) -> list[str]:
    if not isinstance(given, list):
        raise Refused(400, "invalid_ids", f"{name} must be a list of account ids")
    for account_id in given:
        if not isinstance(account_id, str) or account_id not in accounts:
            message = f"{name}: {account_id!r} is none of the partner's accounts"
            raise Refused(400, "unknown_account", message)
    return given
