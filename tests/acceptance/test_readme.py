"""What README and the first page of the docs show is what happens."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import subtokens

from .conftest import Site, Upstream, account_ids, await_ready

ROOT = Path(subtokens.__file__).resolve().parent
README = (ROOT / "README.md").read_text()
GETTING_STARTED = (ROOT / "docs" / "getting-started.md").read_text()

# By Celery, for a chord.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=60) as upstream:
        yield upstream


def python_of(page: str) -> str:
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return str(example)


def run(site: Site, code: str) -> str:
    """What a Python process of that site prints."""
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site.folder,
        env=site.whole_environment | {"PYTHONPATH": str(site.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_the_pipeline_and_then_the_reader_run_as_they_stand(new_site, upstream: Upstream) -> None:
    site: Site = new_site(upstream.base_url)
    (site.folder / "nightly.py").write_text(python_of(README))
    await_ready(site.worker("nightly", app="nightly"))

    night = "import nightly; print(nightly.tonight().delay().get(30)['done'])"
    assert run(site, night).split() == ["60"]
    accepted = [call.account for call in upstream.calls() if call.kind == "settings"]
    assert sorted(accepted) == account_ids(1, 60)

    account, *_, status = run(site, python_of(GETTING_STARTED)).split()
    assert (account, status) == ("T11200001", "200")


def test_every_file_that_it_points_to_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
