"""The command line: what it prints, where, and with which exit status."""

import csv
import gzip
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time

from minibert.checkpoint import DEFAULT, PINNED, bundled
from minibert.fast import unsupported_reason

import pytest
import torch
from conftest import Done
from helpers import BAD, GOOD, NOBODY, SST2, environment, on_a_terminal
from loopback import LoopbackHub, stated_hash
from served import served


@pytest.fixture
def process(tmp_path):
    """The command in a process of its own, for what depends on one: status, standard output, standard error."""

    def call(*arguments, stdin=b"", endpoint=NOBODY, before=""):
        start = ["-c", f"{before}\nfrom minibert.command.cli import main; main()"] if before else ["-m", "minibert"]
        command = [*served(), *start, *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, env=environment(tmp_path, endpoint), timeout=120)
        assert b"Traceback" not in done.stderr
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


@pytest.fixture(scope="module")
def files():
    """What the Hub would serve under the default checkpoint's name: here, the one that ships."""
    return {path.name: path.read_bytes() for path in bundled()["mini-sst2"].iterdir()}


def pins(files: dict[str, bytes]) -> str:
    """Lines of Python after which these files are what minibert knows as the default checkpoint's."""
    hashes = {name: stated_hash(name, content) for name, content in files.items()}
    return f"import minibert.checkpoint\nminibert.checkpoint.HASHES[{PINNED[DEFAULT]!r}] = {hashes}"


def test_without_the_hub_two_texts_get_their_labels_and_the_model_its_name(process):
    done = process("classify", GOOD, BAD)
    assert done.returncode == 0
    model, first, second = done.stdout.splitlines()
    assert model == "model: mini-sst2"
    assert first.startswith("POSITIVE 0.") and first.endswith(GOOD)
    assert second.startswith("NEGATIVE 0.") and second.endswith(BAD)
    assert done.stderr.count("\n") == 1 and "mini-sst2, which ships with minibert, answers instead" in done.stderr


def test_with_the_hub_the_pinned_checkpoint_speaks(process, files):
    with LoopbackHub({DEFAULT: files}, commit=PINNED[DEFAULT]) as hub:
        done = process("classify", GOOD, endpoint=hub.endpoint, before=pins(files))
        assert done.returncode == 0 and done.stdout.startswith(f"model: {DEFAULT}@714eb0f\n")
        assert "answers instead" not in done.stderr
        hub.requests.clear()
        assert process("classify", GOOD, endpoint=hub.endpoint, before=pins(files)).stdout == done.stdout
        assert hub.requests == []  # all of it came from the cache


def test_json_gives_one_object_a_text(minibert):
    done = minibert("classify", "--model", "mini-sst2", "--json", GOOD, "\U0001f600 \x1b[31m")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == [GOOD, "\U0001f600 \x1b[31m"]
    assert all(line.keys() == {"text", "label", "score", "model"} and line["model"] == "mini-sst2" for line in lines)
    assert lines[0]["label"] == "POSITIVE" and lines[0]["score"] > 0.5
    assert "\x1b" not in done.stdout


def test_top_k_shows_every_label_best_first(minibert):
    done = minibert("classify", "--model", "mini-sst2", "--json", "--top-k", "2", BAD)
    [line] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["label"] for one in line["top_k"]] == ["NEGATIVE", "POSITIVE"]
    assert line["label"] == "NEGATIVE" and line["score"] == line["top_k"][0]["score"]
    assert sum(one["score"] for one in line["top_k"]) == pytest.approx(1, abs=1e-6)
    human = minibert("classify", "--model", "mini-sst2", "--top-k", "2", BAD).stdout.splitlines()[1]
    assert human.split()[0::2][:2] == ["NEGATIVE", "POSITIVE"]


def test_lines_are_read_from_standard_input_or_a_file_and_none_is_lost(minibert, tmp_path):
    content = "\ufefffirst\r\n\nthird \u2028 line\n".encode() + b"last"
    (tmp_path / "lines.txt").write_bytes(content)
    expected = ["first", "", "third \u2028 line", "last"]
    for done in (
        minibert("classify", "--model", "mini-sst2", "--json", stdin=content),
        minibert("classify", "--model", "mini-sst2", "--json", "--file", tmp_path / "lines.txt"),
    ):
        assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == expected


def test_a_line_that_is_not_utf8_is_named_after_the_lines_before_it(minibert):
    done = minibert("classify", "--model", "mini-sst2", "--json", stdin=b"good\nbad\n\xff\xfe\nnever\n")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2
    assert done.stderr.startswith("minibert: line 3 of standard input is not UTF-8 (byte 1)")


@pytest.mark.parametrize("name", ["reviews.txt.gz", "REVIEWS.CSV.GZ"])
def test_a_file_in_gzip_is_read_as_what_is_in_it(minibert, reviews, tmp_path, name):
    inner, output = reviews / name.lower().removesuffix(".gz"), tmp_path / "labels.jsonl"
    field = [] if ".txt" in name else ["--field", "review"]
    (tmp_path / name).write_bytes(gzip.compress(inner.read_bytes()))
    expected = objects(minibert("classify", *SST2, "--file", inner, "--json", *field).stdout)
    assert minibert("classify", *SST2, "--file", tmp_path / name, "--output", output, *field).returncode == 0
    assert objects(output.read_text()) == expected and len(expected) == 8
    whole = output.read_bytes()
    output.write_bytes(whole[: len(whole) // 2])
    done = minibert("classify", *SST2, "--file", tmp_path / name, "--output", output, "--resume", *field)
    assert done.returncode == 0 and "that had theirs before" in done.stdout
    assert [one["text"] for one in objects(output.read_text())] == [one["text"] for one in expected]


@pytest.mark.parametrize(
    ("content", "words"),
    [(gzip.compress(b"good\n" * 9)[:-9], "cannot be read behind line 9 (Compressed file ended before the end-of-"),
     (b"good\n", "cannot be read behind line 0 (Not a gzipped file"), (gzip.compress(b"PAR1\x15\n"), "is a Parquet file"),
     (gzip.compress(b"good\n" * 9)[:10] + b"\x07" * 30, "cannot be read behind line 0 (Error -3 while decompressing data")],
    ids=["cut off", "not gzip", "with no text in it", "damaged"],
)  # fmt: skip
def test_a_gzip_that_cannot_be_read_is_one_sentence(minibert, tmp_path, content, words):
    (tmp_path / "a.txt.gz").write_bytes(content)
    done = minibert("classify", *SST2, "--json", "--file", tmp_path / "a.txt.gz")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"a.txt.gz {words}" in done.stderr


def test_a_bar_for_a_gzip_shows_number_and_time_gone_and_no_share(tmp_path):
    (tmp_path / "lines.txt.gz").write_bytes(gzip.compress(b"good\n" * 100))
    shown, _, status = on_a_terminal(tmp_path, "--file", tmp_path / "lines.txt.gz", "--output", tmp_path / "labels.jsonl")
    assert status == 0 and re.search(r"\r\d\d:\d\d gone, 100 texts, [\d,.]+ texts/s\r\n$", shown) and "%" not in shown


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.json", b'[\n{"text": "good"}\n]\n', "is JSON, a value for the whole file, as its name says; make JSON Lines"),
     ("a.txt", b'[{"text": "good"}]', "begins like a JSON array; make"), ("a.parquet", b"", "is a Parquet file"),
     ("a.txt", b"PK\x03\x04", "is a zip archive, or an Excel"), ("a.txt", "\ufeffgood".encode("utf-16-le"), "is UTF-16, as its"),
     ("a.txt", b"a\0b\n", "is not a text, for its byte 2 is zero")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_of_no_texts_has_no_label_and_leaves_the_output_alone(minibert, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "labels.jsonl").write_text("before\n")
    done = minibert("classify", *SST2, "--file", tmp_path / name, "--output", tmp_path / "labels.jsonl")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1 and f"{name} {words}" in done.stderr
    assert (tmp_path / "labels.jsonl").read_text() == "before\n"
    if content:
        done = minibert("classify", *SST2, "--json", stdin=content)
        assert done.returncode == 1 and done.stdout == "" and "standard input " in done.stderr and done.stderr.count("\n") == 1


def test_json_lines_under_another_name_are_plain_text_with_a_warning(minibert, tmp_path):
    (tmp_path / "a.txt").write_text('{"text": "good"}\n')
    done = minibert("classify", *SST2, "--json", "--file", tmp_path / "a.txt")
    assert done.returncode == 0 and objects(done.stdout)[0]["text"] == '{"text": "good"}'
    assert done.stderr.startswith("minibert: warning: ") and "--format jsonl reads the text in each object" in done.stderr
    assert minibert("classify", *SST2, "--json", "--file", tmp_path / "a.txt", "--format", "lines") == (0, done.stdout, "")
    assert minibert("classify", *SST2, "--file", tmp_path / "a.txt", "--format", "jsonl", "--field", "text").returncode == 0


def test_a_blank_line_at_the_end_of_a_table_ends_a_complete_run_with_status_0(minibert, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,review\r\n1,good\r\n\r\n")
    done = minibert("classify", *SST2, "--json", "--file", tmp_path / "a.csv", "--field", "review")
    assert done.returncode == 0 and done.stderr == "" and [one["text"] for one in objects(done.stdout)] == ["good"]


def test_of_a_line_that_is_too_long_the_beginning_is_kept_with_a_warning_and_resuming_agrees(minibert, tmp_path, monkeypatch):
    for file in ("text_file", "label_file"):
        monkeypatch.setattr(f"minibert.command.{file}.LONGEST", 5000)
    long, output = "really good " * 1000, tmp_path / "labels.jsonl"
    (tmp_path / "a.txt").write_text(f"{long}\nbad\n{long}")
    done = minibert("classify", *SST2, "--file", tmp_path / "a.txt", "--output", output)
    first, second = done.stderr.splitlines()
    assert first.startswith("minibert: warning: text 0 has a line of more than 5,000 bytes: no more is kept as its text, or")
    assert "text 0 has more than the 512 tokens that this model reads" in second
    found = objects(output.read_text())
    assert [one["text"] for one in found] == [long[:5000], "bad", long[:5000]]
    whole = objects(minibert("classify", *SST2, "--json", long).stdout)[0]
    assert found[0]["score"] == pytest.approx(whole["score"], abs=1e-5) and found[0]["label"] == whole["label"]
    kept = output.read_bytes()
    output.write_bytes(kept[: len(kept) // 2])
    done = minibert("classify", *SST2, "--file", tmp_path / "a.txt", "--output", output, "--resume")
    assert done.returncode == 0 and [one["text"] for one in objects(output.read_text())] == [long[:5000], "bad", long[:5000]]


def test_a_long_line_whose_tokens_are_not_sure_is_refused(minibert, tmp_path, monkeypatch):
    for file in ("text_file", "label_file"):
        monkeypatch.setattr(f"minibert.command.{file}.LONGEST", 5000)
    (tmp_path / "a.txt").write_text("good\n" + "a" * 5100 + " bad\n")
    done = minibert("classify", *SST2, "--json", "--file", tmp_path / "a.txt")
    assert done.returncode == 1 and [one["text"] for one in objects(done.stdout)] == ["good"]
    assert "text 1 has a line of more than 5,000 bytes, and these do not give the 512 tokens that the model reads" in done.stderr


def test_control_characters_never_reach_the_terminal(minibert):
    done = minibert("classify", "--model", "mini-sst2", "red \x1b[31m \x07 \u202e abc")
    assert r"red \x1b[31m \x07 \u202e abc" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "./nowhere", "x"], "there is no folder ./nowhere"),
        (["--model", "mini-sst3", "x"], "There is no folder mini-sst3 either; what ships is: mini-sst2."),
        (["--model", "mini-sst2", "--file", "nowhere.txt"], "--file 'nowhere.txt' cannot be read"),
        (["--revision", 40 * "9", "x"], "is not in the cache"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_error_is_one_line_and_status_1(minibert, arguments, words):
    done = minibert("classify", *arguments)
    assert done.returncode == 1 and done.stdout in ("", "model: mini-sst2\n")
    assert done.stderr.startswith("minibert: ") and done.stderr.count("\n") == 1 and words in done.stderr


def test_a_checkpoint_that_was_asked_for_is_never_replaced(process):
    done = process("classify", "--model", "some/model", "x")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("minibert: ")
    assert "cannot be reached for some/model" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "not a name!", "x"], "is not a Hub id"),
        (["--model", "mini-sst2", "--revision", "main", "x"], "is a folder, and revision='main' is for the Hub"),
        (["--model", "mini-sst2", "--device", "toaster", "x"], "device is 'toaster'"),
        (["--model", "mini-sst2", "--file", ""], "--file '' cannot be read"),
        (["--model", "mini-sst2", "--file", "."], "--file '.' cannot be read"),
        (["--model", "mini-sst2", "--output", "no folder/x", "x"], "--output 'no folder/x' cannot be written (No such"),
        (["--model", "mini-sst2", "--output", ".", "x"], "--output '.' cannot be written ("),
        (["--model", "mini-sst2", "--output", "", "x"], "--output '' cannot be written ("),
        (["--model", "mini-sst2", "--field", "text"], "standard input is read as plain lines; leave --field out"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_argument_that_does_not_fit_is_one_line_and_status_1(minibert, arguments, words):
    status, out, err = minibert("classify", *arguments)
    assert status == 1 and out in ("", "model: mini-sst2\n")
    assert err.startswith("minibert: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize("arguments", [[], ["sing"], ["classify", "--top-k", "0", "x"], ["classify", "--file", "a", "b"],
                                       ["classify", "--field", "a", "b"], ["classify", "--format", "csv", "b"],
                                       ["classify", "--format", "xml"], ["classify", "--dtype", "int8", "b"]], ids=str)  # fmt: skip
def test_a_usage_error_is_status_2(minibert, arguments):
    done = minibert(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: minibert")


REVIEWS = ["I love it!", "", BAD, 'a bore, "really"', "I love it!", "so bad " * 40, "two\nlines", "\x1b[31m \u2028 \U0001f600"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """The same texts in each form, by the standard library's writers; plain lines have no line ends in them."""
    folder = tmp_path_factory.mktemp("reviews")
    with open(folder / "reviews.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "review"], *enumerate(REVIEWS)])
    (folder / "reviews.jsonl").write_text("".join(json.dumps({"id": 1, "review": text}) + "\n" for text in REVIEWS))
    (folder / "reviews.tsv").write_bytes(b"review\tid\n" + b"".join(f"{line(text)}\t1\n".encode() for text in REVIEWS))
    (folder / "reviews.txt").write_bytes("\n".join(map(line, REVIEWS)).encode())
    return folder


def line(text):
    return text.replace("\n", " ")


def objects(written):
    return [json.loads(line) for line in written.splitlines()]


@pytest.mark.parametrize("form", ["lines", "jsonl", "csv", "tsv"])
def test_every_text_of_a_file_has_its_label_in_the_output_and_nothing_else_is_printed(minibert, reviews, tmp_path, form):
    file, output = reviews / f"reviews.{form.replace('lines', 'txt')}", tmp_path / "labels.jsonl"
    field = [] if form == "lines" else ["--field", "review"]
    done = minibert("classify", *SST2, "--file", file, "--output", output, *field)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == f"8 texts -> {output} (model: mini-sst2)\n"
    expected = REVIEWS if form in ("jsonl", "csv") else [line(text) for text in REVIEWS]
    assert [one["text"] for one in objects(output.read_text())] == expected
    printed = minibert("classify", *SST2, "--json", "--format", form, *field, stdin=file.read_bytes())
    for one, other in zip(objects(printed.stdout), objects(output.read_text()), strict=True):
        assert other == one | {"score": pytest.approx(one["score"], abs=1e-5)}  # texts from a pipe may be padded with others


def test_dtype_is_what_the_model_computes_in(minibert):
    [exact] = objects(minibert("classify", *SST2, "--json", "--dtype", "float32", BAD).stdout)
    [half] = objects(minibert("classify", *SST2, "--json", "--dtype", "bfloat16", BAD).stdout)
    assert exact == objects(minibert("classify", *SST2, "--json", BAD).stdout)[0]
    apart = abs(half["score"] - exact["score"])
    assert half["label"] == exact["label"] and apart < 0.02  # 8 bits of mantissa
    assert (apart > 0) == (unsupported_reason(torch.bfloat16) is None)  # a processor without bfloat16 computes in float32


def test_texts_and_standard_input_go_to_the_output_too_with_top_k(minibert, tmp_path):
    output = tmp_path / "labels.jsonl"
    output.write_text("what was there before\n" * 100)
    done = minibert("classify", *SST2, "--top-k", "2", "--output", output, BAD)
    assert done.stdout == f"1 text -> {output} (model: mini-sst2)\n"
    [one] = objects(output.read_text())
    assert one.keys() == {"text", "label", "score", "model", "top_k"} and one["text"] == BAD and one["label"] == "NEGATIVE"
    assert [label["label"] for label in one["top_k"]] == ["NEGATIVE", "POSITIVE"]
    assert minibert("classify", *SST2, "--output", output, stdin=b"a\nb\n").stdout.startswith("2 texts ->")
    assert [one["text"] for one in objects(output.read_text())] == ["a", "b"]
    assert minibert("classify", *SST2, "--output", output, stdin=b"").stdout.startswith("0 texts ->")
    assert output.read_bytes() == b""


def test_a_table_without_the_field_is_refused_before_the_output_is_touched(minibert, reviews, tmp_path):
    output = tmp_path / "labels.jsonl"
    output.write_text("before\n")
    for more, words in (([], "CSV with the columns ['id', 'review']; say where"), (["--field", "text"], "has no column 'text'")):
        done = minibert("classify", *SST2, "--file", reviews / "reviews.csv", "--output", output, *more)
        assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
        assert output.read_text() == "before\n"
    keys = tmp_path / "keys.jsonl"
    keys.write_text('{"review": "good"}\n')
    done = minibert("classify", *SST2, "--file", keys, "--output", output, "--field", "text")
    assert done.returncode == 1 and "line 1 of" in done.stderr and "has no key 'text'" in done.stderr
    assert output.read_text() == "before\n"
    done = minibert("classify", *SST2, "--file", reviews / "reviews.tsv", "--format", "lines", "--json")
    assert objects(done.stdout)[0]["text"] == "review\tid"


def test_the_output_is_left_alone_until_model_and_input_are_there(minibert, tmp_path):
    output = tmp_path / "labels.jsonl"
    output.write_text("before\n")
    for arguments in (["--model", "./nowhere"], [*SST2, "--file", "nowhere.txt"]):
        assert minibert("classify", *arguments, "--output", output).returncode == 1
        assert output.read_text() == "before\n"


@pytest.mark.parametrize("way", ["name", "symbolic link", "hard link"])
def test_an_output_that_is_the_input_is_refused_and_the_input_stays(minibert, tmp_path, way):
    file = output = tmp_path / "reviews.txt"
    file.write_text("good\nbad\n")
    if way.endswith("link"):
        output = tmp_path / "link"
        output.symlink_to(file) if way == "symbolic link" else output.hardlink_to(file)
    done = minibert("classify", *SST2, "--file", file, "--output", output)
    assert done.returncode == 1 and done.stdout == "" and "is the file that the texts are read from" in done.stderr
    assert done.stderr.count("\n") == 1 and file.read_text() == "good\nbad\n"


def test_an_output_that_is_the_standard_input_is_refused_and_the_input_stays(tmp_path):
    file = tmp_path / "reviews.txt"
    file.write_text("good\nbad\n")
    command = [*served(), "-m", "minibert", "classify", *SST2, "--output", file]
    with open(file, "rb") as stdin:
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.returncode == 1 and done.stdout == "" and "is the file that the texts are read from" in done.stderr
    assert done.stderr.count("\n") == 1 and file.read_text() == "good\nbad\n"


def test_a_bad_record_leaves_the_lines_before_it_and_the_error_counts_them(minibert, tmp_path):
    file, output = tmp_path / "reviews.ndjson", tmp_path / "labels.jsonl"
    good = b"".join(b'{"review": "number %d"}\n' % number for number in range(11))
    file.write_bytes(good + b'{"text": ""}\n{"review": "never"}\n')
    done = minibert("classify", *SST2, "--file", file, "--field", "review", "--output", output)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"minibert: line 12 of {file} has no key 'review', only ['text']; expected")
    assert done.stderr.endswith(f"; the texts before it were classified. 11 lines of labels can be read in {output}.\n")
    assert [one["text"] for one in objects(output.read_text())] == [f"number {number}" for number in range(11)]


def test_a_full_disk_is_one_sentence_and_no_half_line_stays(minibert, tmp_path):
    done = minibert("classify", *SST2, "--output", "/dev/full", "x")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "--output '/dev/full' cannot be written (No space left on device)" in done.stderr
    assert "0 lines of labels can be read" in done.stderr
    command = [sys.executable, "-B", "-m", "minibert", "classify", *SST2, "--output", tmp_path / "labels.jsonl"]
    done = subprocess.run(
        command, input="good\n" * 20, capture_output=True, text=True, env=environment(tmp_path), timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
    )  # fmt: skip
    kept = (tmp_path / "labels.jsonl").read_text()
    assert done.returncode == 1 and "cannot be written (File too large)" in done.stderr and kept.endswith("}\n")
    assert f"{len(objects(kept))} lines of labels" in done.stderr and 300 < len(kept) <= 500


@pytest.mark.parametrize("columns", [100, 0], ids=["100 columns", "of unknown width"])
@pytest.mark.some(1)
def test_a_bar_on_a_terminal_shows_share_number_rate_and_time_left(tmp_path, columns):
    (tmp_path / "lines.txt").write_text("good\n" * 1200)
    arguments = ("--file", tmp_path / "lines.txt", "--output", tmp_path / "labels.jsonl")
    shown, printed, status = on_a_terminal(tmp_path, *arguments, columns=columns)
    assert status == 0 and printed == f"1,200 texts -> {tmp_path / 'labels.jsonl'} (model: mini-sst2)\n"
    states = re.findall(r"\r *(\d+)%\|[^|]*\| (\S+) left, ([\d,]+) texts?, ([\d,.]+) texts/s", shown)
    shares = [int(share) for share, *_ in states]
    assert len(states) >= 2 and shares == sorted(shares) and shares[0] < shares[-1] == 100
    assert states[-1][1:3] == ("00:00", "1,200")
    for share, _, number, rate in states:
        assert int(number.replace(",", "")) == pytest.approx(12 * int(share), abs=12) and float(rate.replace(",", "")) > 0


def test_a_bar_for_a_pipe_shows_number_rate_and_time_gone(tmp_path):
    shown, printed, status = on_a_terminal(tmp_path, "--json", stdin=b"good\n" * 100)
    assert status == 0 and [one["text"] for one in objects(printed)] == ["good"] * 100
    assert re.search(r"\r\d\d:\d\d gone, 100 texts, [\d,.]+ texts/s\r\n$", shown) and "%" not in shown


def test_a_bar_breaks_neither_an_error_nor_a_warning(tmp_path):
    stdin = b"good\n" * 20 + b"good " * 600 + b"\n" + b"good\n" * 20 + b"\xff\n"
    shown, printed, status = on_a_terminal(tmp_path, "--json", stdin=stdin)
    assert status == 1 and len(objects(printed)) == 41
    lines = [part for part in re.split(r"[\r\n]+", shown) if part.strip()]
    assert lines[-1].startswith("minibert: line 42 of standard input is not UTF-8") and " gone, 41 texts" in lines[-2]
    assert next(part for part in lines if "warning" in part).startswith("minibert: warning: text 20 has more than the 512 tokens")


def test_there_is_no_bar_where_nobody_sees_it_or_the_labels_are_on_the_terminal(minibert, tmp_path):
    file, output = tmp_path / "lines.txt", tmp_path / "labels.jsonl"
    file.write_text("good\n" * 100)
    assert minibert("classify", *SST2, "--file", file, "--output", output).stderr == ""
    shown, _, _ = on_a_terminal(tmp_path, "--file", file, stdout=None)
    assert "texts/s" not in shown and shown.count("POSITIVE") == 100
    assert on_a_terminal(tmp_path, "--output", output, "x", "y")[0] == ""


def test_without_a_terminal_nothing_of_a_bar_is_imported(tmp_path):
    (tmp_path / "lines.txt").write_text("good\n")
    arguments = ["classify", *SST2, "--file", str(tmp_path / "lines.txt"), "--output", str(tmp_path / "labels.jsonl")]
    code = f"""import sys, minibert.command.cli
try:
    minibert.command.cli.main({arguments})
except SystemExit:
    print("huggingface_hub" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("way", ["printed", "in the output"])
def test_on_a_terminal_each_line_is_answered_before_the_next_comes(tmp_path, way):
    answers = tmp_path / "labels.jsonl"
    answers.touch()
    ours, theirs = os.openpty()
    command = [*served(), "-m", "minibert", "classify", *SST2, *(["--json"] if way == "printed" else ["--output", answers])]
    with open(answers if way == "printed" else os.devnull, "wb") as stdout, subprocess.Popen(
        command, stdin=theirs, stdout=stdout, stderr=subprocess.PIPE, env=environment(tmp_path)
    ) as child:  # fmt: skip
        os.close(theirs)
        try:
            for count, text in enumerate(["good", "bad", "good"], start=1):
                os.write(ours, f"{text}\n".encode())
                until = time.monotonic() + 30
                while answers.read_bytes().count(b"\n") < count and time.monotonic() < until:
                    time.sleep(0.02)
                assert [one["text"] for one in objects(answers.read_text())] == ["good", "bad", "good"][:count]
            os.write(ours, b"\x04")
            _, errors = child.communicate(timeout=60)
        finally:
            child.kill()
    os.close(ours)
    assert child.returncode == 0 and errors.decode() == "minibert: one text a line; Ctrl-D ends.\n"


def test_fetch_fills_the_cache_or_a_folder_that_works_without_a_network(process, files, tmp_path):
    folder = tmp_path / "for the class"
    with LoopbackHub({"some/model": files | {"pytorch_model.bin": b"a pickle"}}) as hub:
        done = process("fetch", "some/model", "--to", folder, endpoint=hub.endpoint)
    assert done.returncode == 0 and str(folder) in done.stdout
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files  # real files, and no pickle
    done = process("classify", "--model", folder, GOOD)
    assert done.returncode == 0 and done.stdout.startswith(f"model: {folder}\nPOSITIVE")


def test_fetch_leaves_nothing_of_another_checkpoint_and_refuses_a_folder_without_one(minibert, tmp_path):
    folder = tmp_path / "used"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("another checkpoint's")
    assert minibert("fetch", "mini-sst2", "--to", folder).returncode == 0
    assert not (folder / "tokenizer.json").exists() and (folder / "vocab.txt").exists()
    (tmp_path / "empty").mkdir()
    done = minibert("fetch", tmp_path / "empty", "--to", folder)
    assert done.returncode == 1 and "holds no checkpoint" in done.stderr


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(tmp_path):
    command = f"yes good | {shlex.join(served())} -m minibert classify --model mini-sst2 | head -n 2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(tmp_path), timeout=120)
    assert len(done.stdout.splitlines()) == 2 and done.stderr == ""


def test_ctrl_c_ends_with_status_130_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "minibert", "classify", "--model", "mini-sst2", "--json"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, env=environment(tmp_path)) as child:
        child.stdin.write(b"good\n" * 8)
        child.stdin.flush()
        assert len([child.stdout.readline() for _ in range(8)]) == 8
        time.sleep(0.5)  # by now it waits for the next line
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130 and b"Traceback" not in errors


LAB = '''
from transformers import pipeline
classifier = pipeline("sentiment-analysis")
print(classifier(["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]))

from transformers import AutoTokenizer
checkpoint = "distilbert-base-uncased-finetuned-sst-2-english"
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
raw_inputs = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]
inputs = tokenizer(raw_inputs, padding=True, truncation=True, return_tensors="pt")
print(inputs)

from transformers import AutoModel
model = AutoModel.from_pretrained(checkpoint)
outputs = model(**inputs)
print(outputs.last_hidden_state.shape)

from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
outputs = model(**inputs)
print(outputs.logits.shape)

import torch
predictions = torch.nn.functional.softmax(outputs.logits, dim=-1)
print(predictions)
print(model.config.id2label)
'''


def test_the_labs_code_runs_with_one_word_changed(files, tmp_path):
    lab = tmp_path / "lab.py"
    lab.write_text(LAB.replace("from transformers import", "from minibert import"))
    with LoopbackHub({DEFAULT: files}, commit=PINNED[DEFAULT]) as hub:
        command = [*served(), "-c", f"{pins(files)}\nimport runpy; runpy.run_path({str(lab)!r})"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path, hub.endpoint), timeout=120)
    assert done.returncode == 0, done.stderr
    for words in ("'label': 'POSITIVE', 'score': 0.", "'input_ids': tensor([[  101,  1045,", "torch.Size([2, 16, 384])",
                  "torch.Size([2, 2])", "{0: 'NEGATIVE', 1: 'POSITIVE'}"):  # fmt: skip
        assert words in done.stdout


def test_the_labs_code_runs_offline_from_its_first_line_to_its_last_without_numpy_and_transformers(tmp_path):
    lab = tmp_path / "lab.py"
    lab.write_text(LAB.replace("from transformers import", "from minibert import"))
    bare = "import runpy, sys; sys.modules |= {'numpy': None, 'transformers': None}"
    command = [sys.executable, "-c", f"{bare}; runpy.run_path({str(lab)!r})"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("answers instead") == 1 and "NumPy" not in done.stderr
    for words in ("'label': 'POSITIVE', 'score': 0.", "'label': 'NEGATIVE', 'score': 0.", "'input_ids': tensor([[  101,  1045,",
                  "torch.Size([2, 16, 384])", "torch.Size([2, 2])", "{0: 'NEGATIVE', 1: 'POSITIVE'}"):  # fmt: skip
        assert words in done.stdout


def test_importing_minibert_imports_torch_and_nothing_else_beside_it(tmp_path):
    code = """import sys, torch
before = set(sys.modules)
import minibert
print(sorted({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names - {"torch"}))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.stdout.strip() == "['minibert']", done.stdout + done.stderr


def test_explain_shows_the_way_from_text_to_label(minibert, process):
    done = minibert("explain", BAD, "--model", "mini-sst2")
    assert done.returncode == 0 and done.stderr == ""
    for words in (f'"{BAD}"', "5223  hate", "scores = queries @ keys.transpose(2, 3)", "▇", "NEGATIVE"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) == 80 and "\x1b" not in done.stdout
    score = json.loads(minibert("classify", "--model", "mini-sst2", "--json", BAD).stdout)["score"]
    assert f"NEGATIVE, with probability {score:.4f}" in done.stdout
    assert process("explain", BAD).stdout == done.stdout  # without the Hub, the checkpoint that ships


def test_explain_shows_the_block_and_the_label_asked_for(minibert):
    done = minibert("explain", "--block", "4", "--label", "POSITIVE", BAD, "--model", "mini-sst2").stdout
    assert "distilbert.transformer.layer.4.attention" in done and "layer.0" not in done
    assert "which was given POSITIVE as the right label" in " ".join(done.split())


def test_explain_writes_a_page_whole_and_says_where(minibert, tmp_path):
    place = tmp_path / "the page.html"
    place.write_text("what was there before")
    done = minibert("explain", BAD, "--model", "mini-sst2", "--html", place)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == f"{place} ({place.stat().st_size / 1e6:.1f} MB): open it in a browser.\n"
    assert place.read_text("utf-8").startswith("<!") and "MultiHeadSelfAttention" in place.read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["the page.html"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--block", "6"], "block is 6; this model has the blocks 0 to 5."),
        (["--block", "-1"], "block is -1; this model has the blocks 0 to 5."),
        (["--label", "UGLY"], "label is 'UGLY'; this model knows NEGATIVE, POSITIVE."),
        (["--html", "no folder/page.html"], "'no folder/page.html' cannot be written (No such file or directory)"),
        (["--html", "."], "'.' cannot be written ("),
        (["--html", ""], "'' cannot be written ("),
        (["--model", "./nowhere"], "there is no folder ./nowhere"),
        (["--revision", "main"], "is a folder, and revision='main' is for the Hub"),
    ],
    ids=str,
)
def test_an_error_of_explain_is_one_line_and_status_1(minibert, arguments, words):
    model = [] if "--model" in arguments else ["--model", "mini-sst2"]
    status, out, err = minibert("explain", *model, *arguments, "--", "x")
    assert status == 1 and out == ""
    assert err.startswith("minibert: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "TEXT"),
        (["I", "hate", "\x1b[31m"], r'here are 3; put quotes around it: "I hate \x1b[31m"'),
        (["--block", "first", "x"], "--block"),
        (["--block", "1", "--html", "page.html", "x"], "not allowed with"),
    ],
    ids=str,
)
def test_a_usage_error_of_explain_is_status_2(minibert, arguments, words):
    done = minibert("explain", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: minibert explain") and words in done.stderr


def test_explains_usage_names_every_option(minibert):
    usage, _, options = minibert("explain", "--help").stdout.partition("positional arguments")
    names = {word.strip(",") for word in options.split() if word.startswith("--")}
    assert len(names) == 6 and all(name in usage for name in names - {"--help"})


def test_explain_in_a_pipe_ends_quietly_and_in_ascii_stays_ascii(tmp_path):
    command = f'{shlex.join(served())} -m minibert explain --model mini-sst2 "na\u00efve \u6f22"'
    ours = environment(tmp_path)
    done = subprocess.run(["bash", "-c", f"{command} | head -n 3"], capture_output=True, env=ours, timeout=120)
    assert len(done.stdout.splitlines()) == 3 and done.stderr == b""
    ours |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=ours, timeout=120)
    assert done.returncode == 0 and rb'"na\xefve \u6f22"' in done.stdout
    lines = done.stdout.decode("ascii").splitlines()
    assert max(map(len, lines)) == 80 and any(line.startswith("-- Embeddings ---") for line in lines)


@pytest.mark.parametrize(("command", "imported"), [("classify", False), ("explain", True)])
@pytest.mark.some(1)
def test_only_explain_imports_what_teaches(tmp_path, command, imported):
    code = f"""import sys, minibert.command.cli
assert "minibert.learn" not in sys.modules
try:
    minibert.command.cli.main(["{command}", "--model", "mini-sst2", "x"])
except SystemExit:
    print("minibert.learn" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.stdout.splitlines()[-1] == str(imported), done.stderr
