"""Odd arguments for every task: InputError before anything is spent, or the work, no traceback."""

import math

import pytest
from celery.exceptions import Ignore

import subtokens
from subtokens.config.settings import Settings
from subtokens.tasks.runtime import forget_runtime
from subtokens.workers.application import make_app

A, PARTNER = "T11200001", "T11200000"
NUMBERS = [-1, 0, 1, True, 1e308, -math.inf, math.inf, math.nan, 10**400]
TEXTS = ["", " ", "nan", "inf", "all", "T112", A, "P11200001", PARTNER, "💥", "\0", "x" * 100_000]
OTHERS = [None, b"x", [], {}, [None], [1], [[A]], [A, 5], [A] * 3, {"task": 5}, {"a": 1}]
ODD = [*NUMBERS, *TEXTS, *OTHERS]
# Task: its arguments, and the options beside them that are tried.
TASKS = {
    "exchange": ([A], {"timeout": 1, "retry": False}),
    "fan_out": ([[A]], {"account_ids": [A], "selection": "s", "timeout": 1, "policy": 1}),
    "ensure": (
        [[A]],
        {"valid_for": 1, "account_ids": [A], "selection": "s", "timeout": 1, "policy": 1},
    ),
    "for_each_account": (
        [{"task": "no.such"}],
        {"account_ids": [A], "valid_for": 1, "at_once": 1, "timeout": 1, "policy": 1},
    ),
    "account_done": (["run", A, ""], {}),
    "reject": ([A, 1], {}),
    "forget": ([[A]], {}),
}


@pytest.fixture
def run(environment, redis, monkeypatch):
    """Runs a task in this process as a worker would, with no account enrolled and no upstream."""
    for name, value in (environment | {"SUBTOKENS_BASE_URL": "http://127.0.0.1:1/v1"}).items():
        monkeypatch.setenv(name, value)
    app = make_app(Settings())
    assert subtokens.work  # a process that passed through without Celery loads them now
    app.loader.import_default_modules()
    app.finalize()

    def run(name, arguments, options):
        task = app.tasks[f"subtokens.{name}"]
        task.push_request(id="run", is_eager=False, args=arguments, kwargs=options)
        try:
            return task.run(*arguments, **options)
        finally:
            task.pop_request()

    forget_runtime()
    yield run
    forget_runtime()
    app.close()


def odd_calls(name):
    arguments, options = TASKS[name]
    must = {"valid_for": 1} if name == "ensure" else {}
    must |= {"partner_id": PARTNER} if name == "account_done" else {}
    for odd in ODD:
        for place in range(len(arguments)):
            yield [*arguments[:place], odd, *arguments[place + 1 :]], must
        for option in [*options, "partner_id"]:
            yield arguments, must | {option: odd}


@pytest.mark.parametrize("name", TASKS)
def test_no_argument_makes_a_task_fall_over(run, name):
    for arguments, options in odd_calls(name):
        try:
            run(name, arguments, options)
        except (Ignore, subtokens.RunFailedError):
            continue  # it waits for its run, or says how that ended
        except subtokens.InputError as error:
            told = str(error)
        except Exception as error:
            error.add_note(f"{name} {repr(arguments)[:200]} {repr(options)[:200]}")
            raise
        else:
            continue
        assert 0 < len(told) < 400


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd != PARTNER], ids=lambda o: repr(o)[:20])
def test_a_ticket_of_odd_words_is_refused(run, odd):
    with pytest.raises(subtokens.InputError, match="is neither of"):
        run("work", [PARTNER, "ticket", odd], {})
    with pytest.raises(subtokens.InputError):
        run("work", [odd or "T112", "ticket", "renew"], {})
    if not isinstance(odd, str):
        with pytest.raises(subtokens.InputError, match="is none"):
            run("work", [PARTNER, odd, "renew"], {})
