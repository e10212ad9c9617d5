"""`minibert classify --resume`: wherever a run ended, the next one completes its output, and no line is lost or doubled."""

import csv
import fcntl
import io
import json
import os
import re
import sys
import tracemalloc
import warnings
from types import SimpleNamespace

from minibert.command import output_file
from minibert.command.cli import main
from minibert.command.output_file import RECHECKED_LINES
from minibert.command.text_file import Text
from minibert.fast import unsupported_reason
from minibert.text_classification import pipeline
from minibert.tokenizer import DistilBertTokenizer

import pytest
import torch
from helpers import SST2, on_a_terminal

TEXTS = ["word7", "", "word8 word9", "word7", 'word11, "word12"', "caf\u00e9 \u2028 \U0001f600", "word13 " * 30, "word14"] * 2
FORMS = pytest.mark.parametrize("form", ["lines", "jsonl", "csv", "tsv", "standard input"])


@pytest.fixture
def classify(files, tmp_path, monkeypatch, capsys):
    """Runs the command with the tiny checkpoint, in this process, in a folder with the texts in each form."""
    for name, content in files.items():
        (tmp_path / "tiny" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "tiny" / name).write_bytes(content)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model only waits for a second one
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in TEXTS), encoding="utf-8")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"t": text}) + "\n" for text in TEXTS))
    (tmp_path / "texts.tsv").write_text("t\tn\n" + "".join(f"{text}\t1\n" for text in TEXTS), encoding="utf-8")
    with open("texts.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["n", "t"], *enumerate(TEXTS)])

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main(["classify", "--model", "tiny", *map(str, arguments)])
        printed, code = capsys.readouterr(), ended.value.code
        errors = [line for line in printed.err.splitlines() if "warning" not in line]
        if isinstance(code, str):  # which Python prints, and ends with 1
            errors, code = [*errors, code], 1
        return SimpleNamespace(returncode=code, stdout=printed.out, errors=errors)

    yield call
    torch.set_num_threads(threads)


def way_in(form):
    """The arguments and the standard input that give the texts in one form."""
    if form == "standard input":
        return ["--format", "jsonl", "--field", "t"], "".join(json.dumps({"t": text}) + "\n" for text in TEXTS).encode()
    if form == "lines":
        return ["--file", "texts.txt"], b""
    return ["--file", f"texts.{form}", "--field", "t"], b""


def assert_equal(found, wanted):
    """The same lines; the scores to rounding, since other texts may have been padded together."""
    found, wanted = ([json.loads(line) for line in content.decode().splitlines()] for content in (found, wanted))
    assert [one | {"score": 0} for one in found] == [one | {"score": 0} for one in wanted]
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in wanted], abs=1e-5)


@FORMS
@pytest.mark.some(2)
def test_wherever_the_output_was_cut_off_the_next_run_completes_it(classify, tmp_path, form):
    arguments, stdin = way_in(form)
    output = tmp_path / "labels.jsonl"
    assert classify(*arguments, "--output", output, stdin=stdin).returncode == 0
    whole = output.read_bytes()
    assert [json.loads(line)["text"] for line in whole.splitlines()] == TEXTS
    ends = [0, *(found.end() for found in re.finditer(b"\n", whole))]
    cuts = {ends[1] - 1, ends[1], ends[2] + 5, ends[3] + 30, ends[-2], len(whole) - 1, len(whole)}
    for cut in sorted(cuts | set(range(0, len(whole), 61)) if form == "lines" else cuts):
        output.write_bytes(whole[:cut])
        done = classify(*arguments, "--output", output, "--resume", stdin=stdin)
        there = sum(end <= cut + 1 for end in ends[1:])  # a line that lacks nothing but its end is whole
        new, before = len(TEXTS) - there, f", and {there} that had theirs before," if there else ""
        assert done.stdout == f"{new} text{'s' * (new != 1)}{before} -> {output} (model: tiny)\n" and done.errors == []
        assert output.read_bytes().startswith(whole[: ends[there]])
        assert_equal(output.read_bytes(), whole)


def test_what_is_labelled_stays_as_it_is_and_only_its_end_is_looked_at_once_more(classify, tmp_path, monkeypatch):
    output, given = tmp_path / "labels.jsonl", []
    classify("--file", "texts.txt", "--output", output)
    lines = output.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"score": ', b'"score":   ')  # as no run would write it
    read = DistilBertTokenizer.__call__
    listen = lambda self, texts, **more: given.extend(texts) or read(self, texts, **more)  # noqa: E731
    monkeypatch.setattr(DistilBertTokenizer, "__call__", listen)
    output.write_bytes(b"".join(lines[:9]))
    classify("--file", "texts.txt", "--output", output, "--resume")
    assert given == [*TEXTS[9 - RECHECKED_LINES : 9], *TEXTS[9:]] and output.read_bytes().startswith(b"".join(lines[:9]))
    finished = output.read_bytes()
    given.clear()
    done = classify("--file", "texts.txt", "--output", output, "--resume")
    assert given == TEXTS[-RECHECKED_LINES:] and output.read_bytes() == finished
    assert done.stdout.startswith("0 texts, and 16 that had theirs before,")


@pytest.mark.parametrize("there", [False, True], ids=["no output", "an empty output"])
def test_where_nothing_is_there_the_run_starts_at_the_beginning(classify, tmp_path, there):
    output = tmp_path / "labels.jsonl"
    if there:
        output.touch()
    assert classify("--file", "texts.txt", "--output", output, "--resume").stdout.startswith("16 texts -> ")
    assert [json.loads(line)["text"] for line in output.read_text().splitlines()] == TEXTS


def test_texts_that_were_added_to_the_input_are_labelled(classify, tmp_path):
    classify("--output", tmp_path / "labels.jsonl", "word7", "word8")
    done = classify("--output", tmp_path / "labels.jsonl", "--resume", "word7", "word8", "word9")
    assert done.stdout.startswith("1 text, and 2 that had theirs before, -> ")
    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["word7", "word8", "word9"]


def changed(line, **values):
    """A line with other values; None takes a key away."""
    return json.dumps({key: value for key, value in (json.loads(line) | values).items() if value is not None}).encode() + b"\n"


def swapped(tmp_path):
    """The tiny checkpoint under its own name, with its labels the other way round."""
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    config["id2label"] = {"0": config["id2label"]["1"], "1": config["id2label"]["0"]}
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(config))


def test_another_checkpoint_under_the_same_name_is_known_by_its_answers(classify, tmp_path):
    output = tmp_path / "labels.jsonl"
    classify("--file", "texts.txt", "--output", output)
    begun = b"".join(output.read_bytes().splitlines(keepends=True)[:5])
    output.write_bytes(begun)
    swapped(tmp_path)
    done = classify("--file", "texts.txt", "--output", output, "--resume")
    assert done.returncode == 1 and output.read_bytes() == begun
    label = r"(BAD|GOOD) 0.\d{4}"
    assert re.search(rf"line \d of .* says {label}, and tiny now gives this text {label}; --resume wants", done.errors[0])


@pytest.mark.skipif(unsupported_reason(torch.bfloat16) is not None, reason="this processor has no instructions for bfloat16")
def test_another_dtype_is_another_model(classify, tmp_path):
    output = tmp_path / "labels.jsonl"
    classify("--output", output, "word7", "word8")
    done = classify("--output", output, "--resume", "--dtype", "bfloat16", "word7", "word8", "word9")
    assert done.returncode == 1 and "is by the model 'tiny', and this is 'tiny in bfloat16'" in done.errors[0]
    classify("--output", output, "--dtype", "bfloat16", "word7", "word8")
    assert classify("--output", output, "--resume", "--dtype", "bfloat16", "word7", "word8", "word9").returncode == 0


REFUSED = {
    "another score": (lambda lines: [changed(lines[0], score=0.01)], [], "line 1 of .* says .* 0.0100, and tiny now gives"),
    "a score in words": (lambda lines: [changed(lines[0], score="high")], [], "line 1 of .* is not a JSON object with text"),
    "another text": (lambda lines: [*lines[:2], changed(lines[2], text="word0")], [], "line 3 of .* has the text 'word0', where"),
    "a text left out": (lambda lines: lines[:1] + lines[2:], [], "line 2 of .* where the input has ''"),
    "a line doubled": (lambda lines: lines[:3] + lines[2:], [], "line 4 of .* where the input has 'word7'"),
    "another model": (lambda lines: [changed(lines[0], model="other")], [], "line 1 of .* by the model 'other', and this is '"),
    "too many lines": (lambda lines: [*lines, lines[0]], [], "line 17 of .* is one too many, for the input has 16 texts"),
    "half a line too many": (lambda lines: [*lines, b'{"te'], [], "line 17 of .* is one too many"),
    "no label": (lambda lines: [changed(lines[0], label=None)], [], "line 1 of .* is not a JSON object with text, label"),
    "top_k, unasked": (lambda lines: [changed(lines[0], top_k=[1, 2])], [], "2 labels under top_k, and this run gives no top_k"),
    "no top_k": (lambda lines: lines[:1], ["--top-k", 2], "line 1 of .* has no top_k, and this run gives 2 labels under top_k"),
    "a smaller top_k": (lambda lines: [changed(lines[0], top_k=[1])], ["--top-k", 9], "has 1 labels under top_k, and .* gives 2"),
    "no JSON": (lambda lines: [lines[0], b"dear diary\n"], [], "line 2 of .* is not a JSON object"),
    "no JSON object": (lambda lines: [lines[0], b"7\n"], [], "line 2 of .* is not a JSON object"),
    "a blank line": (lambda lines: [lines[0], b"\n", *lines[1:]], [], "line 2 of .* is not a JSON object"),
    "zeros": (lambda lines: [lines[0], bytes(99)], [], "line 2 of .* is not a JSON object"),
    "half a line of something else": (lambda lines: [lines[0], b"dear di"], [], "line 2 of .* is not a JSON object"),
    "half a line of another text": (lambda lines: [*lines[:2], b'{"text": "word9'], [], "line 3 of .* is not a JSON object"),
}


@pytest.mark.parametrize(("change", "more", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.some(6)
def test_an_output_that_this_run_would_not_write_is_refused_and_stays_as_it_is(classify, tmp_path, change, more, words):
    output = tmp_path / "labels.jsonl"
    classify("--file", "texts.txt", "--output", output)
    foreign = b"".join(change(output.read_bytes().splitlines(keepends=True)))
    output.write_bytes(foreign)
    done = classify("--file", "texts.txt", "--output", output, "--resume", *more)
    assert done.returncode == 1 and done.stdout == "" and output.read_bytes() == foreign
    [error] = done.errors
    assert re.search(f"^minibert: {words}", error) or re.search(words, error)
    assert error.endswith("give another --output, or leave --resume out to write this one anew.")
    assert classify("--file", "texts.txt", "--output", output, *more).returncode == 0  # as the sentence says
    assert len(output.read_bytes().splitlines()) == len(TEXTS)


def test_top_k_goes_on_where_every_line_has_as_many_labels_as_there_are(classify, tmp_path):
    output = tmp_path / "labels.jsonl"
    classify("--file", "texts.txt", "--output", output, "--top-k", 9)
    whole = output.read_bytes()
    output.write_bytes(whole[: len(whole) // 2])
    assert classify("--file", "texts.txt", "--output", output, "--top-k", 9, "--resume").returncode == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [one["text"] for one in found] == TEXTS and all(len(one["top_k"]) == 2 for one in found)


def test_without_an_output_there_is_nothing_to_go_on_from(classify, capsys):
    assert classify("--file", "texts.txt", "--resume").returncode == 2
    done = classify("--file", "texts.txt", "--output", os.devnull, "--resume")
    assert done.returncode == 1 and "is not a plain file, and --resume has to read what is in it" in done.errors[0]


def test_a_bad_record_after_resuming_counts_all_lines_and_has_its_number_in_the_file(classify, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"t": "word7"}\n' * 5 + '{"t": "\\ud800"}\n')
    output = tmp_path / "labels.jsonl"
    first = classify("--file", "bad.jsonl", "--field", "t", "--output", output)
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:3]) + b'{"text": "wo')
    again = classify("--file", "bad.jsonl", "--field", "t", "--output", output, "--resume")
    assert first.errors == again.errors and first.returncode == again.returncode == 1
    assert "text 5 holds the lone surrogate" in first.errors[0] and "5 lines of labels can be read" in first.errors[0]
    assert [json.loads(line)["text"] for line in output.read_text().splitlines()] == ["word7"] * 5


def test_a_first_text_that_cannot_be_read_leaves_the_output_alone(classify, tmp_path):
    (tmp_path / "labels.jsonl").write_text('{"text": "half a li')
    done = classify("--output", "labels.jsonl", "--resume", stdin=b"\xff\n")
    assert done.returncode == 1 and (tmp_path / "labels.jsonl").read_text() == '{"text": "half a li'


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resumed"])
def test_an_output_that_another_run_is_writing_is_refused_and_stays_as_it_is(classify, tmp_path, resume):
    output = tmp_path / "labels.jsonl"
    classify("--output", output, "word7")
    before = output.read_bytes()
    with open(output, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = classify("--output", output, *resume, "word7", "word8")
    assert done.returncode == 1 and "is being written by another run; wait" in done.errors[0] and output.read_bytes() == before
    assert classify("--output", output, *resume, "word7", "word8").returncode == 0  # a lock does not outlive its run


def test_reading_what_is_there_takes_no_more_memory_however_much_it_is(tmp_path):
    """One line is held at a time: 64 KiB have room for it and for the readers' buffers, and not for 20,000 lines."""
    line = output_file.line_of("a film", {"label": "GOOD", "score": 0.75}, "tiny").encode() + b"\n"
    (tmp_path / "labels.jsonl").write_bytes(line * 20_000)
    with open(tmp_path / "labels.jsonl", "a+b", buffering=0) as output:
        tracemalloc.start()
        texts = (Text("a film", number) for number in range(20_001))
        left = output_file.resume(output, "labels.jsonl", texts, "tiny", None, lambda texts: [{"GOOD": 0.75}] * len(texts), 0.0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert left.texts == 20_000 and len(list(left.rest)) == 1 and peak < 2**16


def test_the_bar_starts_where_the_file_goes_on(tmp_path):
    (tmp_path / "lines.txt").write_text("good\n" * 1200)
    arguments = ("--file", tmp_path / "lines.txt", "--output", tmp_path / "labels.jsonl")
    line = output_file.line_of("good", pipeline(model="mini-sst2")("good")[0], SST2[1]) + "\n"
    (tmp_path / "labels.jsonl").write_text(line * 900)
    shown, printed, status = on_a_terminal(tmp_path, *arguments, "--resume")
    assert status == 0 and printed.startswith("300 texts, and 900 that had theirs before, -> ")
    states = re.findall(r"\r *(\d+)%\|[^|]*\|(?: \S+ left, ([\d,]+) texts)?", shown)
    assert int(states[0][0]) >= 75 and states[-1] == ("100", "1,200")
