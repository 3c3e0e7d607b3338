"""Behind the API, under /__sandbox/: what was called, told without being counted or delayed."""

from urllib.parse import parse_qs

from . import checks
from .checks import Call, Refused
from .state import Answer, SandboxState

PATH = "/__sandbox/"


def answer(state: SandboxState, call: Call, now: float) -> Answer:
    """Report on the calls so far."""
    try:
        return Answer.of(_report(state, call, now))
    except Refused as refused:
        return Answer.of_refusal(refused)


def _report(state: SandboxState, call: Call, now: float) -> object:
    checks.expect_method(call, "GET")
    query = parse_qs(call.query)
    match call.path.removeprefix(PATH):
        case "stats":
            return state.calls.stats(now, accounts=query.get("accounts") == ["1"])
        case "calls":
            after = query.get("after", ["0"])[-1]
            if not after.isdecimal():
                raise Refused(400, "invalid_after", "after must be the number of a call")
            return state.calls.rows(int(after))
        case _:
            raise Refused(404, "not_found", "No such path")
