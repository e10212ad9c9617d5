"""The texts of a file: all of them, once, in order, as they are asked for; and a sentence for each record that is none."""

import bz2
import csv
import errno
import gzip
import io
import json
import lzma
import pickle
import tarfile
from itertools import islice

from minibert.command.text_file import LONGEST, form_of, read_texts

import pytest
from hypothesis import given
from hypothesis import strategies as st

TEXTS = ["good", "", "good", 'a "word", and\ta tab', "x" * 9000, "two\nlines", "\u2028 é\U0001f600 \x1b[31m", "\ufeff", "\r\n", ""]
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # a NUL is in no text; JSON spells it
FIELD = {"lines": None, "jsonl": "text", "csv": "text", "tsv": "text"}
AFTER = "; the texts before it were classified."


def written(texts, form, end="\n"):
    """The file of these texts, by the standard library's writers; for lines and TSV, by joining."""
    if form == "lines":
        return end.join(texts).encode()
    if form == "jsonl":
        return end.join(json.dumps({"id": i, "text": text, "n": None}) for i, text in enumerate(texts)).encode()
    if form == "tsv":
        return end.join(["id\ttext\tn", *(f"{i}\t{text}\t" for i, text in enumerate(texts))]).encode()
    rows = io.StringIO(newline="")
    csv.writer(rows, lineterminator=end).writerows([["id", "text", "n"], *([i, text, ""] for i, text in enumerate(texts))])
    return rows.getvalue().encode()


def plain(text, form):
    """The text as far as the form can hold it: no line ends in lines, no tabs either in TSV."""
    drop = {"lines": "\r\n", "tsv": "\r\n\t"}.get(form, "")
    return "".join(c for c in text if c not in drop)


def read(content, form):
    return list(read_texts(io.BytesIO(content), "file", form, FIELD[form]))


@pytest.mark.parametrize("last", ["", "end"], ids=["no end of the last line", "ended"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["no mark", "mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("form", FIELD)
def test_every_text_comes_out_once_and_in_order(form, end, start, last):
    texts = [plain(text, form) for text in TEXTS] + ["last"]
    content = start.encode() + written(texts, form, end).removesuffix(end.encode()) + (end.encode() if last else b"")
    found = read(content, form)
    assert [text.text for text in found] == texts
    ends = [text.end for text in found]
    assert ends == sorted(set(ends)) and ends[-1] == len(content)


@pytest.mark.parametrize("form", FIELD)
@given(texts=st.lists(st.text(CHARACTERS, max_size=20), max_size=8))
def test_any_texts_come_back_equal(form, texts):
    texts = [plain(text, form) for text in texts]
    content = written(texts, form, "\r\n")  # with "\\n", older csv writers leave a "\\r" unquoted, and no reader can tell
    if form == "lines":
        content = "".join(f"{text}\n" for text in texts).encode()
        texts = [texts[0].removeprefix("\ufeff"), *texts[1:]] if texts else []  # there, it is the file's mark
    assert [text.text for text in read(content, form)] == texts


@given(texts=st.lists(st.text(CHARACTERS, max_size=20), max_size=8))
def test_a_csv_of_one_column_loses_no_empty_text(texts):
    rows = io.StringIO(newline="")
    csv.writer(rows).writerows([["text"], *([text] for text in texts)])
    assert [text.text for text in read(rows.getvalue().encode(), "csv")] == texts
    assert [text.text for text in read(b"text\nx\n\ny\n", "csv")] == ["x", "", "y"]


def test_json_with_real_characters_is_read_like_escaped_json():
    assert read('{"text": "é\\u00e9 \u2028 \\u0000"}\n'.encode(), "jsonl")[0].text == "éé \u2028 \0"


def test_half_a_character_in_json_is_left_to_the_tokenizer():
    assert read(b'{"text": "\\ud800"}', "jsonl")[0].text == "\ud800"


def test_quotes_in_csv_hold_commas_line_ends_and_quotes():
    content = b'id,text\n1,"a, ""b""\nc"\n2,d"e\n'
    assert [text.text for text in read(content, "csv")] == ['a, "b"\nc', 'd"e']
    assert [text.end for text in read(content, "csv")] == [content.index(b"2,"), len(content)]


def test_quotes_in_tsv_are_characters_like_any_other():
    content = b'text\tlabel\n"never closed\t0\nin "the" middle\t1\n"a, ""b"""\t1\nx\ry\t0\n'
    assert [text.text for text in read(content, "tsv")] == ['"never closed', 'in "the" middle', '"a, ""b"""', "x\ry"]


def test_a_long_field_of_csv_works_and_an_open_quote_does_not_fill_the_memory():
    assert [text.text for text in read(b'text\n"' + b"x" * 200_000 + b'"\n', "csv")] == ["x" * 200_000]
    rest = io.BytesIO(b'text\n"' + b"0123456\n" * (LONGEST // 8 + 10_000))
    with pytest.raises(ValueError, match=r"^line 2 of file cannot be read as CSV \(field larger than field limit"):
        list(read_texts(rest, "file", "csv", "text"))
    assert rest.tell() < LONGEST + 100


class Counted(io.RawIOBase):
    """A file without an end, which counts what was taken from it."""

    def __init__(self, first, line):
        self.first, self.line, self.taken = first, line, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        assert self.taken < 2**20, "the whole of the file is read"
        part = (self.first + self.line * (len(buffer) // len(self.line) + 2))[: len(buffer)]
        if self.taken:
            start = (self.taken - len(self.first)) % len(self.line)
            part = (self.line * (len(buffer) // len(self.line) + 2))[start : start + len(buffer)]
        buffer[:] = part
        self.taken += len(part)
        return len(part)


ENDLESS = {
    "lines": (b"", b"abc\n"),
    "jsonl": (b"", b'{"text": "abc"}\n'),
    "csv": (b"id,text\n", b'1,"abc"\n'),
    "tsv": (b"id\ttext\n", b"1\tabc\n"),
}


@pytest.mark.parametrize("form", FIELD)
def test_no_more_than_a_buffer_is_read_ahead(form):
    raw = Counted(*ENDLESS[form])
    file = io.BufferedReader(raw, 4096)
    texts = read_texts(file, "file", form, FIELD[form])
    assert raw.taken <= (0 if form in ("lines", "jsonl") else 4096)
    for _ in range(3):
        taken = list(islice(texts, 1000))
        assert [text.text for text in taken] == ["abc"] * 1000
        assert taken[-1].end <= raw.taken <= taken[-1].end + 4096


class Pipe(io.RawIOBase):
    """The end of a pipe at which one reads, and where a reader who asks too early would wait for ever."""

    def __init__(self):
        self.parts = []

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self.parts.pop(0)  # IndexError in the place of the wait
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("form", FIELD)
def test_a_text_in_a_pipe_is_there_before_the_next_is_written(form):
    first, line = ENDLESS[form]
    pipe = Pipe()
    pipe.parts = [first] if first else []
    texts = read_texts(io.BufferedReader(pipe), "file", form, FIELD[form])
    for _ in range(3):
        pipe.parts = [line]
        assert next(texts).text == "abc"
    pipe.parts = [b""]
    assert list(texts) == []


BAD = [
    ("lines", b"x\ny\nab\xff\n", 2, "line 3 of file is not UTF-8 (byte 3)"),
    ("lines", b"\xef\xbb\xbfab\xff", 0, "line 1 of file is not UTF-8 (byte 6)"),
    ("jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', 1, "line 2 of file is not UTF-8 (byte 11)"),
    ("jsonl", b'{"text": "x"}\n\n{"text": "y"}\n', 1, "line 2 of file is blank; expected a JSON object on each line"),
    ("jsonl", b'{"text": "x"}\n{"text": \n', 1, "line 2 of file cannot be read as JSON (Expecting value: "),
    ("jsonl", b'{"text": "x", "text": "y"}\n', 0, "line 1 of file cannot be read as JSON (the key 'text' is there twice)"),
    ("jsonl", b'{"text": ' + b"1" * 5000 + b"}\n", 0,
     "line 1 of file cannot be read as JSON (Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits);"
     " expected a JSON object"),
    ("jsonl", b"[" * 100_000, 0, "line 1 of file cannot be read as JSON ("),
    ("jsonl", b'{"text": "x"}\n["y"]\n', 1, "line 2 of file is ['y']; expected a JSON object on each line"),
    ("jsonl", b'{"text": "x"}\n{"txt": "y", "n": 1}\n', 1, "line 2 of file has no key 'text', only ['txt', 'n']; expected one of"),
    ("jsonl", b'{"text": "x"}\n{"text": 3.5}\n', 1, "line 2 of file has 3.5 under 'text'; expected a string"),
    ("jsonl", b'{"text": null}\n', 0, "line 1 of file has null under 'text'; expected a string"),
    ("csv", b'id,text\n1,"x\ny"\n2\n', 1, "line 4 of file has 1 column; expected 2, as line 1 names them"),
    ("csv", b"text,id\nI liked it, really,1\n", 0, "line 2 of file has 3 columns; expected 2, as line 1 names them"),
    ("csv", b'id,text\n1,"x\ny"\n2,"z\n3,w\n', 1,
     "line 4 of file cannot be read as CSV (a quote is opened and never closed); expected quotes"),
    ("csv", b'id,text\n1,x\n2,"y"z\n', 1, "line 3 of file cannot be read as CSV (',' expected after '\"'); expected quotes"),
    ("csv", b"id,text\n1,x\ry\n", 0,
     "line 2 of file cannot be read as CSV (new-line character seen in unquoted field); expected quotes"),
    ("csv", b'id,text\n1,"x\n\xff"\n', 0, "line 3 of file is not UTF-8 (byte 1)"),
    ("csv", b"id,text\n1,x\n\n2,y\n", 1, "line 3 of file is blank; expected 2 columns, as line 1 names them"),
    ("tsv", b"id\ttext\n1\tx\n\r\n\n2\ty\n", 1, "line 3 of file is blank; expected 2 columns, as line 1 names them"),
    ("lines", b"x\nno\0pe\n", 1, "line 2 of file is not a text, for its byte 3 is zero"),
    ("csv", b"id,text\n1,\0\n", 0, "line 2 of file is not a text, for its byte 3 is zero"),
    ("lines", "good\n".encode("utf-16-le"), 0,
     "line 1 of file is not a text, for its byte 2 is zero, and it may be UTF-16: iconv -f UTF-16LE"),
    ("lines", "good\ncaf\xe9\n".encode("latin-1"), 1,
     "line 2 of file is not UTF-8 (byte 4), and it may be Latin-1 or Windows-1252: iconv"),
    ("lines", "\u201cgood\u201d\n".encode("cp1252"), 0,
     "line 1 of file is not UTF-8 (byte 1), and it may be Latin-1 or Windows-1252"),
    ("lines", b"\x93\x94\xe4\n", 0, "line 1 of file is not UTF-8 (byte 1)."),
    ("lines", b"\x1b\x02good \xe4\n", 0, "line 1 of file is not UTF-8 (byte 8)."),
    ("jsonl", b"[\n", 0,
     "line 1 of file cannot be read as JSON (Expecting value: line 2 column 1 (char 2)); expected a JSON object on each"),
    ("tsv", b"text\tid\nx\t1\ny\n", 1, "line 3 of file has 1 column; expected 2, as line 1 names them"),
    ("tsv", b"text\tid\nx\t1\ny\xff\t1\n", 1, "line 3 of file is not UTF-8 (byte 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "content", "before", "words"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_record_is_named_after_the_texts_before_it(form, content, before, words):
    texts = read_texts(io.BytesIO(content), "file", form, FIELD[form])
    assert len([next(texts) for _ in range(before)]) == before
    with pytest.raises(ValueError) as caught:
        next(texts)
    message = str(caught.value)
    assert message.startswith(words) and message.endswith(".") and "\n" not in message and len(message) < 250
    assert message.endswith(AFTER) == (before > 0)  # never said of texts that there were not


UNREADABLE = [
    ("lines", b"x\n", "text", "--field 'text' names a key or a column, and file is read as plain lines; leave --field"),
    ("jsonl", b'{"id": 1, "review": "x"}\n', None, "file is JSON Lines with the keys ['id', 'review']; say where the text is"),
    ("jsonl", b"", None, "file is JSON Lines with no object; say where"),
    ("csv", b'\xef\xbb\xbf"id",review\r\n', None, "file is CSV with the columns ['id', 'review']; say where the text is"),
    ("tsv", b"id\treview\r\n", None, "file is TSV with the columns ['id', 'review']; say where the text is"),
    ("csv", b"id,review\n", "text", "file has no column 'text'; it has the columns ['id', 'review'], and --field wants"),
    ("tsv", b"text\tid\ttext\n", "text", "file has more than one column 'text'; it has the columns ['text', 'id', 'text']"),
    ("csv", b"", "text", "file is empty; expected a CSV file, whose first line names its columns"),
    ("tsv", b"", None, "file is empty; expected a TSV file"),
    ("csv", b'"id,review\n', "text", "line 1 of file cannot be read as CSV (a quote is opened and never closed)"),
    ("xml", b"", None, "form is 'xml'; expected one of lines, jsonl, csv, tsv"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "content", "field", "words"), UNREADABLE, ids=str)
def test_a_field_that_is_not_there_is_refused_at_once_with_the_names_there_are(form, content, field, words):
    with pytest.raises(ValueError) as caught:
        read_texts(io.BytesIO(content), "file", form, field)
    message = str(caught.value)
    assert message.startswith(words)
    if "say where" in words:
        assert message.endswith("; say where the text is with --field NAME, or read whole lines with --format lines.")


def test_names_without_end_do_not_make_an_error_without_end():
    content = ",".join(f"column {number} {'x' * 100}" for number in range(1000)).encode()
    with pytest.raises(ValueError) as caught:
        read_texts(io.BytesIO(content), "file", "csv", None)
    assert "column 0" in str(caught.value) and len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.jsonl", "jsonl"), ("a.NDJSON", "jsonl"), ("b/a.Csv", "csv"), ("a.tsv", "tsv"), ("a.txt", "lines"), ("csv", "lines"),
     (".csv", "lines"), ("a.csv/b", "lines"), ("a.csv.txt", "lines"), ("", "lines")],
)  # fmt: skip
def test_the_name_says_the_form(name, form):
    assert form_of(name) == form


def test_a_file_that_cannot_be_read_on_is_named_with_its_last_line():
    class Broken(io.BytesIO):
        def readline(self, size):
            if self.tell() > 2:
                raise OSError(errno.EIO, "Input/output error")
            return super().readline(size)

    texts = read_texts(Broken(b"x\ny\nz\n"), "file", "lines")
    assert [next(texts).text, next(texts).text] == ["x", "y"]
    with pytest.raises(ValueError, match=r"^file cannot be read behind line 2 \(Input/output error\)\.$"):
        next(texts)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n\r\n"], ids=repr)
@pytest.mark.parametrize(("form", "row"), [("csv", b"1,x"), ("tsv", b"1\tx"), ("jsonl", b'{"text": "x"}')])
def test_blank_lines_at_the_end_are_no_record(form, row, end):
    head = {"csv": b"id,text\n", "tsv": b"id\ttext\n", "jsonl": b""}[form]
    assert [text.text for text in read(head + row + b"\n" + end, form)] == ["x"]


def test_a_blank_line_at_the_end_is_a_text_where_a_line_can_be_one():
    assert [text.text for text in read(b"x\n\n", "lines")] == ["x", ""]
    assert [text.text for text in read(b"text\nx\n\n", "csv")] == ["x", ""]


def first_refused(content, name, form=None):
    with pytest.raises(ValueError) as caught:
        list(read_texts(io.BytesIO(content), name, form, None if form in (None, "lines") else "text"))
    message = str(caught.value)
    assert message.startswith(name) and message.endswith(".") and "\n" not in message and "; " in message
    assert "classified" not in message
    return message


NO_TEXT = {
    "gzip": (gzip.compress(b"good\n"), "is compressed by gzip, as its first bytes say; gunzip it, or let its name end in .gz"),
    "bzip2": (bz2.compress(b"good\n"), "is compressed by bzip2, as its first bytes say; unpack it with bunzip2 -c"),
    "an empty bzip2": (bz2.compress(b""), "is compressed by bzip2"),
    "xz": (lzma.compress(b"good\n"), "is compressed by xz"),
    "zstd": (b"\x28\xb5\x2f\xfd\x24\x05", "is compressed by zstd"),
    "xlsx, docx": (b"PK\x03\x04\x14\0", "is a zip archive, or an Excel or Word file, as its first bytes say; save what"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel or Word file"),
    "pdf": (b"%PDF-1.7\x80\n", "is a document"),
    "parquet": (b"PAR1\x15\x04\x15", "is a Parquet file, as its first bytes say; write it as CSV or JSON Lines"),
    "feather": (b"ARROW1\0\0", "is an Arrow or Feather file"),
    "pickle": (pickle.dumps(["good"]), "is a Python object"),
    "sqlite": (b"SQLite format 3\0", "is a database"),
    "png": (b"\x89PNG\r\n\x1a\n", "is a picture"),
    "utf-16": ("\ufeffgood\n".encode("utf-16-le"), "is UTF-16, as its first bytes say; write it as UTF-8, such as with iconv"),
    "utf-16, the other way": ("\ufeffgood\n".encode("utf-16-be"), "is UTF-16, "),
    "utf-32": ("\ufeffgood\n".encode("utf-32-le"), "is UTF-32, "),
    "utf-32, the other way": ("\ufeffgood\n".encode("utf-32-be"), "is UTF-32, "),
}


@pytest.mark.parametrize("form", [None, *FIELD])
@pytest.mark.parametrize(("content", "words"), NO_TEXT.values(), ids=NO_TEXT)
def test_what_is_no_text_is_known_by_its_first_bytes_however_it_is_to_be_read(content, words, form):
    assert first_refused(content, "file", form).startswith(f"file {words}")


@pytest.mark.parametrize("line", ["GIF89a was the better one.", "%PDF-1 is a café.", "%PDF-1 is a format.", "BZh91AY&SY"])
def test_a_line_of_characters_that_begins_like_no_text_is_one_where_it_is_said_to_be(line):
    assert first_refused(line.encode(), "file").endswith(" If it is plain text all the same, say so with --format lines.")
    assert read(line.encode(), "lines")[0].text == line


def test_bytes_of_an_unknown_program_are_no_text():
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("good.txt"), io.BytesIO())
    for content in (tar.getvalue(), b"MZ\0\0"):
        with pytest.raises(ValueError, match=r"^line 1 of file is not a text, for its byte \d+ is zero\.$"):
            read(content, "lines")


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.json", "is JSON, a value for the whole file, as its name says; make JSON Lines"), ("a.JSON.gz", "is JSON"),
     ("b.csv/a.parquet", "is a Parquet file"), ("a.xlsx", "is a spreadsheet, as its name says; save its table as CSV"),
     ("a.tar", "is an archive"), ("a.pdf", "is a document"), ("a.pkl", "is a Python object")],
)  # fmt: skip
def test_a_name_that_is_no_texts_is_refused_unless_the_form_is_said(name, words):
    assert first_refused(b"good\n", name).startswith(f"{name} {words}")
    assert next(read_texts(io.BytesIO(b"good\n"), name, "lines")).text == "good"


ARRAYS = ['[{"text": "x"}]', "[", ' [ {"text":', "[{}]", "[ {", '["good", "bad"]', '["good",', '["a \\\\ \\" b"]', "[  \r"]
ARRAYS += ['[{"text": "a\tb"}]', '[{"text": "good",}]', "[]", "[1, 2]", '[["good", 1],', '["good", 1],', "[true,"]
ARRAYS += ["[" * 5000, '[{"text": "' + "good " * 5000, "[" + "10, " * 5000]


@pytest.mark.parametrize("line", ARRAYS)
def test_plain_lines_that_begin_like_an_array_are_refused_unless_they_are_said_to_be_plain(line):
    message = first_refused(f"{line}\nx\n".encode(), "file")
    assert message.startswith("file begins like a JSON array; make JSON Lines of it with jq -c '.[]' and say --format jsonl,")
    assert read(f"{line}\nx\n".encode(), "lines")[0].text == line.rstrip("\r")


@pytest.mark.parametrize("line", ["{", ' {"a": [', '{"text": "good",', '{"text":'])
def test_plain_lines_that_begin_an_object_which_goes_on_are_refused_unless_they_are_said_to_be_plain(line):
    message = first_refused(f"{line}\nx\n".encode(), "file")
    assert message.startswith("file begins like a JSON object of several lines; make JSON Lines of it, an object a line, with jq")
    assert read(f"{line}\nx\n".encode(), "lines")[0].text == line


OBJECTS = ['{"text": "good"}', "{}", '{"text": "a\tb"}', '{"text": "C:\\\\d", "a": 1}', '{"a": "b",} ', '{"a": 1} {}']
OBJECTS += ['{"text": "C:\\d", "a": 1}', '{"a \\" b" :1}', '{"text": "' + "good " * 5000 + '"}']


@pytest.mark.parametrize("line", OBJECTS)
def test_plain_lines_that_begin_like_an_object_are_read_with_a_warning_unless_they_are_said_to_be_plain(line):
    with pytest.warns(UserWarning, match=r"^a\.txt begins like a JSON object and is read as plain lines; --format jsonl reads"):
        found = list(read_texts(io.BytesIO(f"{line}\n".encode()), "a.txt", None))
    assert [text.text for text in found] == [line]
    assert [text.text for text in read(f"{line}\n".encode(), "lines")] == [line]  # a warning would be an error


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "line", ["[Music] good", "[1] good", "[", "[SEP]", '["Wow"] good', "{good}", "{'a': 1}", '{"Wow"} good', "[1, 2] good",
             "[1984]", "[,", '["Best film ever", says my wife', '["Best film ever, says my wife', "[good" * 5000],
)  # fmt: skip
def test_brackets_alone_make_no_json(line):
    texts = f"x\n{line}\n" if line == "[" else f"{line}\n["  # only the first line says what a file is
    assert line in [text.text for text in read_texts(io.BytesIO(texts.encode()), "file", None)]


def test_the_rest_of_a_long_line_is_not_kept_and_the_next_line_is_whole(monkeypatch):
    monkeypatch.setattr("minibert.command.text_file.LONGEST", 8)
    content = "12345678\n12345678\r\n123456789\nabcdefgéé\nabcdefg\U0001f600x\n".encode() + b"x" * 99 + b"\n\nlast long line"
    found = read(content, "lines")
    assert [(text.text, text.cut) for text in found] == [
        ("12345678", False), ("12345678", False), ("123456789", False), ("abcdefg", True), ("abcdefg", True),
        ("xxxxxxxx", True), ("", False), ("last lon", True),
    ]  # fmt: skip
    ends = [text.end for text in found]
    assert ends == sorted(set(ends)) and ends[-1] == len(content)


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv"])
def test_a_record_that_is_too_long_is_refused_by_its_line(monkeypatch, form):
    monkeypatch.setattr("minibert.command.text_file.LONGEST", 90)
    good, long = (written(["x", "y" * length], form) for length in (1, 99))
    assert len(read(good, form)) == 2
    with pytest.raises(ValueError, match=r"^line \d of file has more than 90 bytes; expected shorter records; the texts before it"):
        read(long, form)
