"""Odd words and files for every command: an exit code and a clear line, never a traceback."""

import sys
from pathlib import Path

import pytest
from redis import Redis

from subtokens.tasks.runtime import forget_runtime
from subtokens.workers.cli.commands import run

A = "T11200001"
USUAL, FAILED, BAD_INPUT = 0, 1, 2
ODD = [
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e999", "1e-300", "9" * 400, "\u0663"),
    *("T112", "P11200001", "T11200000", A, "../../etc", "--", "[bold]x[/]", "a\nb", "💥", "\x7f"),
]
FORMS = [
    "exchange ODD",
    "exchange --file ODD",
    "exchange T11200001 --no-wait --timeout ODD",
    "ensure --timeout 0.1 --valid-for ODD",
    "ensure --timeout 0.1 --valid-for 1h --policy ODD",
    "ensure --timeout 0.1 --valid-for 1h --selection ODD",
    "ensure --timeout 0.1 --valid-for 1h --file ODD",
    "ensure --valid-for 1h T112 --timeout ODD",
    "status ODD",
    "status --watch --every ODD",
    "status --forecast --accounts ODD",
    "status --forecast --accounts 5 --rate 1 --lifetime ODD",
    "status --forecast --accounts 5 --lifetime 60 --rate ODD",
    "explain ODD",
    "token ODD",
    "acl --role ODD",
    "acl --partner ODD",
    "acl --queue ODD",
    "keys generate --id ODD",
    "keys derive --partner ODD",
    "accounts import ODD",
    "accounts forget ODD",
    "sandbox --accounts none --port ODD",
    "sandbox --errors 2 --lifetime ODD",
    "sandbox --errors 2 --latency ODD",
    "demo --watch 0 --accounts ODD",
    "demo --watch 0 --rate ODD",
    "up --data-folder /dev/null --workers ODD",
    "doctor --no-calls ODD",
    "--partner ODD status",
    "ODD",
    "accounts ODD",
]
FILES = {
    "empty": b"",
    "NUL": b"T11200001\n\0\n",
    "no UTF-8": b"T11200001\n\xff\xfe\xfd\n",
    "UTF-16": "T11200001\n".encode("utf-16"),
    "a huge line": b"CANARY" * 50_000,
    "a huge field": b'account_id,name\nT11200001,"' + b"x" * 200_000 + b'"\n',
    "many bad lines": b"bad\n" * 10_000,
    "a secret": b"SUBTOKENS_CLIENT_SECRET=CANARY-secret\n",
    "quotes": b'account_id,name\nT11200001,"open\n',
    "another partner's": b"T11200000\nP11200001\n",
}


UNREADABLE = Path("/proc/self/mem")  # a file that gives an error to whoever reads it, root too


@pytest.fixture
def answer(environment, redis, monkeypatch, capsys):
    """Runs a command in this process; returns its exit code, stdout and stderr."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def answer(*words):
        monkeypatch.setattr(sys, "argv", ["subtokens", *words])
        monkeypatch.setenv("SUBTOKENS_PARTNER_ID", environment["SUBTOKENS_PARTNER_ID"])
        code = USUAL
        try:
            run()
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert "CANARY" not in captured.out + captured.err
        return code, captured.out, captured.err

    forget_runtime()
    yield answer
    forget_runtime()


@pytest.mark.parametrize("form", FORMS)
def test_no_word_makes_a_command_fall_over(answer, form):
    for odd in ODD:
        code, out, told = answer(*(odd if word == "ODD" else word for word in form.split()))
        assert code in {USUAL, FAILED, BAD_INPUT}, (odd, told)
        assert (told if code == BAD_INPUT else out + told).strip(), odd


@pytest.mark.parametrize("content", FILES)
@pytest.mark.parametrize(
    "form", ["accounts import", "exchange --file", "ensure --valid-for 1h --file"]
)
def test_an_odd_file_is_told_in_few_lines_that_repeat_no_secret(answer, form, content, tmp_path):
    (tmp_path / "list.csv").write_bytes(FILES[content])

    code, out, told = answer(*form.split(), "list.csv")

    assert (code, out) == (BAD_INPUT, "")
    assert told.startswith("list.csv")
    assert len(told.splitlines()) <= 52
    assert max(map(len, told.splitlines())) < 200


@pytest.mark.parametrize("form", ["exchange --no-wait --file", "accounts import"])
def test_a_file_as_a_spreadsheet_writes_it_is_taken(answer, form, tmp_path):
    (tmp_path / "list.csv").write_bytes("\ufeffaccount_id;name\r\nT11200001;Ås\r\n".encode())

    code, _, told = answer(*form.split(), "list.csv")

    assert code == USUAL, told


def test_a_word_that_cannot_be_written_out_is_told_as_such(answer):
    code, _, told = answer("acl", "--queue", "\udcff")

    assert (code, told) == (BAD_INPUT, "a word that was given is not UTF-8 text\n")


@pytest.mark.parametrize("command", ["status", "accounts list", "explain T11200001"])
def test_what_is_amiss_in_redis_is_told_without_a_traceback_and_doctor_names_the_key(
    answer, environment, command
):
    with Redis.from_url(environment["SUBTOKENS_STORE_URL"]) as redis:
        redis.set("subtokens:{T11200000}:due", "garbage")

    code, _, told = answer(*command.split())

    assert code == FAILED
    assert told.endswith("what is amiss there: subtokens doctor\n")
    code, out, _ = answer("doctor", "--no-calls")
    assert code == FAILED
    assert "subtokens:{T11200000}:due is of type string, not zset" in " ".join(out.split())


@pytest.mark.parametrize(
    "command", ["status", "token T11200001", "keys derive --partner T11200000", "up", "doctor"]
)
@pytest.mark.parametrize("kind", ["no UTF-8", "unreadable"])
def test_an_env_file_that_cannot_be_read_is_told_in_a_line(answer, command, kind, tmp_path):
    if kind == "no UTF-8":
        (tmp_path / ".env").write_bytes(b"SUBTOKENS_CLIENT_ID=CANARY\xff\n")
    elif UNREADABLE.is_file():
        (tmp_path / ".env").symlink_to(UNREADABLE)
    else:
        pytest.skip("this system has no file that nobody can read")

    code, out, told = answer(*command.split())

    assert code == BAD_INPUT
    assert ".env " in (out if command == "doctor" else told)
    assert len(told.splitlines()) <= 1
    assert {path.name for path in tmp_path.iterdir()} == {".env"}
