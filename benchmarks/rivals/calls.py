"""The calls for one account, as usually written: one httpx.Client and one Redis per process.

Nothing is sealed, limited, claimed or recorded beside the token.
"""

import os
from functools import cache

import httpx
from redis import Redis

PARTNER_ID = os.environ["SUBTOKENS_PARTNER_ID"]
TAKES_TWO_CALLS = os.environ.get("SUBTOKENS_TOKEN_KIND") == "account"
URL = os.environ["SUBTOKENS_BASE_URL"] + "/accounts"
AUDIENCE = f"https://api.dintero.com/v1/accounts/{PARTNER_ID}"
GRANT = {"grant_type": "client_credentials", "audience": AUDIENCE}
PARTNER_CALL = {
    "url": f"{URL}/{PARTNER_ID}/auth/token",
    "auth": (os.environ["SUBTOKENS_CLIENT_ID"], os.environ["SUBTOKENS_CLIENT_SECRET"]),
    "json": GRANT,
}


def exchange_call(account_id: str, partner_token: str) -> dict[str, object]:
    return {
        "url": f"{URL}/{PARTNER_ID}/auth/exchange_token",
        "headers": {"Authorization": f"Bearer {partner_token}"},
        "json": {"account_id": account_id},
    }


def account_call(account_id: str, exchange_token: str) -> dict[str, object]:
    return {
        "url": f"{URL}/{account_id}/auth/token",
        "headers": {"Authorization": f"Bearer {exchange_token}"},
        "json": GRANT,
    }


def kept(account_id: str) -> str:
    return f"rival:{account_id}"


@cache
def parts() -> tuple[httpx.Client, Redis, str]:
    """Made by the first task of a process."""
    client = httpx.Client(limits=httpx.Limits(max_connections=100))
    token = client.post(**PARTNER_CALL).json()["access_token"]
    return client, Redis.from_url(os.environ["SUBTOKENS_STORE_URL"]), token


def exchange(account_id: str) -> None:
    client, redis, partner_token = parts()
    answer = client.post(**exchange_call(account_id, partner_token)).raise_for_status().json()
    if TAKES_TWO_CALLS:
        call = account_call(account_id, answer["access_token"])
        answer = client.post(**call).raise_for_status().json()
    redis.set(kept(account_id), answer["access_token"], ex=answer["expires_in"])
