"""The runtime of a process: it is never carried over a fork."""

import os
import subprocess
import sys

FORKS = """
import os, sys
from subtokens.tasks.runtime import forget_runtime, runtime

async def answer():
    return os.getpid()

assert runtime().call(answer()) == os.getpid()
child = os.fork()
if not child and {does_work}:
    assert runtime().call(answer()) == os.getpid()
    forget_runtime()
if not child:
    sys.exit(7)  # as any program ends, with what it was told to do then
_, status = os.waitpid(child, 0)
assert runtime().call(answer()) == os.getpid()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def end_of(program, environment):
    """How a program ends that is given ten seconds; None if it does not."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None


def test_a_process_that_was_forked_and_does_nothing_of_ours_ends(environment):
    assert end_of(FORKS.format(does_work=False), environment) == 7


def test_a_process_that_was_forked_has_a_runtime_of_its_own_and_ends(environment):
    assert end_of(FORKS.format(does_work=True), environment) == 7
