"""The texts of a file, one after the other: plain lines, JSON Lines, CSV or TSV.

    with open("reviews.csv", "rb") as file:
        for text, end in read_texts(file, "reviews.csv", "csv", "review"):
            ...

One record is in memory at a time, and no more is read than was asked for: a pipe, or a file larger than memory, will do.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import BinaryIO, NamedTuple

from .files import no_key_twice, short

FORMS = ("lines", "jsonl", "csv", "tsv")
LONGEST = 2**24  # characters of a CSV field: where a quote stays open, this and not the rest of the file is what memory holds


class Text(NamedTuple):
    text: str
    end: int  # bytes of the file up to here, this record's line end among them


def form_of(name: str) -> str:
    """The form that a file's name promises, one of FORMS."""
    suffix = PurePath(name).suffix.lower()
    return {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}.get(suffix, "lines")


def read_texts(file: BinaryIO, name: str, form: str, field: str | None = None) -> Iterator[Text]:
    """The texts of a UTF-8 file, in its order; a byte order mark at its start is no part of them.

    name    what errors call the file
    form    "lines"   a text a line, without the line's end; an empty line is a text too, so that output and input stay in step
            "jsonl"   a JSON object a line, with a string under the key `field`
            "csv"     the first line names the columns; a field in quotes may hold commas, line ends and, doubled, quotes
            "tsv"     the first line names the columns; a quote is a character like any other, as in the files of GLUE
    field   the key or column that holds the text; None for plain lines

    Raises ValueError: at once for a `field` that the form or the table does not have, and where it comes to a bad record,
    after the texts before it. Lines are counted from 1, as an editor shows them; a CSV row has the number of its first line.
    """
    lines = _Lines(file, name)
    if form == "lines":
        if field is not None:
            raise ValueError(
                f"--field {field!r} names a key or a column, and {name} is read as plain lines; "
                "leave --field out, or say what it is with --format jsonl, csv or tsv."
            )
        return (Text(line.rstrip("\r\n"), lines.end) for line in lines)
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
    raise ValueError(f"form is {form!r}; wanted one of {', '.join(FORMS)}.")


class _Lines:
    """The decoded lines of a file, with their ends; knows how many there were, and how many bytes."""

    def __init__(self, file: BinaryIO, name: str):
        self.file, self.name = file, name
        self.number = self.end = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        try:
            line = next(self.file)
        except OSError as error:
            raise ValueError(f"{self.name} cannot be read behind line {self.number} ({error.strerror}).") from error
        self.number += 1
        self.end += len(line)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise self.bad(f"is not UTF-8 (byte {error.start + 1})") from error
        return text.removeprefix("\ufeff") if self.number == 1 else text

    def bad(self, what: str, number: int | None = None) -> ValueError:
        return ValueError(f"line {number or self.number} of {self.name} {what}; the texts before it were classified.")


def _values(lines: _Lines, field: str) -> Iterator[Text]:
    for line in lines:
        found = _object(line, lines)
        if field not in found:
            raise lines.bad(f"has no key {field!r}, only {short.repr(list(found))}; wanted one of these as --field")
        if not isinstance(text := found[field], str):
            shown = json.dumps(text) if text is None or isinstance(text, (bool, int, float)) else short.repr(text)
            raise lines.bad(f"has {shown} under {field!r}; wanted a string")
        yield Text(text, lines.end)


def _object(line: str, lines: _Lines) -> dict[str, object]:
    if not line.strip():
        raise lines.bad("is blank; wanted a JSON object on each line")
    try:
        found = json.loads(line, object_pairs_hook=no_key_twice)
    except (ValueError, RecursionError) as error:  # of brackets, a thousand deep
        reason = str(error).partition(";")[0]  # of a number without end, Python says how programmers allow it
        raise lines.bad(f"cannot be read as JSON ({reason}); wanted a JSON object on each line") from error
    if not isinstance(found, dict):
        raise lines.bad(f"is {short.repr(found)}; wanted a JSON object on each line")
    return found


def _column(lines: _Lines, rows: Iterable[list[str]], field: str | None, form: str) -> Iterator[Text]:
    """The texts below the name `field`. The names are read at once, the rest as it is asked for."""
    numbered = _numbered(lines, iter(rows))
    _, columns = next(numbered, (0, None))
    if columns is None:
        raise ValueError(f"{lines.name} is empty; wanted a {form} file, whose first line names its columns.")
    shown = f"the columns {short.repr(columns)}"
    if field is None:
        raise ValueError(_unnamed(lines.name, form, shown))
    if columns.count(field) != 1:
        times = "no column" if field not in columns else "more than one column"
        raise ValueError(f"{lines.name} has {times} {field!r}; it has {shown}, and --field wants one of these that is there once.")
    place, wanted = columns.index(field), len(columns)

    def texts() -> Iterator[Text]:
        for number, row in numbered:
            if len(row) != wanted:  # too many as well: where a comma in the text was not quoted, the text would be cut there
                raise lines.bad(f"has {len(row)} column{'s' * (len(row) != 1)}; wanted {wanted}, as line 1 names them", number)
            yield Text(row[place], lines.end)

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
            trouble = f"cannot be read as CSV ({reason}); wanted quotes around a field, and doubled within it"
            raise lines.bad(trouble, number) from error
        yield number, row or [""]


def _unnamed(name: str, form: str, found: str) -> str:
    return f"{name} is {form} with {found}; say where the text is with --field NAME, or read whole lines with --format lines."
