"""Sealing of records: AES-256-GCM under a key of the partner's own.

A sealed record is a header in clear (format, kind, generation, instants, key id), a nonce and the
sealed token. The header and the Redis key are associated data: a record that was moved to another
account, given another generation or altered does not open.
"""

import os
import struct
from collections.abc import Mapping
from hashlib import blake2b
from hmac import compare_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...config.secrecy import NeverPickled
from .errors import SealError
from .record import Kind, TokenRecord

FORMAT = 1
NONCE_BYTES = 12
# format, kind, generation, issued, renew, expires (ms), length of the key id
_HEADER = struct.Struct(">BBQqqqB")


class Opener(NeverPickled):
    """Opens the records of one partner, with keys of its own alone: `derived_keys` gives them."""

    def __init__(
        self, derived: Mapping[str, bytes], setting: str = "SUBTOKENS_READER_KEYS"
    ) -> None:
        self.key_ids = tuple(derived)
        self._ciphers = {key_id.encode(): AESGCM(key) for key_id, key in derived.items()}
        self._setting = setting

    def open(self, sealed: bytes, redis_key: str, account_id: str) -> TokenRecord:
        """The record under `redis_key`. Raises SealError if it is not what was sealed there."""
        try:
            numbers = _HEADER.unpack_from(sealed)
        except struct.error:
            raise SealError(f"{redis_key}: the record is cut short") from None
        if numbers[0] != FORMAT:
            raise SealError(
                f"{redis_key}: the record has format {numbers[0]}, this version of subtokens "
                f"reads {FORMAT}; upgrade its readers"
            )
        header_end = _HEADER.size + numbers[6]
        key_id = sealed[_HEADER.size : header_end]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealError(
                f"{redis_key}: sealed with key {key_id.decode(errors='replace')!r}, "
                f"which {self._setting} does not hold"
            )
        nonce = sealed[header_end : header_end + NONCE_BYTES]
        associated = redis_key.encode() + sealed[:header_end]
        try:
            token = cipher.decrypt(nonce, sealed[header_end + NONCE_BYTES :], associated)
        except (InvalidTag, ValueError):
            raise SealError(
                f"{redis_key}: the record was altered or moved, or key {key_id.decode()} "
                "is not the one it was sealed with"
            ) from None
        _, kind, generation, issued_ms, renew_ms, expires_ms, _ = numbers
        return TokenRecord(
            account_id, token.decode(), Kind(kind), generation, issued_ms, renew_ms, expires_ms
        )


class Sealer(Opener):
    """Seals and opens the records of one partner. `master_keys`: id to 32 bytes; first seals.

    `sealing_id` may be set to another of the keys that it holds, until all workers know the first.
    """

    def __init__(self, partner_id: str, master_keys: Mapping[str, bytes]) -> None:
        super().__init__(derived_keys(partner_id, master_keys), "SUBTOKENS_ENCRYPTION_KEYS")
        self._fingerprint_keys = derived_keys(partner_id, master_keys, "fingerprint")
        self._signing_keys = derived_keys(partner_id, master_keys, "message")
        self.sealing_id = self.key_ids[0]

    def seal(self, record: TokenRecord, redis_key: str) -> bytes:
        """The bytes to store under `redis_key`."""
        key_id = self.sealing_id.encode()
        numbers = _HEADER.pack(
            FORMAT,
            record.kind,
            record.generation,
            record.issued_ms,
            record.renew_ms,
            record.expires_ms,
            len(key_id),
        )
        header, nonce = numbers + key_id, os.urandom(NONCE_BYTES)
        sealed = self._ciphers[key_id].encrypt(
            nonce, record.access_token.encode(), redis_key.encode() + header
        )
        return header + nonce + sealed

    def fingerprint(self, access_token: str) -> str:
        """`key-id:digest`: tells a new token from the same again, and which key sealed it."""
        return self._fingerprint(access_token, self.sealing_id)

    def is_of(self, fingerprint: str, access_token: str) -> bool:
        """Whether it is that token's, by whichever of the keys held it was made."""
        key_id, _, _ = fingerprint.partition(":")
        return key_id in self.key_ids and self._fingerprint(access_token, key_id) == fingerprint

    def _fingerprint(self, access_token: str, key_id: str) -> str:
        key = self._fingerprint_keys[key_id]
        return f"{key_id}:{blake2b(access_token.encode(), digest_size=6, key=key).hexdigest()}"

    def sign(self, message: str, place: str) -> str:
        """The message after a key id and a keyed digest: whoever finds it in `place` can verify it.

        What waits in the store is sent to the broker by workers, who may do more there than
        those who may write to the store.
        """
        digest = self._digest(self.sealing_id, message, place)
        return f"{self.sealing_id} {digest} {message}"

    def verified(self, signed: str, place: str) -> str:
        """The message that was signed for `place`. Raises SealError if it was not, or not by us."""
        key_id, _, rest = signed.partition(" ")
        digest, _, message = rest.partition(" ")
        if key_id not in self._signing_keys:
            raise SealError(f"{place}: signed with a key that {self._setting} does not hold")
        if not compare_digest(digest.encode(), self._digest(key_id, message, place).encode()):
            raise SealError(f"{place}: the message was altered, moved or forged; it is not sent")
        return message

    def _digest(self, key_id: str, message: str, place: str) -> str:
        signed = f"{len(place)} {place} {message}".encode()
        return blake2b(signed, digest_size=32, key=self._signing_keys[key_id]).hexdigest()


def derived_keys(
    partner_id: str, master_keys: Mapping[str, bytes], purpose: str = "v1"
) -> dict[str, bytes]:
    """The partner's own keys of a purpose; without one, they open its records and no other's."""
    info = f"subtokens/{purpose}/{partner_id}".encode()
    return {
        key_id: HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)
        for key_id, master in master_keys.items()
    }
