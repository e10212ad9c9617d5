"""The command line, through a real process: what it prints, where, and with which exit status."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loopback import LoopbackHub

from minibert.checkpoint import DEFAULT, PINNED, bundled

GOOD, BAD = "I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"
NOBODY = "http://127.0.0.1:9"  # the discard port, where nothing listens


def environment(home: Path, endpoint: str = NOBODY) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
    return ours | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "PYTHONIOENCODING": "utf-8", "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def minibert(tmp_path):
    def call(*arguments, stdin=b"", endpoint=NOBODY):
        command = [sys.executable, "-m", "minibert", *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, env=environment(tmp_path, endpoint), timeout=120)
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def files():
    """What the Hub would serve under the default checkpoint's name: here, the one that ships."""
    return {path.name: path.read_bytes() for path in bundled()["mini-sst2"].iterdir()}


def test_without_the_hub_two_texts_get_their_labels_and_the_model_its_name(minibert):
    done = minibert("classify", GOOD, BAD)
    assert done.returncode == 0
    model, first, second = done.stdout.splitlines()
    assert model == "model: mini-sst2"
    assert first.startswith("POSITIVE 0.") and first.endswith(GOOD)
    assert second.startswith("NEGATIVE 0.") and second.endswith(BAD)
    assert done.stderr.count("\n") == 1 and "mini-sst2, which ships with minibert, answers instead" in done.stderr


def test_with_the_hub_the_pinned_checkpoint_speaks(minibert, files):
    with LoopbackHub({DEFAULT: files}, commit=PINNED[DEFAULT]) as hub:
        done = minibert("classify", GOOD, endpoint=hub.endpoint)
        assert done.returncode == 0 and done.stdout.startswith(f"model: {DEFAULT}@714eb0f\n")
        assert "answers instead" not in done.stderr
        hub.requests.clear()
        assert minibert("classify", GOOD, endpoint=hub.endpoint).stdout == done.stdout
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


def test_control_characters_never_reach_the_terminal(minibert):
    done = minibert("classify", "--model", "mini-sst2", "red \x1b[31m \x07 \u202e abc")
    assert r"red \x1b[31m \x07 \u202e abc" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "./nowhere", "x"], "there is no folder ./nowhere"),
        (["--model", "mini-sst3", "x"], "cannot be reached"),
        (["--model", "some/model", "x"], "cannot be reached"),
        (["--model", "not a name!", "x"], "is no Hub id"),
        (["--model", "mini-sst2", "--revision", "main", "x"], "is a folder, and revision='main' is for the Hub"),
        (["--model", "mini-sst2", "--device", "toaster", "x"], "device is 'toaster'"),
        (["--model", "mini-sst2", "--file", "nowhere.txt"], "--file 'nowhere.txt' cannot be read"),
        (["--model", "mini-sst2", "--file", ""], "--file '' cannot be read"),
        (["--revision", 40 * "9", "x"], "cannot be reached"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_error_is_one_line_and_status_1(minibert, arguments, words):
    done = minibert("classify", *arguments)
    assert done.returncode == 1 and done.stdout in ("", "model: mini-sst2\n")
    assert done.stderr.startswith("minibert: ") and done.stderr.count("\n") == 1 and words in done.stderr


@pytest.mark.parametrize("arguments", [[], ["sing"], ["classify", "--top-k", "0", "x"], ["classify", "--file", "a", "b"]], ids=str)
def test_a_usage_error_is_status_2(minibert, arguments):
    done = minibert(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: minibert")


def test_fetch_fills_the_cache_or_a_folder_that_works_without_a_network(minibert, files, tmp_path):
    folder = tmp_path / "for the class"
    with LoopbackHub({"some/model": files | {"pytorch_model.bin": b"a pickle"}}) as hub:
        done = minibert("fetch", "some/model", "--to", folder, endpoint=hub.endpoint)
    assert done.returncode == 0 and str(folder) in done.stdout
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files  # real files, and no pickle
    done = minibert("classify", "--model", folder, GOOD)
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
    command = f'yes good | "{sys.executable}" -m minibert classify --model mini-sst2 | head -n 2'
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
        done = subprocess.run(
            [sys.executable, lab], capture_output=True, text=True, env=environment(tmp_path, hub.endpoint), timeout=120
        )
    assert done.returncode == 0, done.stderr
    for words in ("'label': 'POSITIVE', 'score': 0.", "'input_ids': tensor([[  101,  1045,", "torch.Size([2, 16, 384])",
                  "torch.Size([2, 2])", "{0: 'NEGATIVE', 1: 'POSITIVE'}"):  # fmt: skip
        assert words in done.stdout


def test_importing_minibert_imports_torch_and_nothing_else_beside_it(tmp_path):
    code = """import sys, torch
before = set(sys.modules)
import minibert
print(sorted({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names - {"torch"}))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.stdout.strip() == "['minibert']", done.stdout + done.stderr


def test_explain_shows_the_way_from_text_to_label(minibert):
    done = minibert("explain", BAD, "--model", "mini-sst2")
    assert done.returncode == 0 and done.stderr == ""
    for words in (f'"{BAD}"', "5223  hate", "scores = queries @ keys.transpose(2, 3)", "▇", "NEGATIVE"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) == 80 and "\x1b" not in done.stdout
    score = json.loads(minibert("classify", "--model", "mini-sst2", "--json", BAD).stdout)["score"]
    assert f"NEGATIVE, with probability {score:.4f}" in done.stdout
    assert minibert("explain", BAD).stdout == done.stdout  # without the Hub, the checkpoint that ships


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
    done = minibert("explain", *model, *arguments, "--", "x")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("minibert: ") and done.stderr.count("\n") == 1 and words in done.stderr


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
    command = f'"{sys.executable}" -m minibert explain --model mini-sst2 "na\u00efve \u6f22"'
    ours = environment(tmp_path)
    done = subprocess.run(["bash", "-c", f"{command} | head -n 3"], capture_output=True, env=ours, timeout=120)
    assert len(done.stdout.splitlines()) == 3 and done.stderr == b""
    ours |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=ours, timeout=120)
    assert done.returncode == 0 and rb'"na\xefve \u6f22"' in done.stdout
    lines = done.stdout.decode("ascii").splitlines()
    assert max(map(len, lines)) == 80 and any(line.startswith("-- Embeddings ---") for line in lines)


@pytest.mark.parametrize(("command", "imported"), [("classify", False), ("explain", True)])
def test_only_explain_imports_what_teaches(tmp_path, command, imported):
    code = f"""import sys, minibert.cli
assert "minibert.learn" not in sys.modules
try:
    minibert.cli.main(["{command}", "--model", "mini-sst2", "x"])
except SystemExit:
    print("minibert.learn" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert done.stdout.splitlines()[-1] == str(imported), done.stderr
