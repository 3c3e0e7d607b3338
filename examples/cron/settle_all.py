"""A plain Python batch, without Celery or a broker: nightly.sh starts it when the tokens are there.

It reads the accounts as JSON, and calls Dintero as each that has a token, twenty at a time.
Run:
    subtokens accounts list --json | python settle_all.py
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx

from subtokens import SubAccountAuth, TokenReader

DINTERO = os.environ.get("SUBTOKENS_BASE_URL", "https://api.dintero.com/v1")


def settle(reader: TokenReader, dintero: httpx.Client, account_id: str) -> bool:
    auth = SubAccountAuth(reader, account_id)
    answer = dintero.get(f"/accounts/{account_id}/management/settings", auth=auth)
    return answer.is_success  # your work goes here


def main() -> int:
    account_ids = [row["account_id"] for row in json.load(sys.stdin)]
    with (
        TokenReader() as reader,
        httpx.Client(base_url=DINTERO, timeout=30) as dintero,
        ThreadPoolExecutor(max_workers=20) as pool,
    ):
        ready = reader.get_many(account_ids, valid_for="30m")  # those without a token are left out
        settled = sum(pool.map(lambda account_id: settle(reader, dintero, account_id), ready))
    print(f"settled {settled} of {len(account_ids)} accounts, {len(ready)} had a token")
    return 0 if settled == len(ready) else 1


if __name__ == "__main__":
    sys.exit(main())
