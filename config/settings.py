"""Every setting, read once from SUBTOKENS_* and .env, checked, frozen and masked."""

import base64
import binascii
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import InputError, SettingsError
from .ids import checked_partner_id
from .partners import (
    Audience,
    ClientId,
    Partner,
    PartnerId,
    TokenKind,
    read_partners,
    secret_files,
)
from .secrecy import NeverPickled
from .urls import CaFile, RedisServerUrl, RedisUrl, UpstreamUrl

PREFIX = "SUBTOKENS_"
S = TypeVar("S", bound="DeploymentSettings")
_KEYS_MEANING = (
    "id:base64 of 32 random bytes, several by comma; the first seals, all open. "
    "Make one: echo k1:$(openssl rand -base64 32)"
)


def _encodable(value: SecretStr) -> SecretStr:
    try:
        value.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    return value


class DeploymentSettings(BaseSettings):
    """Which of several deployments this is."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    namespace: str = Field(
        default="subtokens",
        pattern=r"^[A-Za-z0-9_.-]{1,40}$",
        description="prefix of every key and queue, so that two deployments can share a Redis",
    )


class StoreSettings(NeverPickled, DeploymentSettings):
    """What a reader of tokens needs: the store, the key and the partner."""

    partners_file: Path | None = Field(
        default=None,
        description="a TOML file with a table [[partner]] for each of several, instead",
    )
    partner_id: PartnerId | None = Field(
        default=None,
        validate_default=True,
        description="your partner's full account id, such as T11200000",
    )
    store_url: RedisUrl = Field(
        default=SecretStr("redis://127.0.0.1:6379/1"),
        description="Redis that keeps the tokens; give it noeviction and an append-only file",
    )
    reader_keys: SecretStr = Field(
        default=SecretStr(""),
        description="for readers of one partner's tokens, instead of the next: what subtokens keys "
        "derive prints",
    )
    encryption_keys: SecretStr = Field(
        default=SecretStr(""), validate_default=True, description=_KEYS_MEANING
    )

    @field_validator("reader_keys", "encryption_keys")
    @classmethod
    def _check_keys(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            parse_encryption_keys(value.get_secret_value())
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _check_one_kind_of_keys(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        derived = info.data.get("reader_keys")
        if derived is None:  # it is unusable, which is told already
            return value
        if value.get_secret_value() and derived.get_secret_value():
            raise ValueError(
                f"stands beside {PREFIX}READER_KEYS and opens every partner's: one of the two"
            )
        if not (value.get_secret_value() or derived.get_secret_value()):
            raise ValueError("is not set")
        return value

    @cached_property
    def master_keys(self) -> dict[str, bytes]:
        """Key id to 32 secret bytes, in order; the first seals."""
        return parse_encryption_keys(self.encryption_keys.get_secret_value())

    @cached_property
    def derived_keys(self) -> dict[str, bytes]:
        """A reader's own keys, of one partner alone; none where it holds the master keys."""
        text = self.reader_keys.get_secret_value()
        return parse_encryption_keys(text) if text else {}

    @property
    def partner_ids(self) -> tuple[str, ...]:
        """The partners that are known here; none: any may be named."""
        return (self.partner_id,) if self.partner_id else ()

    def chosen_partner_id(self, partner_id: str | None = None) -> str:
        """The partner that is meant; it may be left out where one alone is configured.

        Raises InputError.
        """
        known = self.partner_ids
        chosen = partner_id or self.partner_id or (known[0] if len(known) == 1 else None)
        if chosen is None:
            among = f"of {', '.join(known)}" if known else f"or set {PREFIX}PARTNER_ID"
            named = "by partner_id=, or by --partner before a command's name"
            raise InputError(f"which partner is meant? name one {among}, {named}")
        if checked_partner_id(chosen) not in known and known:
            raise InputError(
                f"partner {chosen} is not configured here; known are: {', '.join(known)}"
            )
        return chosen


class Settings(StoreSettings):
    """What the workers need besides: the credential, the upstream, the broker, limits and times."""

    encryption_keys: SecretStr = Field(min_length=1, description=_KEYS_MEANING)  # workers seal
    client_id: ClientId | None = Field(
        default=None, validate_default=True, description="your API client's id at Dintero"
    )
    client_secret: Annotated[SecretStr, AfterValidator(_encodable)] | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="your API client's secret at Dintero",
    )
    base_url: UpstreamUrl = Field(
        default="https://api.dintero.com/v1", description="the upstream; https, or http on loopback"
    )
    upstream_ca_file: CaFile = Field(
        default="", description="certificates that the upstream's is verified by, not the usual"
    )
    broker_url: RedisServerUrl = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="Redis that carries the tickets"
    )
    result_url: RedisServerUrl | None = Field(
        default=None, description="Celery's result backend; the broker's Redis unless set"
    )
    token_kind: TokenKind = Field(
        default="exchange",
        description="exchange: store the exchange endpoint's own answer; "
        "account: spend it on one more call for the account's token",
    )
    audience: Audience = Field(
        default="partner", description="whose audience that further call names: partner or account"
    )
    rate_limit: float = Field(
        default=50, gt=0, le=1_000_000, description="upstream calls a second, all workers together"
    )
    concurrency: int = Field(
        default=50, ge=1, le=2_000, description="calls in flight at once in one worker process"
    )
    batch_size: int = Field(
        default=100, ge=1, le=1_000, description="accounts claimed or completed by one command"
    )
    call_timeout_seconds: float = Field(default=10, gt=0, description="limit of one upstream call")
    batch_deadline_seconds: float = Field(
        default=20, gt=0, description="how long one ticket goes on claiming before it hands back"
    )
    soft_limit_seconds: float = Field(default=40, gt=0, description="a ticket is asked to stop")
    hard_limit_seconds: float = Field(default=50, gt=0, description="a ticket's process is killed")
    lease_seconds: float = Field(
        default=60, gt=0, description="a claim not completed by then is due again"
    )
    visibility_timeout_seconds: int = Field(
        default=300, gt=0, description="an unacknowledged message is delivered again after this"
    )
    run_timeout_seconds: float = Field(
        default=3600,
        gt=0,
        le=86_400,
        description="a run ends by then with the truth, unless told otherwise",
    )
    discovery_interval_seconds: float = Field(
        default=3600, ge=0, description="how often the account list is walked; 0: only when asked"
    )
    quarantine_after: int = Field(
        default=5,
        ge=1,
        description="faults of an account's own, the same in a row, until it is tried once a day",
    )
    health_folder: str = Field(
        default="", repr=False, description="a folder where workers and beat leave signs of life"
    )
    log_format: Literal["console", "json"] = Field(default="console", description="shape of logs")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least level that is logged"
    )

    @field_validator("partner_id", "client_id", "client_secret")
    @classmethod
    def _check_one_partner_or_a_file(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        has_file = info.data.get("partners_file") is not None
        if value is None and not has_file:
            raise ValueError("is not set")
        if value is not None and has_file and info.field_name != "partner_id":
            raise ValueError(f"stands beside {PREFIX}PARTNERS_FILE, which holds it: one of the two")
        return value

    @model_validator(mode="after")
    def _check_nesting(self) -> Self:
        times = [
            "call_timeout_seconds",
            "batch_deadline_seconds",
            "soft_limit_seconds",
            "hard_limit_seconds",
            "lease_seconds",
            "visibility_timeout_seconds",
        ]
        crossed = [
            f"{_variable(shorter)} ({getattr(self, shorter):g}) must be less than "
            f"{_variable(longer)} ({getattr(self, longer):g}): "
            "a killed worker's accounts must not be claimed while it may still be alive"
            for shorter, longer in pairwise(times)
            if getattr(self, shorter) >= getattr(self, longer)
        ]
        if crossed:
            raise ValueError("\n".join(crossed))
        known = self.partner_ids  # reads the file, so that what is wrong with it is told now
        if self.partner_id and self.partner_id not in known:
            raise ValueError(f"{_variable('partner_id')} is none of {_variable('partners_file')}'s")
        return self

    @cached_property
    def partners(self) -> tuple[Partner, ...]:
        """The partners that these workers serve."""
        common = self.model_dump(include={"base_url", "rate_limit", "token_kind", "audience"})
        if self.partners_file:
            return read_partners(self.partners_file, common)
        own = self.model_dump(include={"client_id", "client_secret"}) | {"id": self.partner_id}
        return (Partner.model_validate(own | common),)

    @property
    def partner_ids(self) -> tuple[str, ...]:
        """The partners that these workers serve, by id."""
        return tuple(partner.partner_id for partner in self.partners)

    def partner(self, partner_id: str | None = None) -> Partner:
        """The configured partner of that id, or the only one. Raises InputError for another."""
        chosen = self.chosen_partner_id(partner_id)
        return next(partner for partner in self.partners if partner.partner_id == chosen)

    def files_read_by_others(self) -> list[Path]:
        """The files with secrets that other users of this machine may read."""
        files = secret_files(self.partners_file) if self.partners_file else []
        return [file for file in files if file.stat().st_mode & 0o044]


def parse_encryption_keys(text: str) -> dict[str, bytes]:
    """Read `id:base64[,id:base64…]`: ids of 1 to 16 letters or digits, keys of 32 bytes.

    Raises ValueError, which never repeats key material.
    """
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(text.split(","), start=1):
        key_id, colon, encoded = entry.strip().partition(":")
        if not (colon and key_id.isascii() and key_id.isalnum() and len(key_id) <= 16):
            raise ValueError(f"entry {number} must be id:base64 with an id of 1-16 letters, digits")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"entry {number} ({key_id}) is not base64 after its colon") from None
        if len(key) != 32:
            raise ValueError(f"entry {number} ({key_id}) holds {len(key)} bytes, 32 are needed")
        if key_id in keys:
            raise ValueError(f"the id {key_id} stands twice")
        keys[key_id] = key
    return keys


def load(kind: type[S]) -> S:
    """Read settings of `kind` from the environment and .env.

    Raises SettingsError, which names every bad setting with its remedy and no value.
    """
    no_values: dict[str, Any] = {}  # the environment fills what a checker takes for missing
    try:
        return kind(**no_values)
    except UnicodeDecodeError:
        raise SettingsError([".env is not UTF-8 text; save it as UTF-8"]) from None
    except OSError as error:
        problem = f".env cannot be read ({error.strerror}); let this user read it"
        raise SettingsError([problem]) from None
    except ValidationError as error:
        told = (_problem(kind, item) for item in error.errors())
        raise SettingsError([line for text in told for line in text.splitlines()]) from None


def _problem(kind: type[DeploymentSettings], item: object) -> str:
    assert isinstance(item, dict)  # noqa: S101 - pydantic's ErrorDetails
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    if item["type"] == "missing":
        message = "is not set"
    elif item["type"] in {"too_short", "string_too_short"}:
        message = "is empty"
    return f"{_variable(name)} {message} ({kind.model_fields[name].description})"


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"
