"""Sealing of records: AES-256-GCM under a key of the partner's own.

A sealed record is a header in clear (format, kind, generation, instants, key id), a nonce and the
sealed token. The header and the Redis key are associated data: a record that was moved to another
account, given another generation or altered does not open.
"""

import os
import struct
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import SealError
from .record import Kind, TokenRecord

FORMAT = 1
NONCE_BYTES = 12
# format, kind, generation, issued, renew, expires (ms), length of the key id
_HEADER = struct.Struct(">BBQqqqB")


class Sealer:
    """Seals and opens the records of one partner. `master_keys`: id to 32 bytes; first seals."""

    def __init__(self, partner_id: str, master_keys: dict[str, bytes]) -> None:
        self._ciphers = {
            key_id.encode(): AESGCM(_derived(master, partner_id, "v1"))
            for key_id, master in master_keys.items()
        }
        self._sealing_id = next(iter(self._ciphers))
        first = next(iter(master_keys.values()))
        self._fingerprint_key = _derived(first, partner_id, "fingerprint")

    def seal(self, record: TokenRecord, redis_key: str) -> bytes:
        """The bytes to store under `redis_key`."""
        header = self._header(record)
        nonce = os.urandom(NONCE_BYTES)
        cipher = self._ciphers[self._sealing_id]
        sealed = cipher.encrypt(nonce, record.access_token.encode(), redis_key.encode() + header)
        return header + nonce + sealed

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
                "which SUBTOKENS_ENCRYPTION_KEYS does not hold"
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

    def fingerprint(self, access_token: str) -> str:
        """A keyed digest of the token: tells a new one from the same again, and nothing else."""
        return blake2b(access_token.encode(), digest_size=6, key=self._fingerprint_key).hexdigest()

    def _header(self, record: TokenRecord) -> bytes:
        numbers = _HEADER.pack(
            FORMAT,
            record.kind,
            record.generation,
            record.issued_ms,
            record.renew_ms,
            record.expires_ms,
            len(self._sealing_id),
        )
        return numbers + self._sealing_id


def _derived(master: bytes, partner_id: str, purpose: str) -> bytes:
    info = f"subtokens/{purpose}/{partner_id}".encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)
