"""What doctor makes of what it was told, where no real set-up shows it."""

import pytest

from subtokens.config.partners import Partner
from subtokens.tasks.dintero.errors import RefusedError, UnreachableError, UpstreamError
from subtokens.workers.doctor import redis_checks, set_up
from subtokens.workers.doctor.blame import blamed
from subtokens.workers.doctor.clocks import clock, seconds_ahead
from subtokens.workers.doctor.finding import doubtful, failed, well
from subtokens.workers.doctor.kinds import EXCHANGE, KINDS, token_kind
from subtokens.workers.doctor.report import exit_code_of, last_sentence
from subtokens.workers.doctor.servers import Server

PARTNER = Partner.model_validate(
    {
        "id": "T11200000",
        "client_id": "client",
        "client_secret": "CANARY",
        "base_url": "https://example.com/v1",
        "rate_limit": 1,
        "token_kind": "exchange",
        "audience": "partner",
    }
)


def server(role="store", place="here:6379/1", /, **info):
    return Server(role, "SUBTOKENS_STORE_URL", place, info)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SUBTOKENS_STORE_ULR", "is SUBTOKENS_STORE_URL meant?"),
        ("SUBTOKEN_STORE_URL", "is SUBTOKENS_STORE_URL meant?"),
        ("subtokens_ratelimit", "is SUBTOKENS_RATE_LIMIT meant?"),
        ("SUBTOKENS_CLIENT_SECRET:CANARY", "write SUBTOKENS_CLIENT_SECRET=… in .env"),
        ("SUBTOKENS_QQQQQQQQQQQQQQQQQQQQQQQQQQ", "remove it; .env.example names all settings"),
    ],
)
def test_a_name_that_is_no_setting_is_told_with_the_nearest_and_no_value(name, told):
    (finding,) = set_up.misspelt_names([name])
    assert (finding.level, finding.remedy) == ("warning", told)
    assert "CANARY" not in finding.text + finding.remedy


@pytest.mark.parametrize(
    "name", ["SUBTOKENS_STORE_URL", "subtokens_store_url", "PATH", "SUBTOKENS_STORE_PASSWORD"]
)
def test_settings_and_the_names_of_others_are_not_misspelt(name):
    assert set_up.misspelt_names([name]) == []


@pytest.mark.parametrize(
    ("key", "is_toy"),
    [
        (bytes(32), True),
        (b"k" * 32, True),
        (bytes(range(32)), True),
        (bytes(range(32, 0, -1)), True),
        (b"0123456789abcdef" * 2, True),
        (b"\x00\xff" * 16, True),
        (b"CANARY-master-key-of-32-bytes-!!", True),
        (bytes(number * number * 37 % 251 for number in range(32)), False),
    ],
)
def test_a_key_that_no_random_source_gives_is_a_toy(key, is_toy):
    assert set_up.is_toy(key) is is_toy


@pytest.mark.parametrize(
    ("info", "level", "told"),
    [
        ({"redis_version": "6.2.0"}, "ok", "Redis 6.2.0"),
        ({"redis_version": "10.0.1"}, "ok", "Redis 10.0.1"),
        ({"redis_version": "6.0.16"}, "failure", "too old"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "ok", "Valkey 8.1.0"),
        ({"redis_version": "7.2.4", "role": "slave"}, "failure", "takes no writes"),
        ({"redis_version": "7.2.4", "role": "slave", "cluster_enabled": 1}, "ok", "Redis"),
        ({}, "warning", "could not be looked at"),
    ],
)
def test_a_server_is_judged_by_its_version_and_role(info, level, told):
    finding = redis_checks.answering(server(**info))
    assert finding.level == level
    assert told in finding.text


@pytest.mark.parametrize(
    ("role", "info", "level"),
    [
        ("store", {"maxmemory_policy": "noeviction"}, "ok"),
        ("store", {"maxmemory_policy": "volatile-lru", "maxmemory": 2**30}, "failure"),
        ("store", {"maxmemory_policy": "volatile-lru", "maxmemory": 0}, "warning"),
        ("store", {}, "warning"),
        ("broker", {"maxmemory_policy": "allkeys-lru", "maxmemory": 2**30}, "warning"),
    ],
)
def test_eviction_fails_a_store_that_can_come_to_it(role, info, level):
    assert redis_checks.eviction(server(role, **info)).level == level


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"aof_enabled": 1}, "ok"),
        ({"aof_enabled": 0, "connected_slaves": 1}, "ok"),
        ({"aof_enabled": 0, "connected_slaves": 0}, "warning"),
    ],
)
def test_a_store_outlives_a_restart_by_a_file_or_a_replica(info, level):
    assert redis_checks.persistence(server(**info)).level == level


@pytest.mark.parametrize(
    ("used", "most", "level"), [(69, 100, "ok"), (71, 100, "warning"), (71, 0, "ok")]
)
def test_memory_is_warned_of_from_seven_tenths(used, most, level):
    assert redis_checks.memory(server(used_memory=used, maxmemory=most)).level == level


def test_servers_are_the_same_by_their_own_word_else_by_address():
    one, other = server(run_id="a"), server("broker", "alias:6379/0", run_id="a")
    assert redis_checks.is_same_server(one, other)
    assert not redis_checks.is_same_server(one, server("broker", run_id="b"))
    assert redis_checks.is_same_server(server(), server("broker", "here:6379/0"))


@pytest.mark.parametrize(
    ("theirs", "width", "ahead"),
    [(99.5, 0, 0.5), (100.5, 0, 0), (103, 0, -2), (97, 2, 1), (98.5, 2, 0), (160, 2, -59)],
)
def test_a_clock_is_ahead_by_what_the_round_trip_cannot_explain(theirs, width, ahead):
    assert seconds_ahead(100, 101, theirs, width) == ahead


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0, "ok"), (-1.9, "ok"), (2, "warning"), (-29, "warning"), (30, "failure")],
)
def test_a_clock_is_warned_of_from_2_s_and_fails_from_30(ahead, level):
    assert clock("clock", "the store's", ahead).level == level


def test_a_kind_of_token_that_could_not_be_tried_is_no_failure():
    tried = dict.fromkeys(KINDS, UnreachableError("settings", "no answer"))
    assert token_kind("token kind", tried, EXCHANGE, from_file=False).level == "warning"


def test_the_kind_to_set_is_told_in_the_notation_of_the_partners_file():
    tried = dict.fromkeys(KINDS) | {EXCHANGE: RefusedError("settings", "answered 403", status=403)}
    finding = token_kind("token kind", tried, EXCHANGE, from_file=True)
    assert finding.level == "failure"
    assert finding.remedy == 'set token_kind = "account", audience = "partner"'


def test_a_failure_of_dintero_is_told_as_such():
    error = UpstreamError("exchange", "answered 503", status=503)
    assert blamed("exchange", error, PARTNER, {}).remedy == (
        "the fault is Dintero's: try again later"
    )


def test_the_exit_code_is_the_gravest_and_warnings_ask_for_none():
    fine, doubt, fault = well("a", ""), doubtful("b", "", "do"), failed("c", "", "do")
    assert exit_code_of([fine, doubt]) == 0
    assert exit_code_of([fine, doubt, fault]) == 1
    assert exit_code_of([fault, failed("d", "", "do", 3)]) == 3
    assert last_sentence([fine]) == "All is well, in 1 checks."
    assert last_sentence([fine, doubt]) == "It works, with 1 warning."
    assert last_sentence([doubt, fault, fault]).startswith("It does not work: 2 failures, 1 warn")
