"""A local Dintero without HTTP: a call and the time go in, an answer comes out.

https://docs.dintero.com/management-auth-api/authenticate/aid_auths_oauth_exchange_token_post and
https://docs.dintero.com/docs/partners/partners-merchant-api-access say what is served.
"""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, Self

from . import checks
from .accounts import ACCOUNT_ID, PARTNER_ID, Accounts
from .calls import Calls, Kind
from .checks import Call, Refused
from .options import SandboxOptions
from .tokens import Tokens


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a JSON body, and headers beside its content type."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: object) -> Self:
        """Answer 200 with that content."""
        return cls(200, json.dumps(content).encode())

    @classmethod
    def of_refusal(cls, refused: Refused) -> Self:
        """Answer with the error that was raised."""
        error = {"error": {"message": refused.message, "code": refused.code}}
        return cls(refused.status, json.dumps(error).encode(), refused.headers)


@dataclass(slots=True)
class _Visit:
    """A call on its way through the checks, and what is known of it so far."""

    call: Call
    now: float
    kind: Kind = "other"
    account: str = ""


class SandboxState:
    """One partner, its accounts, its tokens and the count of its calls. Times are Unix seconds.

    `options` is read at each call, and may be replaced by one that differs in what is CHANGEABLE.
    """

    def __init__(self, options: SandboxOptions, started_at: float) -> None:
        self.options = options
        self.accounts = Accounts(
            options.partner_id, options.accounts, options.inactive, options.seed
        )
        self.tokens = Tokens()
        self.calls = Calls(started_at)
        self._last_exchanges: dict[str, tuple[dict[str, Any], float]] = {}  # the answer, its end

    def answer(self, call: Call, now: float) -> Answer:
        """Check, count and answer one call that arrived at `now`."""
        visit = _Visit(call, now)
        try:
            answer, reason = Answer.of(self._serve(visit)), ""
        except Refused as refused:
            answer, reason = Answer.of_refusal(refused), refused.code
        self.calls.record(visit.kind, visit.account, answer.status, reason, now)
        return answer

    def _serve(self, visit: _Visit) -> object:
        match visit.call.path.split("/"):
            case ["", "v1", "accounts", owner, "auth", "exchange_token"]:
                visit.kind = "exchange"
                return self._exchange(visit, owner)
            case ["", "v1", "accounts", owner, "auth", "token"]:
                if PARTNER_ID.fullmatch(owner):
                    visit.kind = "partner_token"
                    return self._partner_token(visit, owner)
                visit.kind = "account_token"
                return self._account_token(visit, owner)
            case ["", "v1", "accounts", owner, "management", "accounts"]:
                visit.kind = "accounts"
                return self._accounts(visit, owner)
            case ["", "v1", "accounts", owner, "management", "settings"]:
                visit.kind = "settings"
                return self._settings(visit, owner)
            case _:
                raise Refused(404, "not_found", "No such path")

    def _partner_token(self, visit: _Visit, owner: str) -> object:
        checks.expect_method(visit.call, "POST")
        checks.expect_client(visit.call, self.options)
        if owner != self.options.partner_id:
            raise Refused(403, "unknown_account", "Not the client's partner account")
        visit.account = owner
        checks.expect_client_credentials(visit.call, owner)
        self._maybe_fail(visit)
        lifetime = self.options.partner_lifetime_seconds
        return self._token_answer(visit, "partner", lifetime)

    def _exchange(self, visit: _Visit, owner: str) -> object:
        checks.expect_id(PARTNER_ID, owner, "partner_id")
        checks.expect_method(visit.call, "POST")
        checks.expect_token(visit.call, self.tokens, "partner", owner, visit.now)
        body = checks.expect_json(visit.call)
        account = checks.expect_id(ACCOUNT_ID, body.get("account_id"), "account_id")
        self._name_account(visit, account)
        if self.options.revoked == "grant":
            raise Refused(403, "no_grant", "The client may not exchange")
        checks.expect_own(self.accounts, account)
        self._maybe_fail(visit)
        return self._last_exchange(visit) or self._new_exchange(visit)

    def _last_exchange(self, visit: _Visit) -> dict[str, Any] | None:
        """Give the account's last answer again, where the options say so and its token lives."""
        if self.options.reissue == "never":
            return None
        answer, expires_at = self._last_exchanges.get(visit.account, ({}, 0.0))
        if visit.now >= expires_at:
            return None
        if self.options.reissue == "full":
            return answer
        return answer | {"expires_in": max(1, int(expires_at - visit.now))}

    def _new_exchange(self, visit: _Visit) -> dict[str, Any]:
        answer = self._token_answer(visit, "exchange", self.options.lifetime_seconds)
        expires_at = visit.now + self.options.lifetime_seconds
        if self.options.refresh_tokens:
            answer["refresh_token"] = self.tokens.issue("refresh", visit.account, expires_at)
        self._last_exchanges[visit.account] = answer, expires_at
        return answer

    def _account_token(self, visit: _Visit, owner: str) -> object:
        checks.expect_id(ACCOUNT_ID, owner, "account_id")
        checks.expect_method(visit.call, "POST")
        self._name_account(visit, owner)
        checks.expect_token(visit.call, self.tokens, "exchange", owner, visit.now)
        by_partner = self.options.audience == "partner"
        checks.expect_client_credentials(
            visit.call, self.options.partner_id if by_partner else owner
        )
        self._maybe_fail(visit)
        return self._token_answer(visit, "account", self.options.lifetime_seconds)

    def _accounts(self, visit: _Visit, owner: str) -> object:
        checks.expect_id(PARTNER_ID, owner, "partner_id")
        checks.expect_method(visit.call, "GET")
        checks.expect_token(visit.call, self.tokens, "partner", owner, visit.now)
        return checks.expect_page(visit.call, self.accounts)

    def _settings(self, visit: _Visit, owner: str) -> object:
        checks.expect_id(ACCOUNT_ID, owner, "account_id")
        checks.expect_method(visit.call, "GET")
        self._name_account(visit, owner)
        kind = self.options.accepts
        grant = checks.expect_token(visit.call, self.tokens, kind, owner, visit.now)
        self.calls.accept(owner, grant.serial)
        return self.accounts.settings(owner)

    def _name_account(self, visit: _Visit, account_id: str) -> None:
        # Only the partner's own: what strangers make up must not fill the memory.
        if account_id in self.accounts:
            visit.account = account_id

    def _token_answer(
        self, visit: _Visit, use: Literal["partner", "exchange", "account"], lifetime: int
    ) -> dict[str, Any]:
        return {
            "access_token": self.tokens.issue(use, visit.account, visit.now + lifetime),
            "token_type": "Bearer",
            "expires_in": lifetime,
        }

    def _maybe_fail(self, visit: _Visit) -> None:
        """Fail the chosen share of the calls that would have been answered.

        An account's nth call of a kind has the same fate under the same seed, in whatever order
        the accounts are called.
        """
        errors, throttles = self.options.error_share, self.options.throttle_share
        if not errors and not throttles:
            return
        nth = self.calls.of_account(visit.kind, visit.account)
        drawn = f"{self.options.seed}:{visit.kind}:{visit.account}:{nth}".encode()
        fate = int.from_bytes(blake2b(drawn, digest_size=8).digest()) / 2**64
        if fate < errors:
            raise Refused(500, "injected_error", "An unexpected error, as the options ask")
        if fate < errors + throttles:
            raise Refused(429, "throttled", "Too many requests", {"Retry-After": "1"})
