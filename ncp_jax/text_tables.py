"""Reads text tables of any origin: encoding, separator, comments and decimal sign are recognised by fixed rules.

The rules are those of ``docs/data.md``. What cannot be told apart is refused, not guessed.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ncp_jax import checks
from ncp_jax.files import user_path

SEPARATORS = {
    "\t": "tab-separated",
    ";": "semicolon-separated",
    ",": "comma-separated",
    "|": "bar-separated",
    " ": "separated by white space",
}
"""Separators and their names in notes, in the order in which they are tried."""
PLAIN = {"UTF-8", "comma-separated", "LOLIB text"}
"""What a note need not tell."""

_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (b"\xff\xfe\x00\x00", "utf-32", "UTF-32"),
    (b"\x00\x00\xfe\xff", "utf-32", "UTF-32"),
    (b"\xef\xbb\xbf", "utf-8-sig", "UTF-8"),
    (b"\xff\xfe", "utf-16", "UTF-16"),
    (b"\xfe\xff", "utf-16", "UTF-16"),
)
_FORMATS = (  # first bytes of files that are no text
    (b"PK\x03\x04", "an Excel workbook or another zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "a Feather file"),
    (b"FEA1", "a Feather file"),
    (b"\x93NUMPY", "a NumPy array, whose file should end in .npy"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"%PDF-", "a PDF document"),
)
_PICKLE = re.compile(
    rb"\x80[\x01-\x05]|(\([dlt]p?\d*\n|c(__builtin__|builtins|copy_?reg|collections|numpy|pandas)).*\.\s*\Z", re.DOTALL
)
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml)\b", re.IGNORECASE)
# Tabs, line ends and form feeds may stand in text; other control characters mean that it is none.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_LINE_END = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SEPARATOR_LINE = re.compile(r'"?sep=(.)\1*(?:"\1*)?', re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
# A key of very many parts, which takes tomllib seconds. Possessive, so that the search itself takes linear time.
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""")
_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The cells of a text table, with what was recognised in its file.

    Attributes:
      source: path of the file, for errors.
      rows: cells of each row, without the blanks around them; a header is the first row. Rows may differ in length.
      lines: number of the line on which each row ends, from 1.
      encoding: name of the encoding ("UTF-8").
      separator: the character between cells; " " for any white space.
      comments: comment lines, without their "#".
      facts: what was recognised beyond encoding and separator ("2 comment lines"), for the note.
    """

    source: str
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    encoding: str = "UTF-8"
    separator: str = ","
    comments: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()

    def recognised(self, *more: str) -> tuple[str, ...]:
        """Returns all that was recognised, for a note: encoding, separator, other facts, and what a caller adds."""
        return (self.encoding, SEPARATORS[self.separator], *self.facts, *more)


def decimal_sign(source: str | os.PathLike[str], separator: str, cells: Iterable[str]) -> str:
    """Returns the decimal sign of a table's numbers: a comma if some cell has one, else a period.

    Commas between cells are never decimal signs. Where semicolons are between them, a comma is always one. Elsewhere a
    comma before three digits could also group them.

    Args:
      source: path of the file, for errors.
      separator: the character between cells.
      cells: all cells that are to be read as numbers.

    Raises:
      DataError: commas that may group digits.
    """
    if separator == ",":
        return "."
    commas = [cell for cell in cells if "," in cell and number(cell, ",") is not None]
    if commas and separator != ";" and all(map(_GROUPS.fullmatch, commas)):
        raise checks.DataError(
            expected=f"numbers without digit grouping in {os.fspath(source)}",
            got=f"{commas[0]!r}, where the comma is a decimal sign or groups digits",
            remedy="write a period as decimal sign, and no grouping",
        )
    return "," if commas else "."


def number(text: str, decimal: str = ".", *, special: bool = False) -> float | None:
    """Returns the number that a cell holds, or None if it holds none.

    Numbers are written as in Python and JSON, in ASCII digits without grouping: ``71.5``, ``-3``, ``.5``, ``1e-3``.

    Args:
      text: the cell.
      decimal: decimal sign, "." or ",".
      special: whether ``nan``, ``inf`` and ``infinity`` are numbers. A number beyond the range is infinite in any case.
    """
    text = text.strip()
    if special and _SPECIAL.fullmatch(text):
        return float(text)
    if decimal == ",":
        if "." in text:
            return None
        text = text.replace(",", ".", 1)
    return float(text) if _NUMBER.fullmatch(text) else None


def note(source: str | os.PathLike[str], recognised: Sequence[str]) -> str:
    """Returns one line that tells what was recognised in a file; "" where there is nothing to tell."""
    return "" if PLAIN.issuperset(recognised) else f"{os.fspath(source)} read as {', '.join(recognised)}"


def decode(source: str | os.PathLike[str], content: bytes) -> tuple[str, str]:
    """Returns the text of a file and the name of its encoding.

    A byte-order mark decides; otherwise the text is UTF-8 or, if it is not legal UTF-8, Windows-1252, whose printable
    characters include those of Latin-1.

    Args:
      source: path of the file, for errors.
      content: its bytes.

    Raises:
      DataError: the content is no text. The formats that people send instead of text are named.
    """
    mark = next(((codec, name) for bom, codec, name in _BOMS if content.startswith(bom)), None)
    if mark is None:
        _refuse_formats(source, content)
    try:
        text, encoding = _decoded(content, mark)
    except UnicodeError as error:
        raise _no_text(source, error) from error
    # Files from DOS may end in Ctrl-Z, and joined files may have a second mark.
    text = text.removesuffix("\x1a").lstrip("\ufeff")
    if found := _CONTROL.search(text):
        raise _no_text(source, f"the control character {found[0]!r}")
    return text, encoding


def _decoded(content: bytes, mark: tuple[str, str] | None) -> tuple[str, str]:
    if mark is not None:
        return content.decode(mark[0]), mark[1]
    try:
        return content.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        text = content.decode("cp1252")
        return text, "Latin-1" if text == content.decode("latin-1") else "Windows-1252"


def _no_text(source: str | os.PathLike[str], why: object, remedy: str = "save it as UTF-8 text") -> checks.DataError:
    return checks.DataError(expected=f"text in {os.fspath(source)}", got=f"bytes that are none ({why})", remedy=remedy)


def _refuse_formats(source: str | os.PathLike[str], content: bytes) -> None:
    name = next((name for first, name in _FORMATS if content.startswith(first)), "")
    if not name and _PICKLE.match(content):
        name = "a pickle"
    if not name and _MARKUP.match(content):
        name = "an HTML or XML page"
    if name:
        raise _no_text(source, name, "export the table as CSV and give that file")


def read_text_table(source: str | os.PathLike[str], content: bytes) -> TextTable:
    """Reads the cells of a text table.

    Blank lines and lines that begin with "#" are skipped, as are columns at the right end without any content. A first
    line ``sep=X`` gives the separator. Otherwise it is the one of tab, semicolon, comma and bar that the first row has
    outside quotes; where it has several, the first that divides all rows into equally many cells, or else the most
    frequent. Where it has none, white space is the separator if it divides all rows into equally many cells.

    Args:
      source: path of the file, for errors.
      content: its bytes.

    Raises:
      DataError: no text, or quotes that do not close. The text names the line.
    """
    source = os.fspath(source)
    text, encoding = decode(source, content)
    lines = _LINE_END.split(text)
    facts = ["CR line ends"] if "\r" in text and "\n" not in text else []
    declared, start = _declared(source, lines)
    if declared:
        facts.append("sep= line")
    separator = declared or _choose_separator(source, lines, start)
    rows, ends, comments = _cells(source, lines, start, separator)
    if comments:
        facts.append("1 comment line" if len(comments) == 1 else f"{len(comments)} comment lines")
    return TextTable(source, rows, ends, encoding, separator, comments, tuple(facts))


def line_cells(text: str) -> list[list[str]]:
    """Returns the words of each line that is not blank, for files without separators."""
    return [words for line in _LINE_END.split(text) if (words := line.split())]


def _declared(source: str, lines: Sequence[str]) -> tuple[str, int]:
    """Returns the separator that a ``sep=`` line declares, or "", and the number of lines up to it."""
    for place, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _SEPARATOR_LINE.fullmatch(line) or _SEPARATOR_LINE.fullmatch(line.strip())
        if found is None:
            break
        if found[1] not in SEPARATORS:
            legal = " ".join(map(repr, SEPARATORS))
            raise checks.DataError(
                expected=f"one of the separators {legal} in {source}", got=repr(line), remedy="correct that line"
            )
        return found[1], place + 1
    return "", 0


def _choose_separator(source: str, lines: Sequence[str], start: int) -> str:
    first = next((line for line in lines[start:] if line.strip() and not line.lstrip().startswith("#")), "")
    bare = _QUOTED.sub("", first)
    present = [mark for mark in SEPARATORS if mark in (bare.strip() if mark == " " else bare)]
    if len(present) > 1 and present[-1] == " ":
        present.pop()  # blanks around cells or inside them
    if len(present) == 1 and present != [" "]:
        return present[0]
    for mark in present:
        try:
            widths = {len(row) for row in _cells(source, lines, start, mark)[0]}
        except checks.DataError:
            continue
        if len(widths) == 1 and widths != {1}:
            return mark
    return max((mark for mark in present if mark != " "), key=bare.count, default=",")


def _cells(
    source: str, lines: Sequence[str], start: int, separator: str
) -> tuple[tuple[tuple[str, ...], ...], tuple[int, ...], tuple[str, ...]]:
    """Returns the rows, the line on which each ends, and the comments."""
    rows: list[list[str]] = []
    ends: list[int] = []
    comments: list[str] = []
    fresh, began, at = True, 0, 0

    def feed() -> Iterator[str]:
        nonlocal fresh, began, at
        for place, line in enumerate(lines, 1):
            at = place
            begin = line.lstrip()
            # A "#" inside a cell that goes on over several lines is no comment.
            if fresh and (place <= start or begin.startswith("#")):
                if begin.startswith("#"):
                    comments.append(begin.lstrip("#").strip())
                continue
            if fresh:
                fresh, began = False, place
            # The line feed keeps the lines of a quoted cell apart.
            yield (" ".join(line.split()) if separator == " " else line) + "\n"

    reader = csv.reader(feed(), delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        fresh = True
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise checks.DataError(
                expected=f"{SEPARATORS[separator]} values in {source}",
                got=f"line {began}: {error}",
                remedy="correct that line",
            ) from error
        if row is None:
            break
        cells = [cell.strip() for cell in row]
        if any(cells):
            rows.append(cells)
            ends.append(at)
    # Spreadsheets write separators for the columns at the right that are empty.
    width = 0
    for cells in rows:
        width = max(width, next((place for place in range(len(cells), width, -1) if cells[place - 1]), 0))
    return tuple(tuple(cells[:width]) for cells in rows), tuple(ends), tuple(comments)


def read_toml(path: str | os.PathLike[str], *, kind: str, remedy: str) -> dict[str, Any]:
    """Reads a user's TOML file. It is UTF-8 by that standard; UTF-16 and Latin-1 are read, too.

    Args:
      path: the file.
      kind: what it holds ("a grid"), for errors.
      remedy: what to do where the file is missing or has strange keys.

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is not TOML.
    """
    file = user_path(path)
    if not file.is_file():
        raise checks.MissingError(expected=kind, got=f"no file {file}", remedy=f"write one, {remedy}")
    written = file.read_bytes()
    text, _ = decode(file, written)
    if _DEEP_KEY.search(text):
        raise checks.DataError(
            expected=f"keys of at most 100 parts in {file}", got="a longer one", remedy=f"{remedy} for the keys"
        )
    try:
        # TOML knows no line that ends in CR alone.
        content = tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
        if written and not text:
            raise ValueError("a byte-order mark alone")
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise checks.DataError(expected=f"TOML in {file}", got=f"something else ({error})", remedy="mend it") from error
    return content
