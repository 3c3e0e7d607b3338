"""The checks the sandbox makes: each passes, or raises Refused with status, code and message.

Dintero names no codes, so these are the sandbox's own. A caller nobody knows gets 401, a known one
that may not do this 403, and a request that cannot be understood 400.
"""

import json
import re
from base64 import b64decode
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from .accounts import Accounts
from .options import SandboxOptions
from .tokens import Grant, Tokens

API = "https://api.dintero.com/v1/accounts/"
MAX_BODY_BYTES = 16_384
_LIMIT = re.compile("[1-9][0-9]?|100")


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived; the body is None where it was above MAX_BODY_BYTES."""

    method: str
    path: str
    query: str = ""
    authorization: str = ""
    content_type: str = ""
    body: bytes | None = b""


class Refused(Exception):  # noqa: N818 (an answer, not a fault)
    """The call gets an error answer; `headers` go with it."""

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def expect_method(call: Call, method: str) -> None:
    """Refuse any other method (405)."""
    if call.method != method:
        raise Refused(405, "wrong_method", f"{method} is expected here", {"Allow": method})


def expect_id(pattern: re.Pattern[str], value: object, name: str) -> str:
    """Refuse an id that does not match in full (400)."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Refused(400, "invalid_id", f"{name} must match ^{pattern.pattern}$")
    return value


def _credentials(call: Call, scheme: str) -> str:
    given, _, credentials = call.authorization.partition(" ")
    if given.lower() != scheme.lower() or not credentials:
        raise Refused(401, "missing_credentials", f"Authorization must be {scheme}")
    return credentials


def expect_client(call: Call, options: SandboxOptions) -> None:
    """Refuse a Basic header that does not hold the client's id and secret (401)."""
    try:
        client = b64decode(_credentials(call, "Basic"), validate=True).decode()
    except ValueError:
        client = ""
    if client != f"{options.client_id}:{options.client_secret}" or (
        options.revoked in {"secret", "tokens"}
    ):
        raise Refused(401, "wrong_client", "Client id or secret is wrong")


def expect_token(call: Call, tokens: Tokens, use: str, owner: str, now: float) -> Grant:
    """Refuse a token that is unknown, expired or of another kind (401), or another's (403)."""
    grant = tokens.read(_credentials(call, "Bearer"))
    if grant is None:
        raise Refused(401, "unknown_token", "The token was not issued here")
    if grant.use == "partner" and grant.serial <= tokens.revoked_up_to:
        raise Refused(401, "revoked_token", "The token was revoked")
    if now >= grant.expires_at:
        raise Refused(401, "expired_token", "The token has expired")
    if grant.use != use:
        raise Refused(401, "wrong_token_kind", f"A token of kind {use} is expected here")
    if grant.account != owner:
        raise Refused(403, "wrong_token_owner", "The token belongs to another account")
    return grant


def expect_json(call: Call) -> dict[str, Any]:
    """Refuse what is not a JSON object of at most MAX_BODY_BYTES (400, 413)."""
    if call.body is None:
        raise Refused(413, "body_too_large", f"The body is above {MAX_BODY_BYTES} bytes")
    if call.content_type.partition(";")[0].strip().lower() != "application/json":
        raise Refused(400, "wrong_content_type", "Content-Type must be application/json")
    try:
        body = json.loads(call.body.decode())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_body", "The body must be a JSON object")
    return body


def expect_client_credentials(call: Call, audience_account: str) -> None:
    """Refuse another grant (400), or an audience other than that account's (403)."""
    body = expect_json(call)
    if body.get("grant_type") != "client_credentials":
        raise Refused(400, "wrong_grant_type", "grant_type must be client_credentials")
    if body.get("audience") != API + audience_account:
        raise Refused(403, "wrong_audience", f"audience must be {API}{audience_account}")


def expect_own(accounts: Accounts, account_id: str) -> None:
    """Refuse an account that is not one of the partner's, or is not active (403)."""
    if account_id not in accounts:
        raise Refused(403, "unknown_account", "Not one of the partner's accounts")
    if not accounts.is_active(account_id):
        raise Refused(403, "inactive_account", "The account is not active")


def expect_page(call: Call, accounts: Accounts) -> list[dict[str, Any]]:
    """Refuse a limit outside 1 to 100 or a paging token of nobody's (400); else give the page."""
    query = parse_qs(call.query, keep_blank_values=True)
    limit = query.get("limit", ["10"])[-1]
    if not _LIMIT.fullmatch(limit):
        raise Refused(400, "invalid_limit", "limit must be from 1 to 100")
    page = accounts.page(int(limit), query.get("starting_after", [None])[-1])
    if page is None:
        raise Refused(400, "unknown_starting_after", "starting_after is no account's paging_token")
    return page
