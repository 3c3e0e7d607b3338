"""The partners that are served: one from SUBTOKENS_*, or several from a TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from .ids import PARTNER_ID
from .secrecy import NeverPickled
from .urls import UpstreamUrl

TokenKind = Literal["exchange", "account"]
Audience = Literal["partner", "account"]


def _partner_id(value: str) -> str:
    if not PARTNER_ID.fullmatch(value):
        raise ValueError("must be T (test) or P (production), three digits and five zeros")
    return value


def _client_id(value: str) -> str:
    if ":" in value:
        raise ValueError("must not hold a colon; the secret stands beside it, not in it")
    return value


PartnerId = Annotated[str, AfterValidator(_partner_id)]
ClientId = Annotated[str, Field(min_length=1), AfterValidator(_client_id)]


class Partner(NeverPickled, BaseModel):
    """One partner's credential and limits."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    partner_id: PartnerId = Field(alias="id")
    client_id: ClientId
    client_secret: SecretStr = Field(min_length=1)
    base_url: UpstreamUrl
    rate_limit: float = Field(gt=0, le=1_000_000)
    token_kind: TokenKind
    audience: Audience

    @property
    def calls_per_exchange(self) -> int:
        """Upstream calls that one account's token takes."""
        return 2 if self.token_kind == "account" else 1


def read_partners(file: Path, defaults: dict[str, Any]) -> tuple[Partner, ...]:
    """The partners of a TOML file: a table `[[partner]]` for each, with `id`, `client_id`,
    `client_secret` or `client_secret_file`, and what differs from the defaults.

    Raises ValueError, whose lines name entry and key and repeat no value.
    """  # noqa: D205 - one sentence
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read as TOML: {type(error).__name__}") from None
    entries = content.get("partner")
    if not isinstance(entries, list) or not entries or set(content) != {"partner"}:
        raise ValueError(f"{file} must hold tables [[partner]], one for each, and nothing else")
    partners: dict[str, Partner] = {}
    problems: list[str] = []
    for number, entry in enumerate(entries, start=1):
        try:
            partner = Partner.model_validate(defaults | _with_secret(entry, file.parent))
        except ValidationError as error:
            problems += [
                f"{file}, partner {number}: {'.'.join(map(str, item['loc']))} "
                f"{item['msg'].removeprefix('Value error, ')}"
                for item in error.errors(include_input=False, include_url=False)
            ]
        except ValueError as error:
            problems.append(f"{file}, partner {number}: {error}")
        else:
            if partner.partner_id in partners:
                problems.append(f"{file}, partner {number}: {partner.partner_id} stands twice")
            partners[partner.partner_id] = partner
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(partners.values())


def secret_files(file: Path) -> list[Path]:
    """The file itself and those that it names, for a look at who may read them."""
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("partner", [])
    named = [entry["client_secret_file"] for entry in entries if "client_secret_file" in entry]
    return [file, *(file.parent / name for name in named)]


def _with_secret(entry: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401 - any TOML
    if not isinstance(entry, dict):
        raise ValueError("must be a table")  # noqa: TRY004 - one kind of error for all of them
    given = dict(entry)
    if "client_secret_file" in given:
        name = given.pop("client_secret_file")
        if "client_secret" in given:
            raise ValueError("client_secret and client_secret_file are both given: one of the two")
        try:
            given["client_secret"] = (folder / str(name)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"client_secret_file {name} cannot be read: {type(error).__name__}"
            ) from None
    return given
