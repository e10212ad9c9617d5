"""The texts of a file: all of them, once, in order, as they are asked for; and a sentence for each record that is none."""

import csv
import errno
import io
import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibert.texts import LONGEST, form_of, read_texts

TEXTS = ["good", "", "good", 'a "word", and\ta tab', "x" * 9000, "two\nlines", "\u2028 é\U0001f600 \x1b[31m", "\ufeff", "\r\n", ""]
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
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=8))
def test_any_texts_come_back_equal(form, texts):
    texts = [plain(text, form) for text in texts]
    content = written(texts, form, "\r\n")  # with "\\n", older csv writers leave a "\\r" unquoted, and no reader can tell
    if form == "lines":
        content = "".join(f"{text}\n" for text in texts).encode()
        texts = [texts[0].removeprefix("\ufeff"), *texts[1:]] if texts else []  # there, it is the file's mark
    assert [text.text for text in read(content, form)] == texts


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=8))
def test_a_csv_of_one_column_loses_no_empty_text(texts):
    rows = io.StringIO(newline="")
    csv.writer(rows).writerows([["text"], *([text] for text in texts)])
    assert [text.text for text in read(rows.getvalue().encode(), "csv")] == texts
    assert [text.text for text in read(b"text\nx\n\ny\n", "csv")] == ["x", "", "y"]


def test_json_with_real_characters_is_read_like_escaped_json():
    assert read('{"text": "é\\u00e9 \u2028"}\n'.encode(), "jsonl")[0].text == "éé \u2028"


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
    ("jsonl", b'{"text": "x"}\n\n{"text": "y"}\n', 1, "line 2 of file is blank; wanted a JSON object on each line"),
    ("jsonl", b'{"text": "x"}\n{"text": \n', 1, "line 2 of file cannot be read as JSON (Expecting value: "),
    ("jsonl", b'{"text": "x", "text": "y"}\n', 0, "line 1 of file cannot be read as JSON (the key 'text' is there twice)"),
    ("jsonl", b'{"text": ' + b"1" * 5000 + b"}\n", 0,
     "line 1 of file cannot be read as JSON (Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits);"
     " wanted a JSON object"),
    ("jsonl", b"[" * 100_000, 0, "line 1 of file cannot be read as JSON ("),
    ("jsonl", b'{"text": "x"}\n["y"]\n', 1, "line 2 of file is ['y']; wanted a JSON object on each line"),
    ("jsonl", b'{"text": "x"}\n{"txt": "y", "n": 1}\n', 1, "line 2 of file has no key 'text', only ['txt', 'n']; wanted one of"),
    ("jsonl", b'{"text": "x"}\n{"text": 3.5}\n', 1, "line 2 of file has 3.5 under 'text'; wanted a string"),
    ("jsonl", b'{"text": null}\n', 0, "line 1 of file has null under 'text'; wanted a string"),
    ("csv", b'id,text\n1,"x\ny"\n2\n', 1, "line 4 of file has 1 column; wanted 2, as line 1 names them"),
    ("csv", b"text,id\nI liked it, really,1\n", 0, "line 2 of file has 3 columns; wanted 2, as line 1 names them"),
    ("csv", b'id,text\n1,"x\ny"\n2,"z\n3,w\n', 1,
     "line 4 of file cannot be read as CSV (a quote is opened and never closed); wanted quotes"),
    ("csv", b'id,text\n1,x\n2,"y"z\n', 1, "line 3 of file cannot be read as CSV (',' expected after '\"'); wanted quotes"),
    ("csv", b"id,text\n1,x\ry\n", 0,
     "line 2 of file cannot be read as CSV (new-line character seen in unquoted field); wanted quotes"),
    ("csv", b'id,text\n1,"x\n\xff"\n', 0, "line 3 of file is not UTF-8 (byte 1)"),
    ("csv", b"id,text\n1,x\n\n2,y\n", 1, "line 3 of file has 1 column; wanted 2, as line 1 names them"),
    ("tsv", b"text\tid\nx\t1\ny\n", 1, "line 3 of file has 1 column; wanted 2, as line 1 names them"),
    ("tsv", b"text\tid\nx\t1\ny\xff\t1\n", 1, "line 3 of file is not UTF-8 (byte 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "content", "before", "words"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_record_is_named_after_the_texts_before_it(form, content, before, words):
    texts = read_texts(io.BytesIO(content), "file", form, FIELD[form])
    assert len([next(texts) for _ in range(before)]) == before
    with pytest.raises(ValueError) as caught:
        next(texts)
    message = str(caught.value)
    assert message.startswith(words) and message.endswith(AFTER) and "\n" not in message and len(message) < 250


UNREADABLE = [
    ("lines", b"x\n", "text", "--field 'text' names a key or a column, and file is read as plain lines; leave --field"),
    ("jsonl", b'{"id": 1, "review": "x"}\n', None, "file is JSON Lines with the keys ['id', 'review']; say where the text is"),
    ("jsonl", b"", None, "file is JSON Lines with no object; say where"),
    ("csv", b'\xef\xbb\xbf"id",review\r\n', None, "file is CSV with the columns ['id', 'review']; say where the text is"),
    ("tsv", b"id\treview\r\n", None, "file is TSV with the columns ['id', 'review']; say where the text is"),
    ("csv", b"id,review\n", "text", "file has no column 'text'; it has the columns ['id', 'review'], and --field wants"),
    ("tsv", b"text\tid\ttext\n", "text", "file has more than one column 'text'; it has the columns ['text', 'id', 'text']"),
    ("csv", b"", "text", "file is empty; wanted a CSV file, whose first line names its columns"),
    ("tsv", b"", None, "file is empty; wanted a TSV file"),
    ("csv", b'"id,review\n', "text", "line 1 of file cannot be read as CSV (a quote is opened and never closed)"),
    ("xml", b"", None, "form is 'xml'; wanted one of lines, jsonl, csv, tsv"),
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
        def __next__(self):
            if self.tell() > 2:
                raise OSError(errno.EIO, "Input/output error")
            return super().__next__()

    texts = read_texts(Broken(b"x\ny\nz\n"), "file", "lines")
    assert [next(texts).text, next(texts).text] == ["x", "y"]
    with pytest.raises(ValueError, match=r"^file cannot be read behind line 2 \(Input/output error\)\.$"):
        next(texts)
