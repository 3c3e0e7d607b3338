"""What a user installs: the built wheel, alone in a clean environment.

The environment is a fresh one, into which only the wheel is installed (`--no-deps`). What the
project depends on is lent to it from the environment that runs the tests, by a line at the end of
its path: that is quick and needs no network. It cannot hide a fault of the wheel, as the lent
folder gives no `subtokens`: an editable install stands there as a .pth file, and .pth files count
only in an environment's own folder. A test below makes sure.
"""

import csv
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = ("config", "tasks", "workers")


def run(*command: str | Path, cwd: Path) -> str:
    """Run to the end and return what it printed; fails with all it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, out: Path, *kinds: str) -> Path:
    """Build with the pinned hatchling of the development set; returns the one file it makes."""
    builder = (sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir")
    run(*builder, out, *kinds, source, cwd=source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "--sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "--wheel")


def bare_environment(home: Path) -> Path:
    """A new environment without pip that is lent our dependencies; returns its Python."""
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own_folder(python) / "zz_lent.pth").write_text("".join(f"{path}\n" for path in sorted(lent)))
    return python


def own_folder(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(run(python, "-c", code, cwd=python.parent).strip())


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The Python of a clean environment that holds the wheel."""
    home = tmp_path_factory.mktemp("clean")
    python = bare_environment(home)
    # pip itself is the development set's, and sees of the environment only what is its own.
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=home)
    return python


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"subtokens", f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"}


def test_the_wheel_holds_every_file_of_the_rooms(wheel: Path) -> None:
    expected = {"subtokens/__init__.py", "subtokens/py.typed"} | {
        f"subtokens/{path.relative_to(ROOT)}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("subtokens/")}
    assert held == expected


def test_a_wheel_made_from_the_source_distribution_holds_the_same(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "out", "--wheel")
    one, other = zipfile.ZipFile(wheel), zipfile.ZipFile(again)
    assert {name: one.read(name) for name in one.namelist()} == {
        name: other.read(name) for name in other.namelist()
    }


def test_the_source_distribution_holds_no_machine_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames() if "/" in name}
    allowed = {"PKG-INFO", ".gitignore"}
    assert (
        tops <= {*PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]} | allowed
    )


def test_what_is_lent_to_the_clean_environment_gives_no_subtokens(tmp_path: Path) -> None:
    python = bare_environment(tmp_path)
    code = "import celery, importlib.util as u; print(u.find_spec('subtokens'))"
    assert run(python, "-c", code, cwd=tmp_path).strip() == "None"


def test_the_installed_package_adds_its_own_folder_and_its_command_alone(python: Path) -> None:
    (record,) = own_folder(python).glob("subtokens-*.dist-info/RECORD")
    with record.open(newline="") as file:
        names = [row[0] for row in csv.reader(file)]
    outside = {name for name in names if not name.startswith(("subtokens/", record.parent.name))}
    assert outside == {"../../../bin/subtokens"}


def test_the_installed_package_is_what_is_imported(python: Path, tmp_path: Path) -> None:
    code = "import subtokens; print(subtokens.__file__)"
    found = Path(run(python, "-c", code, cwd=tmp_path).strip())
    assert found.is_relative_to(own_folder(python))


def test_the_installed_tasks_register_and_their_scripts_are_there(
    python: Path, tmp_path: Path
) -> None:
    code = """
from celery import Celery
from importlib.resources import files
app = Celery(include=["subtokens.tasks"])
app.loader.import_default_modules()
print(len([name for name in app.tasks if name.startswith("subtokens.")]) > 0)
print(any(entry.name == "claim.lua" for entry in files("subtokens.tasks.tokens.lua").iterdir()))
"""
    assert run(python, "-c", code, cwd=tmp_path).split() == ["True", "True"]


def test_the_installed_command_answers(python: Path, tmp_path: Path) -> None:
    assert "demo" in run(python.parent / "subtokens", "--help", cwd=tmp_path)


def test_a_users_own_tasks_and_config_stand_beside_it(python: Path, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("BATCH = 'nightly'\n")
    (tmp_path / "tasks.py").write_text(
        "from celery import shared_task\n"
        "import config\n"
        "@shared_task(name='settle')\n"
        "def settle(): return config.BATCH\n"
    )
    (tmp_path / "main.py").write_text(
        "import config, tasks\n"
        "import subtokens, subtokens.config, subtokens.tasks\n"
        "from subtokens.config.settings import Settings\n"
        "from subtokens.tasks import fan_out\n"
        "assert tasks.settle() == config.BATCH == 'nightly'\n"
        "assert fan_out.name == 'subtokens.fan_out'\n"
        "assert subtokens.tasks is not tasks and subtokens.config is not config\n"
        "print(tasks.__file__, config.__file__)\n"
    )
    printed = run(python, "main.py", cwd=tmp_path).split()
    assert printed == [str(tmp_path / "tasks.py"), str(tmp_path / "config.py")]
