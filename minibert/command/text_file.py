"""The texts of a file, one after the other: plain lines, JSON Lines, CSV or TSV.

    with open("reviews.csv", "rb") as file:
        for text, end in read_texts(file, "reviews.csv", "csv", "review"):
            ...

One record is in memory at a time, and no more is read than was asked for: a pipe, or a file larger than memory, will do.
"""

import codecs
import csv
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import BinaryIO, NamedTuple

from ..storage.files import reject_duplicate_keys
from ..storage.messages import short
from .not_text import check_first, check_name, check_plain, encoding_of

FORMS = ("lines", "jsonl", "csv", "tsv")
LONGEST = 2**24  # bytes of a line, characters of a CSV field: memory holds no more, be it a line or a quote that does not end


class Text(NamedTuple):
    text: str
    end: int  # bytes of the file up to here, this record's line end among them
    cut: bool = False  # whether its line goes on, being longer than LONGEST


def form_of(name: str) -> str:
    """The form that a file's name promises, one of FORMS; a .gz at its end says nothing of what is in it."""
    suffix = PurePath(name.lower().removesuffix(".gz")).suffix
    return {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}.get(suffix, "lines")


def read_texts(file: BinaryIO, name: str, form: str | None, field: str | None = None) -> Iterator[Text]:
    """The texts of a UTF-8 file, in its order; a byte order mark at its start is not part of them.

    name    what errors call the file
    form    "lines"   a text a line, without the line's end; an empty line is a text too, so that output and input stay in step;
                      of a line of more than LONGEST bytes, so many of them
            "jsonl"   a JSON object a line, with a string under the key `field`
            "csv"     the first line names the columns; a field in quotes may hold commas, line ends and, doubled, quotes
            "tsv"     the first line names the columns; a quote is a character like any other, as in the files of GLUE
            None      what the name says; where it says nothing, plain lines, but not if they begin like JSON
    field   the key or column that holds the text; None for plain lines

    A blank line at the end is not a record of JSON Lines or of a table with several columns.

    Raises ValueError: at once for a `field` that the form or the table does not have, and for a name that is not a text's; where it
    comes to a bad record, or to what is not a text, after the texts before it. Lines are counted from 1, as an editor shows them; a
    CSV row has the number of its first line.
    """
    assumed = form is None
    if form is None:
        check_name(name)
        form = form_of(name)
    lines = _Lines(file, name, form, assumed)
    if form == "lines":
        if field is not None:
            raise ValueError(
                f"--field {field!r} names a key or a column, and {name} is read as plain lines; "
                "leave --field out, or say what it is with --format jsonl, csv or tsv."
            )
        return _plain(lines, assumed)
    if form == "jsonl":
        if field is None:
            first = next(lines, None)
            found = "no object" if first is None else f"the keys {short.repr(list(_object(first, lines)))}"
            raise ValueError(_unnamed(name, "JSON Lines", found))
        return _values(lines, field)
    if form == "csv":
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        return _column(lines, csv.reader(lines, strict=True), field, "CSV")
    if form == "tsv":
        return _column(lines, (line.rstrip("\r\n").split("\t") for line in lines), field, "TSV")
    raise ValueError(f"form is {form!r}; expected one of {', '.join(FORMS)}.")


class _Lines:
    """The decoded lines of a file, with their ends; knows how many there were, how many bytes, and how many texts they gave."""

    def __init__(self, file: BinaryIO, name: str, form: str, assumed: bool):
        self.file, self.name, self.form, self.assumed = file, name, form, assumed
        self.number = self.end = self.texts = 0
        self.cut = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = part = self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.cut = not line.endswith(b"\n") and len(line) > LONGEST
        while self.cut and part and not part.endswith(b"\n"):
            part = self._read()
        if self.number == 1:
            check_first(line, self.name, None if self.assumed else self.form)
        if self.cut and self.form != "lines":
            raise self.bad(f"has more than {LONGEST:,} bytes; expected shorter records")
        if self.cut:
            line = line[:LONGEST]
        if b"\0" in line:
            raise self.bad(f"is not a text, for its byte {line.index(0) + 1} is zero{encoding_of(line)}")
        try:
            text, _ = codecs.utf_8_decode(line, "strict", not self.cut)  # half a character at a cut is left out
        except UnicodeDecodeError as error:
            raise self.bad(f"is not UTF-8 (byte {error.start + 1}){encoding_of(line)}") from error
        return text.removeprefix("\ufeff") if self.number == 1 else text

    def _read(self) -> bytes:
        """A line, or as much of it as matters and two bytes, for its end."""
        try:
            line = self.file.readline(LONGEST + 2)
        except (OSError, EOFError, zlib.error) as error:  # the last two come of a damaged .gz
            reason = getattr(error, "strerror", None) or str(error)
            raise ValueError(f"{self.name} cannot be read behind line {self.number} ({reason}).") from error
        self.end += len(line)
        return line

    def text(self, text: str) -> Text:
        self.texts += 1
        return Text(text, self.end, self.cut)

    def bad(self, what: str, number: int | None = None) -> ValueError:
        before = "; the texts before it were classified" if self.texts else ""
        return ValueError(f"line {number or self.number} of {self.name} {what}{before}.")


def _plain(lines: _Lines, assumed: bool) -> Iterator[Text]:
    for line in lines:
        if assumed and lines.number == 1:
            check_plain(line, lines.name)
        yield lines.text(line.rstrip("\r\n"))


def _values(lines: _Lines, field: str) -> Iterator[Text]:
    blank = 0
    for line in lines:
        if not line.strip():
            blank = blank or lines.number
            continue
        if blank:
            raise lines.bad("is blank; expected a JSON object on each line", blank)
        found = _object(line, lines)
        if field not in found:
            raise lines.bad(f"has no key {field!r}, only {short.repr(list(found))}; expected one of these as --field")
        if not isinstance(text := found[field], str):
            shown = json.dumps(text) if text is None or isinstance(text, (bool, int, float)) else short.repr(text)
            raise lines.bad(f"has {shown} under {field!r}; expected a string")
        yield lines.text(text)


def _object(line: str, lines: _Lines) -> dict[str, object]:
    wanted = "expected a JSON object on each line" + ", as jq -c '.[]' makes of an array" * line.lstrip().startswith("[")
    try:
        found = json.loads(line, object_pairs_hook=reject_duplicate_keys)
    except (ValueError, RecursionError) as error:  # of brackets, a thousand deep
        reason = str(error).partition(";")[0]  # of a number without end, Python says how programmers allow it
        raise lines.bad(f"cannot be read as JSON ({reason}); {wanted}") from error
    if not isinstance(found, dict):
        raise lines.bad(f"is {short.repr(found)}; {wanted}")
    return found


def _column(lines: _Lines, rows: Iterable[list[str]], field: str | None, form: str) -> Iterator[Text]:
    """The texts below the name `field`. The names are read at once, the rest as it is asked for."""
    numbered = _numbered(lines, iter(rows))
    _, columns = next(numbered, (0, None))
    if columns is None:
        raise ValueError(f"{lines.name} is empty; expected a {form} file, whose first line names its columns.")
    shown = f"the columns {short.repr(columns)}"
    if field is None:
        raise ValueError(_unnamed(lines.name, form, shown))
    if columns.count(field) != 1:
        times = "no column" if field not in columns else "more than one column"
        raise ValueError(f"{lines.name} has {times} {field!r}; it has {shown}, and --field wants one of these that is there once.")
    place, wanted = columns.index(field), len(columns)

    def texts() -> Iterator[Text]:
        blank = 0
        for number, row in numbered:
            if row == [""] and wanted > 1:
                blank = blank or number
                continue
            if blank:
                raise lines.bad(f"is blank; expected {wanted} columns, as line 1 names them", blank)
            if len(row) != wanted:  # too many as well: where a comma in the text was not quoted, the text would be cut there
                raise lines.bad(f"has {len(row)} column{'s' * (len(row) != 1)}; expected {wanted}, as line 1 names them", number)
            yield lines.text(row[place])

    return texts()


def _numbered(lines: _Lines, rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its first line; a blank line is a row of one empty column, in CSV as in TSV."""
    while True:
        number = lines.number + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error).partition(" - ")[0]
            if reason == "unexpected end of data":
                reason = "a quote is opened and never closed"
            trouble = f"cannot be read as CSV ({reason}); expected quotes around a field, and doubled within it"
            raise lines.bad(trouble, number) from error
        yield number, row or [""]


def _unnamed(name: str, form: str, found: str) -> str:
    return f"{name} is {form} with {found}; say where the text is with --field NAME, or read whole lines with --format lines."
