"""Keys are spelled in one module, and its page tells the same."""

import re
from pathlib import Path

import subtokens
from subtokens.tasks.tokens.keys import PartnerKeys

ROOT = Path(subtokens.__file__).resolve().parent
KEYS = PartnerKeys("N", "P")


def spelled():
    """Every key that the module can make, in the page's notation."""
    return {
        *KEYS.for_scripts[:-3],
        KEYS.token("<account>"),
        KEYS.state("<account>"),
        KEYS.run("<id>"),
        KEYS.selection("<name>"),
        *(KEYS.run("<id>", part) for part in ("open", "done", "failed:<reason>", "reasons")),
        *(KEYS.run("<id>", part) for part in ("listed", "todo", "sending")),
    }


def test_the_page_and_the_module_name_the_same_keys():
    page = (ROOT / "docs" / "redis.md").read_text()

    assert set(re.findall(r"^\| `(N:\{P\}:[^`]+)`", page, re.MULTILINE)) == spelled()


def test_every_key_of_a_partner_has_its_hash_tag():
    assert all(key.startswith("N:{P}:") for key in KEYS.for_scripts)


def test_scripts_spell_no_key_of_their_own():
    for script in (ROOT / "tasks" / "tokens" / "lua").glob("*.lua"):
        assert "{" + "P" not in script.read_text()
        for call in re.findall(r"redis\.call\('[A-Z]+', ('[^']*')", script.read_text()):
            raise AssertionError(f"{script.name} spells the key {call}")


def test_no_other_module_spells_a_key():
    for module in [*ROOT.glob("tasks/**/*.py"), *ROOT.glob("workers/**/*.py")]:
        if module.name != "keys.py":
            assert not re.search(r"[\"']:?(token|state|due|expiry|claims|run):", module.read_text())


def test_the_prelude_names_the_keys_in_the_order_in_which_they_are_passed():
    prelude = (ROOT / "tasks" / "tokens" / "lua" / "prelude.lua").read_text()
    numbered: dict[int, str] = {}
    for names, values in re.findall(r"^local ([A-Z_, ]+) = (KEYS\[.+)$", prelude, re.MULTILINE):
        numbers = [int(n) for n in re.findall(r"KEYS\[(\d+)\]", values)]
        numbered |= dict(zip(numbers, names.replace(" ", "").split(","), strict=True))

    for number, key in enumerate(KEYS.for_scripts, start=1):
        assert numbered[number].lower() == key.removeprefix("N:{P}:").rstrip(":")
