"""What celery beat sends: one entry, whatever the number of tokens."""

from typing import Any

from .queues import SWEEP_QUEUE

SWEEP_INTERVAL_SECONDS = 1.0


def beat_schedule() -> dict[str, dict[str, Any]]:
    """The beat entry that keeps a fleet going; merge it into your own app's beat_schedule.

    A sweep that no worker took within its second is worthless, as the next is there: it expires.
    """
    return {
        "renew-due-tokens": {
            "task": "subtokens.renew_due",
            "schedule": SWEEP_INTERVAL_SECONDS,
            "options": {"expires": SWEEP_INTERVAL_SECONDS, "queue": SWEEP_QUEUE},
        }
    }
