"""What celery beat sends: one entry, whatever the number of tokens."""

from typing import Any

from .queues import SWEEP_QUEUE

SWEEP_INTERVAL_SECONDS = 1.0
# By the clock of beat's host: a worker whose own is further ahead drops every sweep.
_SWEEP_EXPIRES_SECONDS = 10.0


def beat_schedule() -> dict[str, dict[str, Any]]:
    """The beat entry that keeps a fleet going; merge it into your own app's beat_schedule.

    Sweeps expire, so that workers which come back do not go through those of the time before.
    """
    return {
        "renew-due-tokens": {
            "task": "subtokens.renew_due",
            "schedule": SWEEP_INTERVAL_SECONDS,
            "options": {"expires": _SWEEP_EXPIRES_SECONDS, "queue": SWEEP_QUEUE},
        }
    }
