"""Files that list accounts: CSV with a column account_id, or one id a line."""

import csv
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from ...config.errors import InputError
from ...config.ids import checked_account_id, checked_account_ids

MOST_PROBLEMS_SHOWN = 50
LONGEST_NAME = 80
_LONGEST_SHOWN = 12
_ID, _NAME = "account_id", "name"


@dataclass(slots=True)
class Listed:
    """The accounts of a file, id to name, in their order."""

    names: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0

    def add(self, account_id: str, name: str) -> None:
        """Take an account in; where it stands twice, the first name that there is counts."""
        self.duplicates += account_id in self.names
        self.names[account_id] = self.names.get(account_id) or name


def accounts_of(content: bytes, source: str, partner_id: str) -> Listed:
    """The accounts that a file lists. Raises InputError that names each bad line with its reason.

    A header names a column account_id, and perhaps name; without one, ids come first in each line.
    Blank lines and those that begin with # are passed over.
    """
    listed, problems = Listed(), list[str]()
    id_at, name_at, delimiter, is_first = 0, -1, "", True
    for number, line in enumerate(_lines(content, source), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        delimiter = delimiter or min((d for d in ",;\t" if d in line), key=line.index, default="")
        try:
            cells = _cells(line, delimiter)
            header = [cell.lower() for cell in cells] if is_first else []
            if _ID in header:
                id_at = header.index(_ID)
                name_at = header.index(_NAME) if _NAME in header else -1
            elif any(cells):
                listed.add(*_account(cells, id_at, name_at, partner_id))
        except InputError as error:
            is_header = is_first and not any(c.isdigit() for c in line)
            hint = f" (a header must name the column {_ID})" if is_header else ""
            problems.append(f"{source}, line {number}: {error}{hint}")
        is_first = False
    if problems:
        more = len(problems) - MOST_PROBLEMS_SHOWN
        shown = problems[:MOST_PROBLEMS_SHOWN] + ([f"and {more:,} more"] if more > 0 else [])
        raise InputError("\n".join([*shown, "nothing was done: put these lines right first"]))
    if not listed.names:
        raise InputError(f"{source} holds no account id: write one a line, or a CSV with {_ID}")
    return listed


def content_of(file: Path) -> bytes:
    """The bytes of a file, or of stdin where it is "-". Raises InputError."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


def chosen_ids(account_ids: list[str], file: Path | None, partner_id: str) -> list[str]:
    """The ids as they stand, or those of a file. Raises InputError that names each bad line."""
    if file is None:
        return checked_account_ids(account_ids, partner_id)
    return list(accounts_of(content_of(file), str(file), partner_id).names)


def _lines(content: bytes, source: str) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{source}, line {number}: is not UTF-8 text; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _cells(line: str, delimiter: str) -> list[str]:
    if not delimiter and '"' not in line:
        return [line.strip()]
    try:
        (cells,) = csv.reader([line], delimiter=delimiter or ",", strict=True)
    except csv.Error:
        raise InputError(
            "its quotes do not match: each field must end on its line, a quote in it is doubled"
        ) from None
    return [cell.strip() for cell in cells]


def _account(cells: list[str], id_at: int, name_at: int, partner_id: str) -> tuple[str, str]:
    if len(cells) <= id_at:
        raise InputError(f"there is no column {id_at + 1}, which holds {_ID}")
    value, name = cells[id_at], cells[name_at] if 0 <= name_at < len(cells) else ""
    if len(value) > _LONGEST_SHOWN or not value.isalnum():  # the wrong file may hold secrets
        raise InputError(f"a text of {len(value)} characters is no account id such as T11200001")
    return checked_account_id(value, partner_id), _cleaned(name)


def _cleaned(name: str) -> str:
    if not name.isprintable():
        name = "".join(c for c in name if unicodedata.category(c) not in {"Cc", "Zl", "Zp"})
    return name.strip()[:LONGEST_NAME]
