"""A fleet comes through whatever happens to its processes and its Redis, with nobody's hand."""

import sys
from collections.abc import Iterator

import pytest

from .faults import LOSS, OURS, THEIRS, Deployment

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def deployment(
    redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("faults") / "here", 100, 20) as deployment:
        yield deployment


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", [*OURS, *THEIRS])
def test_all_is_well_again_by_itself_after(deployment: Deployment, fault: str) -> None:
    verdict = deployment.suffer(fault, within=60)
    sys.stdout.write(f"{fault}: {verdict.told()}\n")
    assert not verdict.is_breach, verdict.told() + deployment.said()
    if fault in OURS:
        assert max(verdict.extra.values(), default=0) <= 1, verdict.extra
    if fault == LOSS:
        assert deployment.said().count("store.lost") == 1
