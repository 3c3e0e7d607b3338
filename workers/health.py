"""Signs of life in a folder, for healthchecks: `python -m subtokens.workers.health ready|alive`.

`<name>.ready` is there while a worker consumes. `<name>.alive` is touched by tasks that came from
the broker and ended in a pool process; by beat, when the broker has taken a message of it.
"""

import argparse
import atexit
import os
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

FOLDER_VARIABLE = "SUBTOKENS_HEALTH_FOLDER"
BEAT = "beat"
# Any worker of the queue may get the pulse that another sent, so each sends many of them; at odd
# times, as those in step with the workers' own waits of a second might all go to the same one.
PULSE_SECONDS = (1.0, 3.0)
ALIVE_SECONDS = 30.0


class Signs:
    """The files of one process, by its name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.ready, self.alive = (folder / f"{quote(name, '@')}.{k}" for k in ("ready", "alive"))

    def clear(self) -> None:
        """Leave none; what is found at a start was left by a process that was killed."""
        self.ready.unlink(missing_ok=True)
        self.alive.unlink(missing_ok=True)


def leave_signs_of_worker(folder: Path) -> None:
    """Have this process leave signs if it becomes a worker."""
    from celery import signals

    folder.mkdir(parents=True, exist_ok=True)

    def set_up(sender: str, **_: Any) -> None:  # noqa: ANN401 - Celery's signals, as all below
        signs = Signs(folder, sender)  # before the pool forks: its processes inherit the name
        signs.clear()

        def begin(sender: Any, **_: Any) -> None:  # noqa: ANN401
            signs.ready.touch()
            _send_pulses(sender)

        signals.worker_ready.connect(begin, weak=False)
        for moment in (signals.task_prerun, signals.task_postrun):
            moment.connect(lambda **_: signs.alive.touch(), weak=False)
        signals.worker_shutting_down.connect(
            lambda **_: signs.ready.unlink(missing_ok=True), weak=False
        )
        signals.worker_shutdown.connect(lambda **_: signs.clear(), weak=False)

    signals.celeryd_after_setup.connect(set_up, weak=False)


def leave_signs_of_beat(folder: Path) -> None:
    """Have this process leave signs if it becomes beat."""
    from celery.signals import after_task_publish, beat_init

    folder.mkdir(parents=True, exist_ok=True)
    signs = Signs(folder, BEAT)

    def start(**_: Any) -> None:  # noqa: ANN401
        signs.clear()
        signs.ready.touch()
        atexit.register(signs.clear)
        after_task_publish.connect(lambda **_: signs.alive.touch(), weak=False)

    beat_init.connect(start, weak=False)


def _send_pulses(consumer: Any) -> None:  # noqa: ANN401 - Celery's worker
    """Send a task that every worker of ours knows through the broker into a pool process."""
    from ..config.logs import log
    from ..config.queues import QUEUES
    from ..tasks.signals import WATCH

    ours = [name for name in QUEUES if name in consumer.app.amqp.queues.consume_from]
    if not ours:
        return

    def send() -> None:
        consumer.timer.call_after(random.uniform(*PULSE_SECONDS), send)  # noqa: S311 - jitter
        try:
            consumer.app.send_task(
                WATCH, queue=ours[0], expires=PULSE_SECONDS[1], ignore_result=True, retry=False
            )
        except Exception as error:  # noqa: BLE001 - the worker's own loop must go on
            log.warning("pulse.not_sent", error=repr(error))

    send()


def verdict(folder: Path, kind: str, name: str | None, seconds: float) -> tuple[bool, str]:
    """Whether the named process, else all in the folder, are ready or alive; and a sentence."""
    pattern = f"{quote(name, '@')}.{kind}" if name else f"*.{kind}"
    files = sorted(folder.glob(pattern))
    if not files:
        return False, f"{name or 'nobody'} is {'not ' if name else ''}{kind} in {folder}"
    if kind == "ready":
        return True, f"ready: {', '.join(file.stem for file in files)}"
    ages = {file.stem: time.time() - file.stat().st_mtime for file in files}
    told = ", ".join(f"{stem} {age:.0f} s ago" for stem, age in ages.items())
    is_alive = max(ages.values()) <= seconds
    return is_alive, f"{'alive' if is_alive else 'silent'}: last sign of {told}"


def main() -> None:
    """Exit with 0 or 1, and say why."""
    parser = argparse.ArgumentParser(prog="python -m subtokens.workers.health", description=__doc__)
    parser.add_argument("kind", choices=("ready", "alive"))
    parser.add_argument(
        "--name", help="such as celery@host, or beat; without it, all in the folder"
    )
    parser.add_argument("--seconds", type=float, default=ALIVE_SECONDS)
    parser.add_argument("--folder", default=os.environ.get(FOLDER_VARIABLE), help=FOLDER_VARIABLE)
    options = parser.parse_args()
    if not options.folder:
        sys.exit(f"{FOLDER_VARIABLE} is not set")
    holds, sentence = verdict(Path(options.folder), options.kind, options.name, options.seconds)
    print(sentence)  # noqa: T201 - for whoever reads the healthcheck's log
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
