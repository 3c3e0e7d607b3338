"""Celery's configuration: what our own app sets, and what it must never set."""

import json
import ssl
from inspect import signature
from typing import Any

import pytest
from celery import Celery

import subtokens
from subtokens.config.celeryconfig import celery_configuration
from subtokens.config.queues import QUEUES
from subtokens.config.schedule import beat_schedule
from subtokens.config.settings import Settings
from subtokens.workers.application import make_app


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(
        {
            "partner_id": "T11200000",
            "client_id": "an-id",
            "client_secret": "CANARY-client-secret",
            "encryption_keys": "k1:Q0FOQVJZLW1hc3Rlci1rZXktb2YtMzItYnl0ZXMtISE=",
            **changes,
        }
    )


def configuration(**changes: Any) -> dict[str, Any]:
    return celery_configuration(settings(**changes))


def test_the_next_step_of_a_users_chain_reaches_the_users_own_queue() -> None:
    # A worker publishes it with its own app's routes and prefix: ours must have none.
    set_by_us = configuration()
    assert "task_default_queue" not in set_by_us
    assert "task_routes" not in set_by_us
    assert "task_queues" not in set_by_us
    for options in ("broker_transport_options", "result_backend_transport_options"):
        assert "global_keyprefix" not in set_by_us.get(options, {})
    assert make_app(settings()).conf.task_default_queue == "celery"


def test_unacknowledged_messages_are_kept_apart_from_other_apps_on_the_broker() -> None:
    options = configuration(namespace="fleet")["broker_transport_options"]
    assert options["unacked_key"] == "fleet.unacked"
    assert options["unacked_index_key"] == "fleet.unacked_index"
    assert options["unacked_mutex_key"] == "fleet.unacked_mutex"


def test_messages_and_results_are_json_alone() -> None:
    app = make_app(settings())
    assert app.conf.accept_content == app.conf.result_accept_content == ["json"]
    assert app.conf.task_serializer == app.conf.result_serializer == "json"


def test_no_message_is_delivered_again_while_its_task_may_still_run() -> None:
    given = settings()
    options = celery_configuration(given)["broker_transport_options"]
    assert options["visibility_timeout"] == given.visibility_timeout_seconds
    assert options["visibility_timeout"] > given.hard_limit_seconds


def test_the_result_backend_is_the_brokers_redis_unless_set() -> None:
    broker, result = "redis://127.0.0.1/3", "redis://127.0.0.1/4"
    assert configuration(broker_url=broker)["result_backend"] == broker
    both = configuration(broker_url=broker, result_url=result)
    assert (both["broker_url"], both["result_backend"]) == (broker, result)


def test_the_configuration_holds_no_secret_of_the_partner() -> None:
    assert "CANARY" not in repr(configuration())


def test_celery_knows_every_name_that_is_set() -> None:
    known = set(Celery("bare", set_as_current=False).conf)
    read_by_its_redis_backend = {"redis_backend_health_check_interval"}
    assert set(configuration()) <= known | read_by_its_redis_backend


def test_a_chords_counter_outlives_the_longest_run_in_its_header() -> None:
    app = make_app(settings(run_timeout_seconds=86_400))
    backend: Any = app.backend
    assert backend.expires > 86_400


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_broker_and_a_result_backend_over_tls_verify_their_server(scheme: str) -> None:
    app = make_app(settings(broker_url=f"{scheme}://127.0.0.1:1/0"))
    backend: Any = app.backend
    required = ssl.CERT_REQUIRED if scheme == "rediss" else None
    assert backend.connparams.get("ssl_cert_reqs") == required
    assert backend.connparams["host"] == "127.0.0.1"


# The schedule of beat


def test_beat_has_one_entry_whatever_the_fleets_size() -> None:
    assert configuration()["beat_schedule"] == beat_schedule()
    assert len(beat_schedule()) == 1
    assert subtokens.beat_schedule() == beat_schedule()


def test_the_entry_names_a_task_that_needs_no_arguments_and_a_queue_of_ours() -> None:
    (entry,) = beat_schedule().values()
    assert subtokens.renew_due.name == entry["task"]
    assert not entry.keys() & {"args", "kwargs"}
    assert list(signature(subtokens.renew_due.run).parameters) == []
    assert entry["options"]["queue"] in QUEUES


def test_sweeps_expire_but_not_at_once_where_a_workers_clock_is_seconds_ahead() -> None:
    (entry,) = beat_schedule().values()
    assert entry["schedule"] == 1.0
    assert 5 < entry["options"]["expires"] <= 30


def test_who_merges_the_schedule_into_theirs_gets_a_copy() -> None:
    beat_schedule()["renew-due-tokens"]["options"]["queue"] = "mine"
    assert beat_schedule()["renew-due-tokens"]["options"]["queue"] == "subtokens.sweep"


def test_the_schedule_is_plain_data() -> None:
    assert json.loads(json.dumps(beat_schedule())) == beat_schedule()
