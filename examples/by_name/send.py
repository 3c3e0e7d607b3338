"""A pipeline by names alone: where this runs there is Celery, and no subtokens.

Run, each with the broker's Redis in SUBTOKENS_BROKER_URL:
    celery -A subtokens.workers worker             # where subtokens is set up; beat, too
    celery -A settle worker -Q settling            # where your batch runs: settle.py
    python send.py T11200001 T11200002             # wherever you like
"""

import os
import sys

from celery import Celery, chain, signature
from celery.canvas import Signature

REDIS = os.environ["SUBTOKENS_BROKER_URL"]  # every app uses it as broker and as result backend
app = Celery("sender", broker=REDIS, backend=REDIS)


def pipeline(account_ids: list[str]) -> Signature:
    return chain(
        signature(
            "subtokens.ensure",
            kwargs={"valid_for": "2h", "account_ids": account_ids},
            queue="subtokens.sweep",
        ),
        signature("settling.settle_all", args=(account_ids,), immutable=True, queue="settling"),
    )


def main() -> None:
    result = pipeline(sys.argv[1:]).delay()
    try:
        print(f"settled {result.get(timeout=3600)} accounts")
    except Exception as error:  # noqa: BLE001 - its class is subtokens', which is not here
        sys.exit(f"not settled: {error.args[0]}")


if __name__ == "__main__":
    main()
