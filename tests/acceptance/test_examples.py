"""The examples run as they stand, and docs/pipelines.md shows and says what happens."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

import subtokens
from subtokens.config.settings import PREFIX
from subtokens.workers.processes import Child

from .conftest import (
    DEADLINE_SECONDS,
    RENEWING,
    Finished,
    Site,
    Upstream,
    account_ids,
    await_ready,
    eventually,
    sending_by,
)

pytestmark = pytest.mark.faults

ROOT = Path(subtokens.__file__).resolve().parent
EXAMPLES = ROOT / "examples"
PIPELINES = (ROOT / "docs" / "pipelines.md").read_text()
ACCOUNTS, INACTIVE = account_ids(1, 40), account_ids(39, 2)
ALL_SETTLED = {"accepted": 40, "accounts": 40, "tokens": 40}  # each by a token of its own
READER = ("PARTNER_ID", "STORE_URL", "ENCRYPTION_KEYS")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=40, inactive=2) as upstream:
        yield upstream


@pytest.fixture
def example(upstream: Upstream, new_site: Callable[..., Site]) -> Callable[[str], Site]:
    """Makes a deployment that works in an example's folder; two of its accounts are refused."""

    def example(name: str) -> Site:
        site = new_site(upstream.base_url, discovery_interval_seconds=0)
        shutil.copytree(EXAMPLES / name, site.folder, dirs_exist_ok=True)
        site.enrol(ACCOUNTS)
        return site

    return example


def mend(upstream: Upstream, site: Site) -> None:
    """What an operator does when told of the refused accounts."""
    backstage = f"{upstream.base_url.removesuffix('/v1')}/__sandbox/accounts"
    httpx.post(backstage, json={"open": INACTIVE}).raise_for_status()
    with sending_by(site.app):
        retry = subtokens.fan_out.si(account_ids=INACTIVE, retry=True)
        retry.apply_async().get(timeout=DEADLINE_SECONDS)


def settings_calls(upstream: Upstream) -> Counter[int]:
    """How often the sandbox answered what a batch asks for, by status."""
    return Counter(call.status for call in upstream.calls() if call.kind == "settings")


def told_alone(site: Site, *names: str) -> dict[str, str]:
    """The environment of a process that knows these settings and no others."""
    chosen = {f"{PREFIX}{name}" for name in names}
    own = {name: value for name, value in site.whole_environment.items() if name in chosen}
    return {k: v for k, v in site.whole_environment.items() if not k.startswith(PREFIX)} | own


def run(site: Site, *command: str, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end, where subtokens and Python are on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=site.folder,
        env={**(environment or site.whole_environment), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_a_night_in_an_app_of_ones_own(
    example: Callable[[str], Site], upstream: Upstream, tmp_path: Path
) -> None:
    site = example("nightly_settlement")
    renewing = site.worker("renew", *RENEWING, app="app")
    batch = site.worker("batch", "-Q", "celery,subtokens.exchange,subtokens.accounts", app="app")
    site.celery("beat", "beat", "--schedule", str(tmp_path / "schedule"), app="app")
    await_ready(renewing, batch)
    entry = "from app import app; print(app.conf.beat_schedule['settle-by-night']['task'])"
    night = run(site, "python", "-c", entry).out.strip()

    site.app.send_task(night)
    alarm = "the night ended at subtokens.ensure: 38 of 40 accounts have a token for 7200 s more"
    eventually(lambda: alarm in renewing.said(), told=renewing.said)
    assert not settings_calls(upstream)

    mend(upstream, site)
    site.spoil_token(ACCOUNTS[0])
    site.app.send_task(night)
    eventually(lambda: "settled 40 of 40 accounts, failed: {}" in batch.said(), told=batch.said)
    assert upstream.stats()["settings"] == ALL_SETTLED
    assert settings_calls(upstream) == {200: 40, 401: 1}
    assert eventually(lambda: site.store.hexists(site.keys.fleet, "swept_at"))


def test_a_batch_that_cron_starts(example: Callable[[str], Site], upstream: Upstream) -> None:
    site = example("cron")
    await_ready(site.worker("worker"))
    nightly = str(site.folder / "nightly.sh")

    night = run(site, nightly)
    assert night.code == 1, night
    assert "38 of 40 accounts have a token for 7200 s more" in night.out
    assert not settings_calls(upstream)

    mend(upstream, site)
    night = run(site, nightly)
    assert night.code == 0, night
    assert "settled 40 of 40 accounts, 40 had a token" in night.out
    assert upstream.stats()["settings"] == ALL_SETTLED

    shutil.copy(ROOT / ".env.example", site.folder / ".env")  # not filled in
    assert run(site, nightly, environment=told_alone(site)).code == 2


def test_a_pipeline_by_names_from_where_subtokens_is_not_installed(
    example: Callable[[str], Site], upstream: Upstream, tmp_path: Path
) -> None:
    site = example("by_name")
    ours = site.worker("worker")
    command = ("-A", "settle", "worker", "-Q", "settling", "--concurrency=1", "--loglevel=INFO")
    with Child.python(
        "celery",
        *("--workdir", str(site.folder), *command),
        environment=told_alone(site, *READER, "BROKER_URL", "BASE_URL"),
        log=tmp_path / "settle.log",
    ) as theirs:
        await_ready(ours, theirs)

        def send() -> Finished:
            code = "import runpy, sys; sys.modules['subtokens'] = None; runpy.run_path('send.py', "
            sender = ("python", "-c", f"{code}run_name='__main__')", *ACCOUNTS)
            return run(site, *sender, environment=told_alone(site, "BROKER_URL"))

        sent = send()
        assert sent.code == 1, sent
        assert sent.err.startswith("not settled: 38 of 40 accounts have a token"), sent
        assert not settings_calls(upstream)

        mend(upstream, site)
        assert send() == (0, "settled 40 accounts\n", "")
        assert upstream.stats()["settings"] == ALL_SETTLED
        theirs.kill()


# docs/pipelines.md


def table(header: str) -> list[list[str]]:
    """The rows of the table with that header, by cells."""
    lines = PIPELINES.partition(f"| {header} |")[2].splitlines()[2:]
    rows = lines[: next(n for n, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def quoted(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def without_figures(text: str) -> str:
    return re.sub(r"\d+", "1", text)


def test_every_block_is_of_an_example_or_runs_and_every_table_is_true(
    example: Callable[[str], Site], upstream: Upstream
) -> None:
    site = example("nightly_settlement")
    await_ready(site.worker("worker", app="app"))
    mend(upstream, site)
    with sending_by(site.app):
        steps_return_what_the_table_says()
        refusals_read_as_the_table_has_them()

    ours = [path.read_text() for path in EXAMPLES.glob("*/*.*")]
    blocks = re.findall(r"```(\w+)\n(.*?)```", PIPELINES, re.DOTALL)
    shown = [block for _, block in blocks if any(block in text for text in ours)]
    kinds, others = zip(*(entry for entry in blocks if entry[1] not in shown), strict=True)
    assert (len(shown), set(kinds)) == (4, {"python"})
    chosen, of_all_partners, reading, following = others

    assert run(site, "python", "-c", chosen).code == 0
    eventually(lambda: upstream.stats()["settings"]["accounts"] == 2)

    assert run(site, "python", "-c", of_all_partners).code == 0
    eventually(lambda: upstream.stats()["settings"]["accounts"] == len(ACCOUNTS) - len(INACTIVE))

    before = upstream.last()
    done = run(site, "python", "-c", reading)
    assert done.code == 0, done
    assert len(upstream.calls_of(ACCOUNTS[2:4], before)) == 1

    log = site.log_of("following")
    with Child((sys.executable, "-c", following), site.whole_environment, log) as follower:
        eventually(lambda: "tokens.renewed" in follower.said(), told=follower.said)


def steps_return_what_the_table_says() -> None:
    rows = {name: fields for names, fields in table("step | fields") for name in quoted(names)}
    of_a_run = set(quoted(rows["fan_out"]))
    ids = ACCOUNTS[5:7]
    steps = {
        "ensure": subtokens.ensure.si(valid_for="1h"),
        "fan_out": subtokens.fan_out.si(account_ids=ids),
        "exchange": subtokens.exchange.si(ids[0]),
        "for_each_account": subtokens.for_each_account.si(subtokens.exchange.s(), account_ids=ids),
        "discover": subtokens.discover.si(),
        "forget": subtokens.forget.si(INACTIVE),
    }
    assert steps.keys() == rows.keys()
    for name, step in steps.items():
        fields = set(quoted(rows[name].partition(";")[0]))
        expected = of_a_run | fields if name == "ensure" else fields
        assert step.apply_async().get(timeout=DEADLINE_SECONDS).keys() == expected, name


def refusals_read_as_the_table_has_them() -> None:
    for given, text in table("given | the error's text"):
        step = eval(f"subtokens.{quoted(given)[0]}", {"subtokens": subtokens})
        with pytest.raises(subtokens.InputError) as refused:
            step.apply_async().get(timeout=DEADLINE_SECONDS)
        assert without_figures(str(refused.value)) == without_figures(quoted(text)[0])


def test_the_page_is_short_and_what_it_points_to_exists() -> None:
    assert len(PIPELINES.splitlines()) <= 200
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PIPELINES):
        assert (ROOT / "docs" / target).exists(), target
