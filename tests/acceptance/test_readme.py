"""What README shows is what happens."""

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

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(accounts=60) as upstream:
        yield upstream


def test_the_pipeline_example_runs_as_it_stands(new_site, upstream: Upstream) -> None:
    site: Site = new_site(upstream.base_url)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (site.folder / "nightly.py").write_text(example)
    await_ready(site.worker("nightly", app="nightly"))

    told = subprocess.run(
        [sys.executable, "-c", "import nightly; print(nightly.tonight().delay().get(30)['done'])"],
        cwd=site.folder,
        env=site.whole_environment | {"PYTHONPATH": str(site.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert told.stdout.strip() == "60", told.stderr
    accepted = [call.account for call in upstream.calls() if call.kind == "settings"]
    assert sorted(accepted) == account_ids(1, 60)


def test_every_file_that_it_points_to_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
