"""Every command of `subtokens`, as a process, against a running worker."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from subtokens.config.settings import PREFIX
from subtokens.tasks.tokens.keys import PartnerKeys
from subtokens.tasks.tokens.selection import MOST_IDS_IN_A_MESSAGE
from subtokens.workers.sandbox.tokens import TOKEN_MARK

from .conftest import PARTNER, Finished, Site, Upstream, account, account_ids, eventually
from .terminals import COLOUR, COMMAND, Terminal

USUAL, FAILED, BAD_INPUT, NO_REDIS, INTERRUPTED = 0, 1, 2, 3, 130


LOOKS = {
    "discover": ("accounts", "discover"),
    "discover --json": ("accounts", "discover", "--json"),
    "list": ("accounts", "list"),
    "list --json": ("accounts", "list", "--json"),
    "status": ("status",),
    "status --json": ("status", "--json"),
    "status --forecast": ("status", "--forecast"),
    "status --forecast --accounts": (
        *("status", "--forecast", "--accounts", "200000"),
        *("--rate", "20", "--lifetime", "14400"),
    ),
    "explain": ("explain", account(1)),
    "explain --json": ("explain", account(1), "--json"),
    "explain inactive": ("explain", account(395)),
    "explain unknown": ("explain", account(9_999)),
    "token": ("token", account(1)),
    "token --json": ("token", account(1), "--json"),
    "token --reveal": ("token", account(1), "--reveal"),
}
REFUSED = {
    "exchange T112": "'T112' is not an account id",
    "exchange P11200001": "different environments",
    "exchange": "name account ids, or --file, or --all",
    "exchange T11200001 --all": "or --retry: one of them",
    "explain T112": "'T112' is not an account id",
    "ensure --valid-for soon": "is no duration",
    "ensure --valid-for 9h T11200001": "tokens live 14400 s",
    "ensure --valid-for 1h --policy most": "policy 'most'",
    "status --forecast --rate 0": "rate",
    "exchange --file missing.txt": "missing.txt cannot be read",
    "accounts forget T1120000x": "'T1120000x' is not an account id",
    f"token {PARTNER}": "the partner itself",
    "sandbox --errors 2": "error_share",
    "status --nonsense": "No such option",
    "status --watch": "into a pipe: --watch --json",
    "status --watch --forecast": "one of them",
}


@pytest.fixture(scope="module")
def looks(site: Site) -> dict[str, Finished]:
    """What the commands that only look said about the same fleet."""
    return site.cli_together(LOOKS)


@pytest.fixture(scope="module")
def refusals(site: Site) -> dict[str, Finished]:
    """What commands with unusable input said; none of them may have asked for anything."""

    def runs() -> set[bytes]:
        return set(site.store.zrange(site.keys.runs, 0, -1))

    before, enrolled = runs(), site.store.zcard(site.keys.due)
    refusals = site.cli_together({line: tuple(line.split()) for line in REFUSED})
    assert runs() <= before
    assert site.store.zcard(site.keys.due) == enrolled
    return refusals


@pytest.fixture(scope="module")
def mishaps(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """What commands said whose file, settings, Redis or credential is not as it should be."""
    file = tmp_path_factory.mktemp("mishaps") / "ids.txt"
    file.write_text(f"{account(1)}\n\nT112\n{account(2)}\nnonsense\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens: a connection is refused
        nowhere = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        changed = {
            "setting": {
                "SUBTOKENS_ENCRYPTION_KEYS": "k1:CANARYnotakey",
                "SUBTOKENS_BASE_URL": "http://elsewhere",
            },
            "SUBTOKENS_STORE_URL": {"SUBTOKENS_STORE_URL": nowhere},
            "SUBTOKENS_BROKER_URL": {"SUBTOKENS_BROKER_URL": nowhere},
            "credential": {
                "SUBTOKENS_CLIENT_SECRET": "CANARY-another-secret",
                "SUBTOKENS_NAMESPACE": "other",
            },
        }
        return site.cli_together(
            {
                "SUBTOKENS_STORE_URL": ("exchange", account(360)),
                "SUBTOKENS_BROKER_URL": ("exchange", account(360)),
                "file": ("exchange", "--file", str(file)),
                "no settings": ("status",),
                "setting": ("exchange", "--all"),
                "credential": ("accounts", "discover"),
                "port": ("sandbox", "--port", str(taken.getsockname()[1])),
            },
            {name: site.whole_environment | values for name, values in changed.items()}
            | {"no settings": {"PATH": os.environ["PATH"]}},
        )


# accounts


def test_accounts_discover_says_how_many_are_listed_and_new(looks: dict[str, Finished]) -> None:
    said = f"partner {PARTNER}: 400 listed, 0 new, 10 skipped, 0 gone\n"
    assert looks["discover"] == (USUAL, said, "")


def test_accounts_discover_as_json_gives_the_counts(looks: dict[str, Finished]) -> None:
    counts = {"partner_id": PARTNER, "listed": 400, "enrolled": 0, "skipped": 10}
    counts |= {"gone": 0, "held_back": 0}
    assert json.loads(looks["discover --json"].out) == counts


def test_accounts_list_shows_every_account_with_its_token(
    site: Site, looks: dict[str, Finished]
) -> None:
    code, out, _ = looks["list"]
    lines = [line.split() for line in out.splitlines() if line.strip().startswith(PARTNER[:4])]
    assert (code, len(lines)) == (USUAL, site.store.zcard(site.keys.due))
    assert lines[0][0] == account(1)
    assert "exchanged" in lines[0]


def test_accounts_list_as_json_gives_an_expiry_to_those_with_a_token(
    looks: dict[str, Finished],
) -> None:
    rows = {row["account_id"]: row for row in json.loads(looks["list --json"].out)}
    assert rows[account(1)]["outcome"] == "exchanged"
    assert rows[account(1)]["expires_at"] > "2020"
    assert rows[account(400)]["expires_at"] is None


# status and token


def test_status_tells_the_counts(site: Site, looks: dict[str, Finished]) -> None:
    code, out, _ = looks["status"]
    (enrolled,) = re.findall(r"^ *accounts +(\d+) enrolled,", out, re.MULTILINE)
    assert (code, int(enrolled)) == (USUAL, site.store.zcard(site.keys.due))
    assert re.search(r"^ *tokens +3\d\d valid \(3\d\d fresh", out, re.MULTILINE)
    assert " ÷ 8,640 s of use = " in out
    assert "fits into 2,000 a second." in out


def test_status_forecasts_the_day_and_what_would_not_fit(looks: dict[str, Finished]) -> None:
    code, out, _ = looks["status --forecast"]
    assert (code, len(re.findall(r"^ *\d+ +\d+\.\d ", out, re.MULTILINE))) == (USUAL, 24)
    code, out, _ = looks["status --forecast --accounts"]
    assert code == FAILED
    assert "200,000 accounts × 1 call ÷ 8,640 s of use = 23.1 calls a second: will not fit" in out
    assert "raise SUBTOKENS_RATE_LIMIT to 24, or serve at most 172,800 accounts." in out


def test_explain_tells_what_comes_next_and_why(looks: dict[str, Finished]) -> None:
    code, out, _ = looks["explain"]
    assert code == USUAL
    assert f"{account(1)} (" in out
    assert ") is fresh." in out
    assert "% of the token's lifetime, decided when it was stored." in out
    assert "Last attempts: exchanged at " in out
    assert json.loads(looks["explain --json"].out)["condition"] == "fresh"
    code, out, _ = looks["explain inactive"]
    assert code == USUAL
    assert "refused_403" in out
    code, out, _ = looks["explain unknown"]
    assert (code, out) == (
        FAILED,
        f"{account(9_999)} is not enrolled: neither discovered nor imported.\n",
    )


def test_status_as_json_agrees_with_the_store(site: Site, looks: dict[str, Finished]) -> None:
    status = json.loads(looks["status --json"].out)
    assert status["partner_id"] == PARTNER
    assert status["enrolled"] == site.store.zcard(site.keys.due)
    without = status["expired"] + status["never_exchanged"] + sum(status["quarantined"].values())
    assert status["valid"] + without == status["enrolled"]
    assert sum(status["expiring"].values()) == status["valid"]
    assert status["forecast"]["fits"]
    assert status["next_expiry_at"] > "2020"


def test_token_tells_when_it_ends_and_no_part_of_it(site: Site, looks: dict[str, Finished]) -> None:
    kept = site.reader().get(account(1))
    facts = json.loads(looks["token --json"].out)
    assert facts["account_id"] == account(1)
    assert facts["generation"] == kept.generation
    assert facts["expires_at"] == kept.expires_at.isoformat(timespec="seconds")
    assert 0 < facts["expires_in_seconds"] <= 14_400
    text = kept.access_token
    for said in (looks["token"].out, looks["token --json"].out):
        assert account(1) in said
        assert not [start for start in range(len(text) - 8) if text[start : start + 8] in said]


def test_token_reveal_prints_the_token_alone(site: Site, looks: dict[str, Finished]) -> None:
    kept = site.reader().get(account(1))
    assert looks["token --reveal"] == (USUAL, f"{kept.access_token}\n", "")
    assert kept.access_token.startswith(TOKEN_MARK)


# exchange and forget


def test_accounts_forget_drops_the_token_and_discovery_leaves_it_out(site: Site) -> None:
    gone = account(350)
    assert site.cli("accounts", "forget", gone, account(399)).out == (
        "2 of 2 accounts were enrolled and are forgotten\n"
    )
    after = {"token": ("token", gone), "discover": ("accounts", "discover", "--json")}
    said = site.cli_together(after)
    assert said["token"].code == FAILED
    assert f"{gone} has no valid token" in said["token"].err
    assert json.loads(said["discover"].out)["enrolled"] == 0
    assert site.store.zscore(site.keys.due, gone) is None


def test_exchange_of_ids_shows_progress_on_stderr_and_the_counts_on_stdout(
    site: Site, upstream: Upstream
) -> None:
    site.let_failing_rest()
    accounts, before = account_ids(351, 3), upstream.last()
    done = site.cli("exchange", *accounts)
    assert done.code == USUAL
    assert done.out.startswith("run ")
    assert done.out.endswith("3 of 3 accounts have their token\n")
    assert "exchanging" in done.err
    assert "3/3" in done.err
    assert sorted(call.account for call in upstream.calls_of(accounts, before)) == accounts


def test_exchange_takes_ids_from_a_file_or_from_stdin(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text(f"{account(354)}\n\n  {account(355)}  \n{account(354)}\n")
    done = site.cli("exchange", "--file", str(file))
    assert "2 of 2 accounts have their token" in done.out
    done = site.cli("exchange", "--file", "-", stdin=f"{account(356)}\n")
    assert "1 of 1 accounts have their token" in done.out


def test_exchange_of_all_ends_with_1_where_an_account_got_none(site: Site) -> None:
    accounts = site.store.zcard(site.keys.due)
    done = site.cli("exchange", "--all")
    assert done.code == FAILED
    refused = accounts - 390 + 1
    assert f"{accounts - refused} of {accounts} accounts have their token, " in done.out


def test_ensure_ends_with_0_where_all_tokens_last_and_with_1_where_the_policy_is_not_met(
    site: Site, upstream: Upstream
) -> None:
    site.let_failing_rest()
    accounts, before = account_ids(361, 3), upstream.last()
    site.store.zadd(site.keys.expiry, {accounts[0]: int((time.time() + 60) * 1000)})
    done = site.cli("ensure", "--valid-for", "1h", *accounts)
    assert (done.code, done.out) == (
        USUAL,
        "3 of 3 accounts have a token for 3600 s more; 1 were exchanged, failed: none, late: 0\n",
    )
    assert [call.account for call in upstream.calls_of(accounts, before)] == accounts[:1]
    mixed = [*accounts, account(400)]
    assert site.cli("ensure", "--valid-for", "1h", "--policy", "0.7", *mixed).code == USUAL
    done = site.cli("ensure", "--valid-for", "1h", "--json", *mixed)
    assert (done.code, json.loads(done.out)["valid"]) == (FAILED, 3)


def test_ensure_takes_more_accounts_from_a_file_than_a_message_may_name(site: Site) -> None:
    listed = "\n".join(account_ids(1, MOST_IDS_IN_A_MESSAGE + 1))
    elsewhere = site.whole_environment | {"SUBTOKENS_NAMESPACE": "nobody-is-enrolled"}
    command = ("ensure", "--valid-for", "1h", "--file", "-")
    done = site.cli(*command, stdin=listed, environment=elsewhere)
    assert done.code == FAILED
    assert f"0 of {MOST_IDS_IN_A_MESSAGE + 1} accounts" in done.out


def test_exchange_retry_has_a_suspended_partner_probed_though_no_account_failed(
    site: Site,
) -> None:
    elsewhere = site.whole_environment | {"SUBTOKENS_NAMESPACE": "suspended"}
    assert site.cli("exchange", "--retry", environment=elsewhere) == (
        USUAL,
        "no account's last attempt failed\n",
        "",
    )
    circuit, now_ms = PartnerKeys("suspended", PARTNER).circuit, time.time() * 1000
    kept = {"blame": "credential", "reason": "answered 401", "probe_at": int(now_ms + 600_000)}
    site.store.hset(circuit, mapping=kept)
    assert site.cli("exchange", "--retry", environment=elsewhere) == (
        USUAL,
        "no account's last attempt failed; Dintero is tried again now, for answered 401\n",
        "",
    )
    probe_at = site.store.hget(circuit, "probe_at")
    assert probe_at is not None
    assert now_ms - 1 <= int(probe_at) <= time.time() * 1000


def test_exchange_without_waiting_prints_the_run_and_leaves(site: Site, upstream: Upstream) -> None:
    accounts, before = account_ids(357, 2), upstream.last()
    done = site.cli("exchange", *accounts, "--no-wait")
    assert done.code == USUAL
    run = site.keys.run(done.out.strip())
    assert site.store.exists(run)
    eventually(lambda: site.store.hexists(run, "ended_at"))
    assert sorted(call.account for call in upstream.calls_of(accounts, before)) == accounts


def test_exchange_ends_at_its_timeout_where_the_upstream_is_down(
    site: Site, upstream: Upstream
) -> None:
    with upstream.troubled(error_share=1.0):
        done = site.cli("exchange", account(359), "--timeout", "1")
    assert done.code == FAILED
    assert "0 of 1 accounts have their token, 1 late" in done.out


# What goes wrong


@pytest.mark.parametrize("line", REFUSED)
def test_bad_input_ends_with_2_and_says_what_is_wrong(
    refusals: dict[str, Finished], line: str
) -> None:
    code, out, err = refusals[line]
    assert (code, out) == (BAD_INPUT, "")
    assert REFUSED[line] in err


def test_a_bad_line_of_a_file_is_named_by_its_number(mishaps: dict[str, Finished]) -> None:
    code, out, err = mishaps["file"]
    assert (code, out) == (BAD_INPUT, "")
    *problems, closing = err.splitlines()
    assert [line.partition(": ")[0].partition(", ")[2] for line in problems] == [
        "line 3",
        "line 5",
    ]
    assert closing.startswith("nothing was done")


def test_missing_settings_are_all_named_at_once(mishaps: dict[str, Finished]) -> None:
    code, out, err = mishaps["no settings"]
    assert (code, out) == (BAD_INPUT, "")
    assert sorted(line.split()[0] for line in err.splitlines()) == [
        "SUBTOKENS_CLIENT_ID",
        "SUBTOKENS_CLIENT_SECRET",
        "SUBTOKENS_ENCRYPTION_KEYS",
        "SUBTOKENS_PARTNER_ID",
    ]


def test_a_bad_setting_is_named_and_its_value_is_not_repeated(
    mishaps: dict[str, Finished],
) -> None:
    code, _, err = mishaps["setting"]
    assert code == BAD_INPUT
    assert "SUBTOKENS_ENCRYPTION_KEYS" in err
    assert "SUBTOKENS_BASE_URL must be https" in err
    assert "CANARY" not in err


@pytest.mark.parametrize("unreachable", ["SUBTOKENS_STORE_URL", "SUBTOKENS_BROKER_URL"])
def test_a_redis_that_cannot_be_reached_ends_with_3(
    mishaps: dict[str, Finished], unreachable: str
) -> None:
    code, _, err = mishaps[unreachable]
    assert code == NO_REDIS
    assert "Redis cannot be reached" in err
    assert unreachable in err


def test_refused_credentials_end_with_1_and_name_what_was_refused(
    mishaps: dict[str, Finished],
) -> None:
    code, out, err = mishaps["credential"]
    assert (code, out) == (FAILED, "")
    assert "partner" in err
    assert "CANARY" not in err


def test_a_port_that_others_use_ends_with_2(mishaps: dict[str, Finished]) -> None:
    code, out, err = mishaps["port"]
    assert (code, out) == (BAD_INPUT, "")
    assert "cannot listen at 127.0.0.1, port " in err


# sandbox


def test_the_sandbox_answers_and_ends_well_on_an_interrupt(site: Site) -> None:
    command = [*COMMAND, "sandbox", "--port=0", "--accounts=7"]
    environment = {k: v for k, v in site.whole_environment.items() if not k.startswith(PREFIX)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as sandbox:
        try:
            assert sandbox.stdout
            said = list(takewhile(lambda line: "its calls" not in line, sandbox.stdout))
            exported = dict(
                line.strip().removeprefix("export ").split("=", 1)
                for line in said
                if line.startswith("export ")
            )
            tried = site.whole_environment | exported | {"SUBTOKENS_NAMESPACE": "tried"}
            done = site.cli("accounts", "discover", environment=tried)
            assert done.out == f"partner {PARTNER}: 7 listed, 7 new, 0 skipped, 0 gone\n"
            sandbox.send_signal(signal.SIGINT)
            rest = sandbox.stdout.read()
        finally:
            sandbox.kill()
        assert (sandbox.wait(), rest) == (0, "")


# On a terminal and in a pipe


@contextmanager
def on_terminal(site: Site, *arguments: str, columns: int = 80, **more: str) -> Iterator[Terminal]:
    environment = {k: v for k, v in site.whole_environment.items() if k != "NO_COLOR"} | more
    with Terminal(
        *arguments, columns=columns, environment=environment, folder=site.folder
    ) as terminal:
        yield terminal


@pytest.mark.parametrize("columns", [80, 200])
def test_the_status_fits_a_terminal_and_no_word_is_broken(site: Site, columns: int) -> None:
    with on_terminal(site, "status", columns=columns) as terminal:
        assert terminal.finish() == USUAL
    lines = terminal.lines
    assert max(map(len, lines)) <= columns
    rows = [line.split("  ")[0].strip() for line in lines if line.startswith(" ")]
    for name in ("accounts", "tokens", "expiring", "due", "failing", "uncovered", "last sweep"):
        assert name in rows
    sentence = "calls a second: fits into 2,000 a second."
    assert sentence in " ".join(" ".join(lines).split())
    if columns == 200:
        assert [line for line in lines if line.endswith(sentence)]
        assert [line for line in lines if "account-seconds" in line and "first tokens)" in line]


def test_watching_redraws_the_terminal_until_ctrl_c_which_is_its_usual_end(site: Site) -> None:
    with on_terminal(site, "status", "--watch", "--every", "0.1") as terminal:
        terminal.await_shown("Ctrl-C ends it", times=3)
        terminal.interrupt()
        assert terminal.finish() == USUAL
    assert "\x1b[1A" in terminal.shown  # it goes up again
    assert "\x1b[?25h" in terminal.shown  # and the cursor is back
    assert "Traceback" not in terminal.shown
    assert max(map(len, terminal.lines)) <= 80


def test_watching_as_json_prints_a_line_at_each_look(site: Site) -> None:
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", "--json", "--every", "0.1"],
        env=site.whole_environment,
        cwd=site.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            assert watching.stdout
            looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == USUAL
        finally:
            watching.kill()
    assert {look["partner_id"] for look in looks} == {PARTNER}


def test_colours_are_for_terminals_alone_and_for_none_that_wants_none(site: Site) -> None:
    looking = ("doctor", "--no-calls")  # no beat runs here, which is a warning
    with on_terminal(site, *looking) as coloured, on_terminal(site, *looking, NO_COLOR="1") as bare:
        coloured.finish()
        bare.finish()
    assert COLOUR.search(coloured.shown)
    assert not COLOUR.search(bare.shown)
    assert coloured.lines[0] == bare.lines[0]
    for words in (looking, ("status",), ("--help",)):
        done = site.cli(*words)
        assert "\x1b" not in done.out + done.err


def test_an_interrupted_command_ends_with_130_and_no_traceback(site: Site) -> None:
    nobodys = {"SUBTOKENS_NAMESPACE": "nobody-works-here"}  # so that the run goes on
    listed = ("accounts", "import", "-")
    site.cli(*listed, stdin=f"{account(1)}\n", environment=site.whole_environment | nobodys)
    with on_terminal(site, "exchange", account(1), **nobodys) as terminal:
        terminal.await_shown("exchanging")
        terminal.interrupt()
        assert terminal.finish() == INTERRUPTED
    assert "Traceback" not in terminal.shown


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("subtokens")
    if not command.exists() or not shutil.which("bash"):
        pytest.skip("there is no bash, or the package is not installed")
    script = """
    eval "$(subtokens --show-completion)"
    for words in "st" "accounts dis" "status --wa"; do
        COMP_WORDS=(subtokens $words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _subtokens_completion subtokens
        echo "${COMPREPLY[@]}"
    done
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={"PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.splitlines() == ["status", "discover", "--watch"], done.stderr
