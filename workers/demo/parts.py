"""What the demo starts: a private Redis, the sandbox, workers for each lane, and beat."""

import base64
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...config.errors import SubtokensError
from ...config.queues import NAMESPACE, RENEWER_QUEUES, WORKER_QUEUES
from ..private_redis import PrivateRedis
from ..processes import Child
from ..sandbox import SandboxOptions

_BATCH = "subtokens.workers.demo.batch"
# A process of its own for sweeps and renewals: they never wait behind a fan-out.
_WORKERS = {"renewals": RENEWER_QUEUES, "batch": ("celery", *WORKER_QUEUES)}
_READY_SECONDS = 30.0


class DemoFailedError(SubtokensError):
    """A part of the demo did not start; the text ends with its last words."""


@contextmanager
def demo_parts(options: SandboxOptions, rate: float) -> Iterator[dict[str, str]]:
    """Start all parts, and end all of them whatever happens. Raises DemoFailedError.

    Gives the environment in which a worker or a batch job uses them.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="subtokens-demo-")))
        redis = stack.enter_context(PrivateRedis())
        base = {k: v for k, v in os.environ.items() if not k.startswith("SUBTOKENS_")}
        base["TMPDIR"] = str(folder)  # what a killed worker leaves goes with the folder
        sandbox = stack.enter_context(
            Child.python(
                "subtokens.workers.cli",
                *("sandbox", "--json", "--port=0", f"--accounts={options.accounts}"),
                f"--latency={options.latency_seconds}",
                f"--lifetime={options.lifetime_seconds}",
                environment=base,
                log=folder / "sandbox.log",
            )
        )
        announced = _await(sandbox, lambda said: "\n" in said)
        environment = base | json.loads(announced.splitlines()[0])
        environment |= {
            "SUBTOKENS_NAMESPACE": NAMESPACE,
            "SUBTOKENS_BROKER_URL": redis.url(0),
            "SUBTOKENS_STORE_URL": redis.url(1),
            "SUBTOKENS_RATE_LIMIT": str(rate),
            "SUBTOKENS_ENCRYPTION_KEYS": "demo:"
            + base64.b64encode(secrets.token_bytes(32)).decode(),
        }

        def celery(name: str, *command: str) -> Child:
            child = Child.python(
                "celery",
                "-A",
                _BATCH,
                *command,
                environment=environment,
                log=folder / f"{name}.log",
            )
            # Nothing here is worth a warm shutdown, which waits for a ticket under way.
            stack.callback(child.kill)
            return child

        workers = [
            celery(
                name,
                *("worker", f"--hostname={name}@demo", "--queues", ",".join(queues)),
                *("--concurrency=2", "--loglevel=INFO", "--without-mingle", "--without-gossip"),
            )
            for name, queues in _WORKERS.items()
        ]
        celery("beat", "beat", "--loglevel=INFO", "--schedule", str(folder / "beat"))
        for worker in workers:
            _await(worker, lambda said: "ready." in said)
        yield environment


def _await(child: Child, is_ready: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + _READY_SECONDS
    while not is_ready(said := child.said()):
        if not child.is_alive or time.monotonic() > deadline:
            raise DemoFailedError(f"a part of the demo did not start: {said[-2000:]}")
        time.sleep(0.05)
    return said
