"""Included by a worker, it fails unexpectedly where its locals hold tokens, while a file is there.

As a fault of ours would that nobody has thought of: in the midst of the call, after its answer.
"""

import os
from pathlib import Path
from typing import Any

from celery import shared_task

from subtokens.tasks.dintero import client

HERE = Path(os.environ["FAULTY"])


def failing(parse: Any) -> Any:
    def parsed(call: str, body: bytes) -> Any:
        answer = parse(call, body)
        if HERE.exists():
            text = body.decode()
            assert not text, "unexpected"
        return answer

    return parsed


client.parse_token = failing(client.parse_token)
client.parse_accounts = failing(client.parse_accounts)


@shared_task(name="faulty.fail", queue="subtokens.exchange", ignore_result=False)
def fail(text: str) -> None:
    """A task that tells what it should not."""
    raise ValueError(text)
