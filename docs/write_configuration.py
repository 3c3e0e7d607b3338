"""Writes docs/configuration.md from the settings; `make docs` runs it.

A test holds the page and the settings together.
"""

from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from subtokens.config.partners import Partner
from subtokens.config.settings import PREFIX, DeploymentSettings, Settings, StoreSettings
from subtokens.config.urls import RedisServerUrl, RedisUrl, UpstreamUrl

PAGE = Path(__file__).with_name("configuration.md")
UNITS = {
    "rate_limit": "calls a second",
    "concurrency": "calls",
    "batch_size": "accounts",
    "quarantine_after": "faults",
}
# The class that a setting is first named in tells who needs it.
SECTIONS = (
    (DeploymentSettings, "Everything", "Read by whatever belongs to a deployment."),
    (
        StoreSettings,
        "Readers of tokens, and all below",
        "All that a batch job with a `TokenReader` reads, and either kind of keys will do for it.",
    ),
    (Settings, "Workers, beat, the command line", "Read besides by all that run a fleet."),
)
INTRODUCTION = f"""\
# Configuration

Each setting is a variable of the environment, or a line of the file `.env` in the folder where the
process starts; the environment wins. They are read once, and checked before anything starts: every
bad one is named with its remedy and without its value, and the exit code is 2. `subtokens doctor`
looks at what no check can see, such as a file that others may read.
[.env.example](../.env.example) holds all of them to be filled in.

A fleet starts with four of them: `{PREFIX}PARTNER_ID`, `{PREFIX}CLIENT_ID`,
`{PREFIX}CLIENT_SECRET` and `{PREFIX}ENCRYPTION_KEYS`. A secret is masked wherever it might be
shown; a URL of Redis is one, as it may hold a password. This page is written from
`config/settings.py`.

"""
AFTER = f"""\
## Times nest

Six of the times lie within each other, or nothing starts:

call timeout < batch deadline < soft limit < hard limit < lease < visibility timeout

A worker that is killed must be dead for sure before its accounts are claimed by another, and its
message is delivered again last. Where Dintero answers slowly, raise all of them together.

## Several partners

`{PREFIX}PARTNERS_FILE` names a TOML file with a table `[[partner]]` for each. From `base_url`
on, the settings hold for a partner whose table says nothing else.

| key | kind |
|---|---|
"""
ABOUT_THE_FILE = """\

`client_secret_file` may stand in place of `client_secret`: a file beside this one that holds it.

```toml
[[partner]]
id = "T11200000"
client_id = "your-client-id"
client_secret_file = "T11200000.secret"
rate_limit = 20
```
"""


def page() -> str:
    """The whole page, as it should stand in docs/."""
    parts = [INTRODUCTION]
    named: set[str] = set()
    for kind, title, about in SECTIONS:
        fields = {name: kind.model_fields[name] for name in kind.model_fields if name not in named}
        named |= fields.keys()
        hints = get_type_hints(kind, include_extras=True)
        rows = [_row(name, field, hints[name]) for name, field in fields.items()]
        head = ["| setting | meaning, kind and default |", "|---|---|"]
        parts.append("\n".join([f"## {title}", "", about, "", *head, *rows, "", ""]))
    hints = get_type_hints(Partner, include_extras=True)
    keys = [
        f"| `{field.alias or name}` | {_kind(name, field, hints[name])} |"
        for name, field in Partner.model_fields.items()
    ]
    return "".join(parts) + AFTER + "\n".join(keys) + "\n" + ABOUT_THE_FILE


def _row(name: str, field: FieldInfo, hint: Any) -> str:  # noqa: ANN401 - a type
    told = f"*{_kind(name, field, hint)}*{_default(field)}"
    return f"| `{PREFIX}{name.upper()}` | {field.description}<br>{told} |"


def _kind(name: str, field: FieldInfo, hint: Any) -> str:  # noqa: ANN401 - a type
    types = {hint, *get_args(hint), field.annotation, *get_args(field.annotation)}
    if types & {int, float}:
        unit = "seconds" if name.endswith("_seconds") else UNITS[name]
        number = "whole number" if int in types else "number"
        return f"{number} of {unit}, {_range(field)}"
    if types & {RedisUrl, RedisServerUrl}:
        return "URL of Redis, secret"
    if any(SecretStr in {one, *get_args(one)} for one in types):
        return "secret"
    if hint is UpstreamUrl:
        return "URL"
    if choices := [f"`{one}`" for one in get_args(field.annotation) if isinstance(one, str)]:
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    return next((kind for kind in ("file", "folder") if name.endswith(f"_{kind}")), "text")


def _range(field: FieldInfo) -> str:
    words = {"gt": "above", "ge": "at least", "le": "at most"}
    limits = [
        f"{word} {getattr(one, attribute):,}"
        for one in field.metadata
        for attribute, word in words.items()
        if hasattr(one, attribute)
    ]
    return " and ".join(limits)


def _default(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return f", default `{default}`" if default not in {None, "", PydanticUndefined} else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
