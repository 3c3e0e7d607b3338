"""Tokens the sandbox can read back without keeping them: JWTs signed with a key of its own."""

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

TokenUse = Literal["partner", "exchange", "account", "refresh"]


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


#: Every token of every sandbox begins with this, so that a leaked one can be searched for.
TOKEN_MARK = _encode(b'{"alg":"HS256","typ":"JWT","kid":"sandbox"}') + "."
_SIGNATURE_CHARACTERS = 43
_TOKEN_CHARACTERS = 800
_CLAIMS_BYTES = (_TOKEN_CHARACTERS - len(TOKEN_MARK) - 1 - _SIGNATURE_CHARACTERS) * 3 // 4


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token says: its use, the account it belongs to, its end (Unix seconds), its serial."""

    use: str
    account: str
    expires_at: float
    serial: int


class Tokens:
    """Issues and reads tokens, about as long as real ones.

    The key lives as long as this object: tokens of another sandbox are unknown here.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._padding = secrets.token_urlsafe(_CLAIMS_BYTES)  # as dense as real ones
        self._serial = 0
        self.revoked_up_to = 0  # the partner's, by serial
        # A partner token comes back with every exchange.
        self.read = lru_cache(maxsize=256)(self._read)

    def issue(self, use: TokenUse, account: str, expires_at: float) -> str:
        """Make a new token; no two are alike."""
        self._serial += 1
        claims = (
            f'{{"use":"{use}","sub":"{account}","exp":{expires_at:.6f},"jti":{self._serial},"pad":"'
        )
        padding = self._padding[: max(0, _CLAIMS_BYTES - len(claims) - 2)]
        signed = TOKEN_MARK + _encode(f'{claims}{padding}"}}'.encode())
        return f"{signed}.{self._sign(signed)}"

    def revoke_partners(self) -> None:
        """Refuse every token that a partner was given so far."""
        self.revoked_up_to = self._serial

    def _sign(self, signed: str) -> str:
        return _encode(hmac.digest(self._key, signed.encode(), "sha256"))

    def _read(self, token: str) -> Grant | None:
        signed, _, signature = token.rpartition(".")
        if not signed.startswith(TOKEN_MARK) or not token.isascii():
            return None
        if not hmac.compare_digest(self._sign(signed), signature):
            return None
        encoded = signed.removeprefix(TOKEN_MARK)
        claims = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return Grant(claims["use"], claims["sub"], claims["exp"], claims["jti"])
