"""Which kind of token an account's API takes, and which settings ask for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...config.partners import Partner
from ...tasks.dintero.errors import DinteroError, RefusedError, UnauthorizedError
from .finding import Finding, doubtful, failed, well


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of token with, where it has one, its audience."""

    token_kind: str
    audience: str = ""

    def __str__(self) -> str:
        return f"{self.token_kind}, audience {self.audience}" if self.audience else self.token_kind

    def settings(self, *, from_file: bool) -> str:
        """What to write to choose it: of the environment, or in the partners' file."""
        pairs = [("token_kind", self.token_kind)]
        pairs += [("audience", self.audience)] if self.audience else []
        if from_file:
            return ", ".join(f'{name} = "{value}"' for name, value in pairs)
        return " ".join(f"SUBTOKENS_{name.upper()}={value}" for name, value in pairs)


EXCHANGE = Kind("exchange")
KINDS = (EXCHANGE, Kind("account", "partner"), Kind("account", "account"))


def configured_kind(partner: Partner) -> Kind:
    """The kind that the settings ask for."""
    is_exchange = partner.token_kind == "exchange"
    return EXCHANGE if is_exchange else Kind("account", partner.audience)


def token_kind(
    name: str,
    tried: Mapping[Kind, DinteroError | None],
    configured: Kind,
    *,
    from_file: bool,
) -> Finding:
    """Judge by how the account's settings answered each kind; None: they were read with it."""
    working = [kind for kind in KINDS if tried[kind] is None]
    told = f"accepted: {'; '.join(map(str, working)) or 'none'}"
    refused = [f"{kind} ({tried[kind]})" for kind in KINDS if tried[kind] is not None]
    told += f" · not: {'; '.join(refused)}" if refused else ""
    if configured in working:
        return well(name, f"{configured} is set and works ({told})")
    if not isinstance(tried[configured], RefusedError | UnauthorizedError):
        remedy = "try again: the upstream's trouble says nothing of the token"
        return doubtful(name, f"{configured} is set and could not be tried ({told})", remedy)
    if working:
        remedy = f"set {working[0].settings(from_file=from_file)}"
    else:
        remedy = "ask Dintero which token reads GET /accounts/{id}/management/settings"
    return failed(name, f"{configured} is set and does not work ({told})", remedy)
