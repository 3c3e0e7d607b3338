"""What a failed call to Dintero means for the set-up, and its remedy."""

from ...config.partners import Partner
from ...tasks.dintero.errors import (
    DinteroError,
    InvalidAnswerError,
    MisaddressedError,
    ThrottledError,
    UnreachableError,
)
from .finding import Finding, doubtful, failed


def blamed(name: str, error: DinteroError, partner: Partner, remedies: dict[int, str]) -> Finding:
    """A failed call as a finding; `remedies` by status come before those that fit every call."""
    if isinstance(error, ThrottledError):
        remedy = "nothing is wrong here; if it goes on, lower SUBTOKENS_RATE_LIMIT"
        return doubtful(name, f"{error}: Dintero asks for fewer calls", remedy)
    remedy = remedies.get(error.status or 0) or _usual_remedy(error, partner)
    return failed(name, str(error), remedy)


def _usual_remedy(error: DinteroError, partner: Partner) -> str:
    if isinstance(error, UnreachableError):
        return (
            f"can this machine reach {partner.base_url}? network, DNS, firewall, TLS certificate "
            "(SUBTOKENS_UPSTREAM_CA_FILE); or SUBTOKENS_BASE_URL is wrong"
        )
    if isinstance(error, MisaddressedError | InvalidAnswerError) or error.status in {404, 405}:
        return "set SUBTOKENS_BASE_URL to the API's own address, https://api.dintero.com/v1"
    if error.status is not None and error.status >= 500:
        return "the fault is Dintero's: try again later"
    return "ask Dintero why, with the time of this call"
