"""A cancellation that was lost on the way is found again here."""

import asyncio


def heed_cancellation() -> None:
    """Raise asyncio.CancelledError if this task was asked to end; for loops that call Redis.

    Python 3.11's asyncio.wait_for, by which redis-py sends, swallows a cancellation that comes
    when it is done (https://github.com/python/cpython/issues/86296).
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError
