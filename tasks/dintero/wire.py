"""The answers as they come over the wire, strictly validated.

Sources: https://docs.dintero.com/management-auth-api/authenticate/aid_auths_oauth_exchange_token_post
and https://docs.dintero.com/docs/partners/list-merchants
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from ...config.secrecy import NeverPickled
from .errors import InvalidAnswerError

TEN_YEARS_SECONDS = 315_360_000
LONGEST_RETRY_AFTER_SECONDS = 3600.0


class TokenAnswer(NeverPickled, BaseModel):
    """AccessToken: what the three token endpoints answer with.

    Strict: an `expires_in` that is text, zero, negative or beyond ten years is refused. A bearer
    is printable ASCII (RFC 6750, 2.1): anything else could smuggle a header line.
    """

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    access_token: Annotated[SecretStr, Field(min_length=1, max_length=16_384)]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(gt=0, le=TEN_YEARS_SECONDS)]
    refresh_token: SecretStr | None = None


class Company(BaseModel):
    """The part of a sub-account's company that is kept: its display name."""

    display_name: str | None = None
    business_name: str | None = None


class ListedAccount(BaseModel):
    """One element of the account list; personal fields are dropped as they are read."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    account_id: str
    active: bool = False
    livemode: bool = False
    deleted_at: str | None = None
    company: Company | None = None
    paging_token: str | None = None

    @property
    def display_name(self) -> str:
        """A name for people, or an empty text."""
        company = self.company or Company()
        return (company.display_name or company.business_name or "")[:80]


_ACCOUNTS = TypeAdapter(list[ListedAccount])


def parse_token(call: str, body: bytes) -> TokenAnswer:
    """Read a token answer. Raises InvalidAnswerError, naming the fields at fault, not values."""
    try:
        answer = TokenAnswer.model_validate_json(body)
    except ValidationError as error:
        raise InvalidAnswerError(call, _faults(error)) from None
    token = answer.access_token.get_secret_value()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidAnswerError(call, "access_token is not a bearer token of printable ASCII")
    return answer


def parse_accounts(call: str, body: bytes) -> list[ListedAccount]:
    """Read one page of the account list, a bare array. Raises InvalidAnswerError."""
    try:
        return _ACCOUNTS.validate_json(body)
    except ValidationError as error:
        raise InvalidAnswerError(call, _faults(error)) from None


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: a number or a date).

    None if it is missing or makes no sense; never more than an hour.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            asked = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # the latter for numbers beyond any date
            return None
        asked = asked if asked.tzinfo else asked.replace(tzinfo=UTC)
        seconds = (asked - (now or datetime.now(UTC))).total_seconds()
    if not seconds >= 0:  # also nan
        return None
    return min(seconds, LONGEST_RETRY_AFTER_SECONDS)


def _faults(error: ValidationError) -> str:
    faults = [
        f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['type']}"
        for item in error.errors(include_input=False, include_context=False, include_url=False)
    ]
    return "the answer is not as documented: " + "; ".join(faults[:4])
