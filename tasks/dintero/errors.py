"""What a failed call means: whose door it is laid at, and how long to wait if the answer says so.

DinteroError
├── UnreachableError     no answer: connection, TLS, timeout              upstream
├── ThrottledError       429                                              upstream
├── UpstreamError        5xx, or a status that the API does not have      upstream
├── InvalidAnswerError   2xx whose body is not what was promised          upstream
├── UnauthorizedError    401: the bearer or the Basic secret              credential
├── RefusedError         400, 403, 404, 409, 410, 422                     account
└── MisaddressedError    a redirect, which is never followed              us
"""

from enum import StrEnum

from ...config.errors import SubtokensError


class Blame(StrEnum):
    """Whose fault a failure is."""

    ACCOUNT = "account"
    CREDENTIAL = "credential"
    UPSTREAM = "upstream"
    US = "us"


class DinteroError(SubtokensError):
    """A call to Dintero failed. The text holds the call's kind and the status, never a body."""

    blame: Blame = Blame.UPSTREAM
    reason = "failed"

    def __init__(
        self,
        call: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.call = call
        self.detail = detail
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        if status and self.blame is Blame.ACCOUNT:
            self.reason = f"{self.reason}_{status}"  # a 404 after three 403s is another matter
        super().__init__(call, detail)

    def __str__(self) -> str:
        return f"{self.call}: {self.detail}"


class UnreachableError(DinteroError):
    """No answer came: refused or broken connection, TLS failure, or the time limit."""

    reason = "unreachable"


class ThrottledError(DinteroError):
    """Dintero asks for fewer calls (429); `retry_after_seconds` is its wish, if it gave one."""

    reason = "throttled"


class UpstreamError(DinteroError):
    """Dintero failed (5xx), or answered with a status that its API does not have."""

    reason = "upstream_failed"


class InvalidAnswerError(DinteroError):
    """The answer says success, but is not what the API promises; the old token is kept."""

    reason = "invalid_answer"


class UnauthorizedError(DinteroError):
    """The credential or the bearer was not accepted (401)."""

    blame = Blame.CREDENTIAL
    reason = "unauthorized"


class RefusedError(DinteroError):
    """Dintero will not do this for this account (400, 403, 404, …); asking again will not help."""

    blame = Blame.ACCOUNT
    reason = "refused"


class MisaddressedError(DinteroError):
    """A redirect: SUBTOKENS_BASE_URL is not the API's own address. Redirects are not followed."""

    blame = Blame.US
    reason = "misaddressed"


_BY_STATUS: dict[int, type[DinteroError]] = {
    401: UnauthorizedError,
    429: ThrottledError,
    **dict.fromkeys((400, 403, 404, 409, 410, 422), RefusedError),
}


def error_for_status(
    call: str, status: int, *, retry_after_seconds: float | None = None
) -> DinteroError:
    """The error that a status other than 200 stands for."""
    if 300 <= status < 400:
        return MisaddressedError(
            call, f"answered with redirect {status}; check SUBTOKENS_BASE_URL", status=status
        )
    kind = _BY_STATUS.get(status, UpstreamError)
    return kind(call, f"answered {status}", status=status, retry_after_seconds=retry_after_seconds)
