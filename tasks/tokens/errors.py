"""Why a token cannot be handed out or opened; each text says what to do.

TokenError
├── NoTokenError         the store holds no valid token for the account
└── SealError            a record cannot be opened: wrong key, moved, cut or altered
"""

from ...config.errors import SubtokensError


class TokenError(SubtokensError):
    """A token cannot be handed out."""


class NoTokenError(TokenError):
    """No token of the account lasts long enough or is new enough; the text says why."""


class SealError(TokenError):
    """A sealed record cannot be opened; the account's next exchange replaces it."""
