"""Sending what waits in the store: what fails for now is sent later, and nothing is dropped."""

import json

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from subtokens.tasks import waves
from subtokens.tasks.look import release

RUN = "a-run"
MESSAGE = json.dumps({"task": "settle", "args": [], "kwargs": {}, "options": {"task_id": RUN}})
AWAY = [OperationalError("the broker is away"), RedisConnectionError("the result backend is away")]


class App(Celery):
    """Sends nothing while `error` is set, as an app whose broker or result backend is away."""

    error: Exception | None = None

    def send_task(self, *_arguments, **_options):
        if self.error:
            raise self.error


@pytest.fixture
def app():
    return App("somebodys", set_as_current=False)


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__module__)
async def test_a_step_that_cannot_be_sent_for_now_is_sent_once_it_can_be(
    fleet_of, app, clock, error
):
    fleet = fleet_of(112)
    await fleet.runs.open(RUN, 60, MESSAGE)
    await fleet.runs.seal(RUN)
    app.error = error
    await release(fleet, app, [RUN])
    clock.push(3)
    app.error = None

    assert await fleet.runs.ripe() == [RUN]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__module__)
async def test_a_wave_that_cannot_be_sent_for_now_fails_no_account(fleet_of, app, clock, error):
    fleet = fleet_of(112)
    await fleet.runs.open(RUN, 60, "the step")
    await fleet.runs.keep_message(RUN, MESSAGE, 10)
    await fleet.runs.enlist(RUN, ["T11200001"])
    await fleet.runs.seal(RUN)
    app.error = error

    with pytest.raises(type(error)):
        await waves.send_wave(fleet, app, RUN)

    summary = await fleet.runs.summary(RUN)
    assert (summary.open, summary.failed) == (1, {})
