"""What a user installs: the built wheel, alone in a clean environment.

The environment is a fresh one, into which only the wheel is installed (`--no-deps`). What the
project asks for is lent to it from the environment that runs the tests, by a line at the end of
its path to a folder of links: that is quick and needs no network. There is a link for what the
wheel and its dependencies ask for, and for nothing that is installed here besides: a module that
nobody asked for is missing there as it is with a user.
"""

import csv
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def asked_for(*extras: str) -> set[str]:
    """The distributions that an installer brings beside subtokens[extras], and theirs with them."""
    wanted, seen = [("subtokens", extra) for extra in ("", *extras)], set()
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                wanted += [(needed, each) for each in ("", *requirement.extras)]
    return {name for name, _ in seen} - {"subtokens"}


def lend(folder: Path, names: set[str]) -> None:
    """Fill the folder with a link to each top-level file and folder of these distributions."""
    folder.mkdir()
    for name in names:
        held = distribution(name)
        for top in {file.parts[0] for file in held.files or []} - {"..", "__pycache__"}:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(str(held.locate_file(top)))


def bare_environment(home: Path, *extras: str) -> Path:
    """A new environment without pip that is lent what we ask for; returns its Python."""
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    lend(home / "lent", asked_for(*extras))
    (own_folder(python) / "zz_lent.pth").write_text(f"{home / 'lent'}\n")
    return python


def own_folder(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(run(python, "-c", code, cwd=python.parent).strip())


def installed(home: Path, wheel: Path, *extras: str) -> Path:
    """A clean environment that holds the wheel with these extras; returns its Python."""
    python = bare_environment(home, *extras)
    # pip itself is the development set's, and sees of the environment only what is its own.
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=home)
    return python


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The Python of a clean environment that holds the wheel, without an extra."""
    return installed(tmp_path_factory.mktemp("clean"), wheel)


@pytest.fixture(scope="module")
def python_with_cli(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    return installed(tmp_path_factory.mktemp("cli"), wheel, "cli")


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


def test_without_an_extra_an_app_of_your_own_has_its_broker_and_its_results(
    python: Path, tmp_path: Path
) -> None:
    code = """
from celery import Celery
import subtokens
redis = "redis://127.0.0.1:6379/0"  # nobody is asked
app = Celery("nightly", broker=redis, backend=redis, include=["subtokens.tasks"])
app.loader.import_default_modules()
app.connection_for_read().transport
print(type(app.backend).__name__, subtokens.TokenReader.__name__, subtokens.SubAccountAuth.__name__)
"""
    printed = run(python, "-c", code, cwd=tmp_path).split()
    assert printed == ["RedisBackend", "TokenReader", "SubAccountAuth"]


def test_without_its_extra_the_command_says_which_one_it_needs(
    python: Path, tmp_path: Path
) -> None:
    command = python.parent / "subtokens"
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the command line needs an extra: pip install 'subtokens[cli]'\n"


def test_with_its_extra_every_command_answers(python_with_cli: Path, tmp_path: Path) -> None:
    command = python_with_cli.parent / "subtokens"
    assert "demo" in run(command, "--help", cwd=tmp_path)
    for name in ("up", "sandbox", "status", "doctor", "monitor"):
        assert "Example" in run(command, name, "--help", cwd=tmp_path)


@pytest.mark.parametrize(
    ("requirements", "extras"),
    [
        ("runtime.txt", ("cli", "fast", "metrics")),  # the image's
        ("demo.txt", ("cli", "embedded", "fast", "metrics")),
        ("test.txt", ("cli", "fast", "metrics")),
    ],
)
def test_what_is_installed_without_a_resolver_holds_all_that_is_asked_for(
    requirements: str, extras: tuple[str, ...]
) -> None:
    lines = (ROOT / "requirements" / requirements).read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    assert asked_for(*extras) - pinned == set()


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
