"""What a sandbox is told when it starts, and in part while it runs."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: What may change while the sandbox runs; the rest holds from its start to its end.
CHANGEABLE = (
    "lifetime_seconds",
    "latency_seconds",
    "error_share",
    "throttle_share",
    "reissue",
    "revoked",
)


class SandboxOptions(BaseModel):
    """One partner at one local Dintero. Times are seconds; shares are between 0 and 1.

    Port 0 lets the system choose. A wrong value raises pydantic.ValidationError and names itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int = Field(default=0, ge=0, le=65_535)
    partner_id: str = Field(default="T11200000", pattern=r"\A[PT][0-9]{3}00000\z")
    client_id: str = Field(default="sandbox-client-id", min_length=1, pattern=r"\A[^:]+\z")
    client_secret: str = Field(default="sandbox-client-secret", min_length=1, repr=False)
    accounts: int = Field(default=500, ge=0, le=99_999)
    inactive: int = Field(default=0, ge=0)  # so many start closed, counted from the last
    lifetime_seconds: int = Field(default=14_400, ge=1)
    partner_lifetime_seconds: int = Field(default=14_400, ge=1)
    latency_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    error_share: float = Field(default=0.0, ge=0, le=1)
    throttle_share: float = Field(default=0.0, ge=0, le=1)
    refresh_tokens: bool = False
    # What an exchange gives while the account's last token lives: a new one, or that one again with
    # the seconds left to it, or, as a lying upstream does, with those it had when it was issued.
    reissue: Literal["never", "remaining", "full"] = "never"
    # From when it is set: the client is refused (401); the partner's tokens, too; or what they ask
    # for is (403). A token once revoked stays so.
    revoked: Literal["nothing", "secret", "tokens", "grant"] = "nothing"
    audience: Literal["partner", "account"] = "partner"
    accepts: Literal["exchange", "account"] = "exchange"
    seed: int = 0

    @model_validator(mode="after")
    def _parts_within_whole(self) -> Self:
        if self.inactive > self.accounts:
            raise ValueError("inactive must be at most accounts")
        if self.error_share + self.throttle_share > 1:
            raise ValueError("error_share and throttle_share must be at most 1 together")
        return self
