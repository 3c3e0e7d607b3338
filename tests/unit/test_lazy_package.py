"""A task is found under its name by whatever door its module came in before."""

import subprocess
import sys

BY_ANOTHER_DOOR = """
import subtokens.tasks.tokens.store  # as a reader comes: without Celery, no task is loaded
import celery
import subtokens.tasks.ensure, subtokens.tasks.exchange, subtokens.tasks.reject
import subtokens

for name in ("ensure", "exchange", "reject", "work", "fan_out"):
    assert getattr(subtokens, name).name == f"subtokens.{name}", name
"""


def test_a_tasks_module_of_the_same_name_does_not_hide_the_task() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BY_ANOTHER_DOOR], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
