"""What holds a secret is not pickled: a queue, a cache or a result would keep it in clear."""

from typing import NoReturn


class NeverPickled:
    """Base of what holds secrets; masked in every repr, it would be in clear in a pickle."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        """Raise TypeError."""
        raise TypeError(
            f"{type(self).__name__} holds secrets and is never pickled: pass ids, and read it "
            "where it is used"
        )
