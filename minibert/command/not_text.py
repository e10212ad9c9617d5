"""What is given as a file of texts and is none: known by its name, by its first bytes or by a line, and told with the remedy."""

import json
import re
import warnings
from pathlib import PurePath
from typing import NamedTuple


class Kind(NamedTuple):
    what: str
    remedy: str
    suffixes: str = ""
    first: bytes = b"(?!)"  # a pattern of the bytes at the beginning; none: those bytes are no sign of it


UNPACK = "unpack it, or only what holds the texts"
AS_TABLE = "write it as CSV or JSON Lines, such as with pandas: read_…(…).to_csv(…)"
KINDS = (
    Kind("compressed by gzip", "gunzip it, or let its name end in .gz", ".tgz", rb"\x1f\x8b"),
    Kind("compressed by bzip2", "unpack it with bunzip2 -c", ".bz2", rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    Kind("compressed by xz", "unpack it with xz -dc", ".xz .lzma", rb"\xfd7zXZ\0"),
    Kind("compressed by zstd", "unpack it with zstd -dc", ".zst", rb"\x28\xb5\x2f\xfd"),
    Kind("a spreadsheet", "save its table as CSV, in UTF-8", ".xlsx .xls .xlsm .ods"),
    Kind("a document", "save it as plain text, in UTF-8", ".docx .doc .odt .rtf .pdf .epub", rb"%PDF-\d|\{\\rtf\d"),
    Kind("an old Excel or Word file", "save it as CSV or plain text, in UTF-8", "", rb"\xd0\xcf\x11\xe0"),
    Kind("a zip archive, or an Excel or Word file", "save what is in it as CSV or plain text", ".zip", rb"PK(\x03\x04|\x05\x06)"),
    Kind("an archive", UNPACK, ".tar .7z .rar", rb"7z\xbc\xaf|Rar!\x1a\x07"),
    Kind("a Parquet file", AS_TABLE, ".parquet", rb"PAR1\x15"),
    Kind("an Arrow or Feather file", AS_TABLE, ".arrow .feather", rb"ARROW1\0|FEA1\0|\xff{4}.{3}\0"),
    Kind("a table of another program", AS_TABLE, ".orc .avro .h5 .hdf5 .sas7bdat .dta .sav", rb"Obj\x01|\x89HDF"),
    Kind("a Python object", "write its texts with Python, one a line", ".pkl .pickle .npy .npz .pt .pth .joblib",
         rb"\x80[\x02-\x05]|\x93NUMPY"),
    Kind("a database", "export its table as CSV", ".db .sqlite .sqlite3", rb"SQLite format 3\0"),
    Kind("a picture", "write down what it says", ".png .jpg .jpeg .gif .webp", rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP"),
    Kind("UTF-32", "write it as UTF-8, such as with iconv -f UTF-32 -t UTF-8", "", rb"\xff\xfe\0\0|\0\0\xfe\xff"),
    Kind("UTF-16", "write it as UTF-8, such as with iconv -f UTF-16 -t UTF-8", "", rb"\xff\xfe|\xfe\xff"),
    Kind("JSON, a value for the whole file", "make JSON Lines of it with jq -c '.[]'; where lines are objects, say --format jsonl",
         ".json"),
)  # fmt: skip
LOOKED_AT = 4096  # characters of a line that may be JSON
BEGINS_AN_OBJECT = re.compile(r'(\[\s*)?\{\s*"[^"\\]*"\s*:')  # even where what follows breaks a rule of JSON
CUT_WORD = 24  # characters: where a number or a word is cut off, the parser's error is as far from the end, at most


def check_name(name: str) -> None:
    """Raises ValueError where a name's suffix says that there is no text in it."""
    suffix = PurePath(name.lower().removesuffix(".gz")).suffix
    for kind in KINDS:
        if suffix in kind.suffixes.split():
            raise ValueError(
                f"{name} is {kind.what}, as its name says; {kind.remedy}. If it is plain text all the same, say so with --format."
            )


def check_first(line: bytes, name: str, form: str | None) -> None:
    """Raises ValueError where the beginning of a file says that it is not a text in UTF-8.

    form   what somebody said that it is, or None; with "lines" a line of characters is taken for one, "GIF89a is old" too
    """
    kind = next((kind for kind in KINDS if re.match(kind.first, line, re.DOTALL)), None)
    if kind is None:
        return
    characters = not re.search(r"[\0-\x08\x0e-\x1f\x7f\ufffd]", line.decode(errors="replace"))
    if not (form == "lines" and characters):
        plain = " If it is plain text all the same, say so with --format lines." if characters and form is None else ""
        raise ValueError(f"{name} is {kind.what}, as its first bytes say; {kind.remedy}.{plain}")


def check_plain(line: str, name: str) -> None:
    """Raises ValueError where plain lines that nobody asked for begin like a value of JSON; warns for an object in one line."""
    bracket, whole = line.lstrip()[:1], _json(line)
    if whole is None:
        return
    if bracket == "[":
        raise ValueError(
            f"{name} begins like a JSON array; make JSON Lines of it with jq -c '.[]' and say --format jsonl, "
            "or lines, where it holds strings, with jq -r '.[]'; or say --format lines if it is plain text."
        )
    if not whole:
        raise ValueError(
            f"{name} begins like a JSON object of several lines; make JSON Lines of it, an object a line, with jq -c '.' and say "
            "--format jsonl, or say --format lines if it is plain text."
        )
    warnings.warn(
        f"{name} begins like a JSON object and is read as plain lines; --format jsonl reads the text in each object, "
        "and --format lines means it as it is.",
        stacklevel=4,
    )


def _json(line: str) -> bool | None:
    """Whether a line is an array or an object of JSON; False: it begins one, and others go on with it; None: it does neither."""
    begun = line.strip()[:LOOKED_AT]
    if begun[:1] not in ("[", "{"):
        return None
    cut, begun = len(begun) == LOOKED_AT, re.sub(r"(?<=[^\[{,\s])\s*,$", "", begun)
    try:
        found = json.loads(begun, strict=False)
    except RecursionError:  # of brackets alone
        return False
    except json.JSONDecodeError as error:
        if error.pos < len(begun) and BEGINS_AN_OBJECT.match(begun):
            return True
        at_the_end = error.pos >= len(begun) - (CUT_WORD if cut else 0)
        return cut if at_the_end or (cut and error.msg.startswith("Unterminated string")) else None
    return None if type(found) is list and [type(item) for item in found] in ([int], [float]) else True  # "[1984]"


def encoding_of(line: bytes) -> str:
    """What a line that is not UTF-8 may be, as the end of a sentence."""
    if b"\0" in line:
        few, many = sorted((line[::2].count(0), line[1::2].count(0)))  # of Latin letters, one byte in two is zero
        return ", and it may be UTF-16: iconv -f UTF-16LE -t UTF-8" if 4 * few < many and 3 * many > len(line) else ""
    high = len(line.translate(None, bytes(range(0x80))))
    if 3 * high > len(line) or re.search(rb"[\x01-\x08\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d]", line):  # they have no letters there
        return ""
    return ", and it may be Latin-1 or Windows-1252: iconv -f WINDOWS-1252 -t UTF-8"
