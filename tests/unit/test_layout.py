"""The rooms of the package and the one direction of imports between them.

config sets, dintero asks, tokens keep and decide, tasks fan out, workers run.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "subtokens"

# Each room with the rooms it may import from, besides itself; the longest name that fits counts.
ROOMS: dict[str, set[str]] = {
    "": {"config", "tasks", "tasks.dintero", "tasks.tokens"},
    "config": set(),
    "tasks.dintero": {"config"},
    "tasks.tokens": {"config", "tasks.dintero"},
    "tasks": {"config", "tasks.dintero", "tasks.tokens"},
    "workers": {"", "config", "tasks", "tasks.dintero", "tasks.tokens"},
}
WITHOUT_CELERY = {"tasks.dintero", "tasks.tokens"}
CELERY = {"billiard", "celery", "kombu"}


def room_of(name: str) -> str:
    """The room that a module belongs to, named without the package: `tasks.tokens.store`."""
    fitting = (room for room in ROOMS if room == "" or f"{name}.".startswith(f"{room}."))
    return max(fitting, key=len)


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Each module of the package that has its root there, with its name without the package."""
    yield "__init__", root / "__init__.py"
    for top in ("config", "tasks", "workers"):
        for path in sorted((root / top).rglob("*.py")):
            yield ".".join(path.relative_to(root).with_suffix("").parts), path


def imported(module: str, node: ast.AST) -> Iterator[tuple[str, bool]]:
    """What one import names, and whether it is of this package; then without the package."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, False
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        assert node.module is not None
        yield node.module, False
    elif isinstance(node, ast.ImportFrom):
        # `tasks.tokens` is the package of tasks.tokens.store and of tasks.tokens.__init__ alike.
        package = module.split(".")[: -node.level]
        for alias in node.names:
            yield ".".join([*package, *filter(None, [node.module]), alias.name]), True


def breaches(root: Path) -> list[str]:
    """Every import of the package at `root` that goes against the direction."""
    found = []
    for module, path in modules(root):
        room = room_of(module)
        for node in ast.walk(ast.parse(path.read_text())):
            for target, ours in imported(module, node):
                where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)} imports {target}"
                top = target.partition(".")[0]
                if ours and room_of(target) not in {room, *ROOMS[room]}:
                    found.append(f"{where}: {room or 'the root'} may not know that room")
                elif not ours and target == PACKAGE and room == "workers":
                    pass  # the demo's batch job is written as a user's would be
                elif not ours and top in {PACKAGE, "config", "tasks", "workers"}:
                    found.append(f"{where}: imports between rooms are relative")
                elif not ours and top in CELERY and room in WITHOUT_CELERY:
                    found.append(f"{where}: {room} must do without Celery")
    return found


def test_every_import_goes_one_way() -> None:
    assert breaches(ROOT) == []


def test_every_room_holds_modules_so_that_the_rule_is_about_something() -> None:
    assert {room_of(module) for module, _ in modules(ROOT)} == set(ROOMS)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("__init__.py", "from .workers import app"),
        ("config/settings.py", "from .. import __version__"),
        ("config/settings.py", "from ..tasks.errors import RunFailedError"),
        ("config/settings.py", "from ..tasks.dintero import client"),
        ("config/__init__.py", "from ..workers import app"),
        ("tasks/dintero/client.py", "from ..tokens.store import TokenStore"),
        ("tasks/dintero/client.py", "from .. import fleet"),
        ("tasks/dintero/__init__.py", "from ..fleet import Fleet"),
        ("tasks/dintero/client.py", "import celery"),
        ("tasks/tokens/store.py", "from celery.utils.log import get_logger"),
        ("tasks/tokens/store.py", "from kombu import Connection"),
        ("tasks/tokens/store.py", "from .. import runtime"),
        ("tasks/tokens/store.py", "from ..runtime import runtime"),
        ("tasks/tokens/store.py", "from ...workers.application import make_app"),
        ("tasks/work.py", "from ..workers.application import make_app"),
        ("tasks/work.py", "from .. import workers"),
        ("tasks/work.py", "def late():\n    from ..workers import app"),
        ("tasks/work.py", "if TYPE_CHECKING:\n    from ..workers import app"),
        ("tasks/work.py", "import subtokens.config.settings"),
        ("tasks/work.py", "from subtokens import beat_schedule"),
        ("workers/application.py", "from subtokens.config.settings import Settings"),
        ("workers/application.py", "from tasks.work import work"),
    ],
)
def test_a_planted_breach_is_found(tmp_path: Path, path: str, line: str) -> None:
    plant(tmp_path, path, line)
    found = breaches(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("__init__.py", "from .tasks import fan_out"),
        ("config/settings.py", "from .errors import SettingsError"),
        ("config/__init__.py", "from . import settings"),
        ("tasks/dintero/client.py", "from ...config.errors import SubtokensError"),
        ("tasks/tokens/store.py", "from ..dintero.errors import DinteroError"),
        ("tasks/tokens/store.py", "from .. import dintero"),
        ("tasks/work.py", "from .tokens.stint import Stint\nfrom celery import shared_task"),
        ("tasks/__init__.py", "from .work import work"),
        ("workers/application.py", "from .. import __version__\nfrom ..tasks.work import work"),
        ("workers/application.py", "from ..config.settings import Settings\nimport celery"),
        ("workers/demo/batch.py", "from subtokens import TokenReader"),
    ],
)
def test_what_the_rule_allows_is_no_breach(tmp_path: Path, path: str, line: str) -> None:
    plant(tmp_path, path, line)
    assert breaches(tmp_path) == []


def plant(root: Path, path: str, text: str) -> None:
    """A package at `root` with one module that holds `text`."""
    (root / "__init__.py").touch()
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def loaded_after(statements: str) -> set[str]:
    """The modules that a new interpreter holds after running `statements`."""
    code = f"import sys\n{statements}\nprint(*sys.modules)"
    # -P: the folder we stand in is the package itself, and its rooms must not be found bare.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_subtokens_loads_neither_celery_nor_anything_else_of_weight() -> None:
    loaded = loaded_after("import subtokens")
    assert not loaded & {"celery", "kombu", "redis", "httpx", "pydantic", "subtokens.workers"}


@pytest.mark.parametrize("name", ["TokenReader", "AsyncTokenReader", "SubAccountAuth"])
def test_what_reads_tokens_does_not_load_celery(name: str) -> None:
    loaded = loaded_after(f"import subtokens; subtokens.{name}")
    assert not loaded & (CELERY | {"subtokens.workers"})


def test_a_task_loads_celery_and_no_worker() -> None:
    loaded = loaded_after("import subtokens; subtokens.fan_out")
    assert "celery" in loaded
    assert "subtokens.workers" not in loaded


def test_config_dintero_and_tokens_are_loaded_without_the_rooms_above() -> None:
    names = [
        f"{PACKAGE}.{module.removesuffix('.__init__')}"
        for module, _ in modules(ROOT)
        if room_of(module) in {"config", *WITHOUT_CELERY}
    ]
    loaded = loaded_after(f"import {', '.join(names)}")
    assert set(names) <= loaded
    above = {
        name
        for name in loaded
        if name.startswith(f"{PACKAGE}.tasks.") and room_of(name.partition(".")[2]) == "tasks"
    }
    assert not above
    assert not loaded & (CELERY | {"subtokens.workers"})


def test_the_links_of_the_editable_install_are_relative_and_are_what_the_wheel_holds() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    targets = pyproject["tool"]["hatch"]["build"]["targets"]
    links = {
        path.name: path for path in (ROOT / ".package" / PACKAGE).iterdir() if path.is_symlink()
    }
    assert set(links) == set(targets["wheel"]["only-include"])
    for name, link in links.items():
        assert not link.readlink().is_absolute()
        assert link.resolve() == ROOT / name


def test_pyright_is_pointed_at_folders_that_it_looks_into() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = pyproject["tool"]["pyright"]["include"]
    assert {"__init__.py", "config", "tasks", "workers"} <= set(included)
    assert not [name for name in included if name.startswith(".") or not (ROOT / name).exists()]
