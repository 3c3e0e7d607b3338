"""Account and partner ids, as Dintero's API reference defines them.

Source: https://docs.dintero.com/management-auth-api/authenticate/aid_auths_oauth_exchange_token_post
"""

import re
from collections.abc import Iterable

from .errors import InputError

PARTNER_ID = re.compile(r"[PT][0-9]{3}00000")
ACCOUNT_ID = re.compile(r"[PT][0-9]{8}")
RUN_ID = re.compile(r"[A-Za-z0-9_.-]{1,155}")  # a colon would lead to the keys of another run


def checked_partner_id(value: str) -> str:
    """Return `value` if it is a partner's full account id, such as T11200000.

    Raises InputError otherwise.
    """
    if not isinstance(value, str) or not PARTNER_ID.fullmatch(value):
        raise InputError(
            f"{value!r:.40} is not a partner id: T (test) or P (production), "
            "three digits and five zeros, such as T11200000"
        )
    return value


def checked_account_id(value: str, partner_id: str) -> str:
    """Return `value` if it may be a sub-account of `partner_id`: T or P and eight digits.

    The letter must be the partner's own: test and production never mix.
    Raises InputError otherwise.
    """
    if not isinstance(value, str) or not ACCOUNT_ID.fullmatch(value):
        raise InputError(
            f"{value!r:.40} is not an account id: T (test) or P (production) "
            "and eight digits, such as T11200001"
        )
    if value[0] != partner_id[0]:
        raise InputError(
            f"{value} and partner {partner_id} are of different environments "
            "(T is test, P is production)"
        )
    if value == partner_id:
        raise InputError(f"{value} is the partner itself, not one of its sub-accounts")
    return value


def checked_account_ids(values: Iterable[str], partner_id: str) -> list[str]:
    """Return the ids without repeats, in their order. Raises InputError at the first bad one."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"expected a list of account ids, got {values!r:.40}")
    return list(dict.fromkeys(checked_account_id(value, partner_id) for value in values))


def checked_run_id(value: str) -> str:
    """Return `value` if a run may be named so, as its step's task is. Raises InputError."""
    if not isinstance(value, str) or not RUN_ID.fullmatch(value):
        raise InputError(
            f"{value!r:.40} is no id for a step's task, as that names its run: "
            "1 to 155 letters, digits, _ . -"
        )
    return value
