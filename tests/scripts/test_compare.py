"""scripts/compare.py: its table, its verdict, its exit status, and what it writes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import minibert.model
from minibert import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig, save_pretrained
from minibert.fast import unsupported_reason
from minibert.model import DistilBertForSequenceClassification

import compare
import pytest
import torch
from mistakes import MISTAKES

ROOT = Path(compare.__file__).parent.parent
SOURCE = Path(minibert.model.__file__).read_text(encoding="utf-8")
PLANTED = {  # mistake: the class it is in
    "softmax over queries": "MultiHeadSelfAttention",
    "mask on the query axis": "MultiHeadSelfAttention",
    "tanh GELU": "FeedForward",
    "FFN residual from the block's input": "TransformerBlock",
    "positions subtracted": "Embeddings",
}


def call(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        compare.main()
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A checkpoint of two small blocks with mini-sst2's vocabulary; none of its parameters is 0 or 1."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(1)
    config = DistilBertConfig(n_layers=2, n_heads=4, dim=32, hidden_dim=64, id2label={0: "BAD", 1: "GOOD"})
    model = DistilBertForSequenceClassification(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1 if "orm.weight" in name else 0, std=0.3)
    save_pretrained(model, folder, AutoTokenizer.from_pretrained("mini-sst2"))
    return folder


def test_mini_sst2_agrees_with_transformers_at_every_stage(monkeypatch, capsys):
    status, out, _ = call(monkeypatch, capsys, "--model", "mini-sst2")
    rows = [line for line in out.splitlines() if re.search(r"  (agree|DIFFER|inherits|not given)$", line)]
    names = [re.split(r"\s{2,}", row)[0] for row in rows]
    blocks = [f"block {n}, {what}" for n in range(6) for what in ("attention", "output")]
    assert names == ["ids", "embeddings", *blocks, "last hidden state", "logits", "probabilities", "training, dropout"]
    assert all(row.endswith("agree") for row in rows)
    assert status == 0
    assert "transformers" in out
    assert "texts    2, of 16 tokens with their padding" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_exits_1_and_names_the_line(name, small, monkeypatch, capsys, tmp_path):
    old, new = MISTAKES[name]
    file = tmp_path / "planted.py"
    file.write_text(SOURCE.replace(old, new).replace("from .config", "from minibert.config"))
    status, out, _ = call(monkeypatch, capsys, "--model", small, "--swap", f"{PLANTED[name]}={file}:{PLANTED[name]}")
    assert status == 1
    named = int(re.search(r"planted\.py, line (\d+), in ", out)[1])
    shown = {"mask on the query axis": "scores = scores.masked_fill(", "tanh GELU": "hidden = self.activation("}.get(name, new)
    assert shown in SOURCE.replace(old, new).splitlines()[named - 1]
    assert shown in out


def test_a_mistake_in_model_py_itself_is_found(small, tmp_path):
    """The whole way, as somebody who edits the file: another process, an edited copy, the command line."""
    copy = tmp_path / "copy" / "minibert"
    for file in Path(minibert.__file__).parent.rglob("*"):
        if file.suffix in (".py", ".css", ".js"):
            target = copy / file.relative_to(Path(minibert.__file__).parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    old, new = MISTAKES["softmax over queries"]
    (copy / "model.py").write_text(SOURCE.replace(old, new))
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare.py", "--model", small],
        env=os.environ | {"PYTHONPATH": str(copy.parent)}, capture_output=True, text=True,
    )  # fmt: skip
    line = SOURCE[: SOURCE.index(old)].count("\n") + 1
    assert done.returncode == 1, done.stderr
    assert f"model.py, line {line}, in MultiHeadSelfAttention.forward (distilbert.transformer.layer.0.attention):" in done.stdout
    assert "The stage itself is wrong" in done.stdout
    place = r"sentence \d, token \d+ '.+', looking at token \d+ '.+', head \d \(counted from 0\)"
    assert re.search(rf"It differs most at {place}\.", done.stdout)
    assert re.search(rf"In float64 attention is \S+ at {place};", done.stdout)
    assert "Traceback" not in done.stderr


def test_the_figures_of_a_shifted_bias_are_right(small, monkeypatch, capsys, tmp_path):
    """Against another folder: one logit's bias is 0.25 larger there, so 0.25 is the difference."""
    other = AutoModelForSequenceClassification.from_pretrained(small)
    with torch.no_grad():
        other.classifier.bias[1] += 0.25
    save_pretrained(other, tmp_path / "other", AutoTokenizer.from_pretrained(small))
    written = tmp_path / "found.json"
    status, out, _ = call(monkeypatch, capsys, "Fine.", "--model", small, "--against", tmp_path / "other", "--json", written)
    found = json.loads(written.read_text())
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert status == 1
    assert not found["agree"]
    assert "weights  1 of 40 tensors differ\n         classifier.bias by 0.25 at most\n" in out
    assert "no line is blamed" in out and "wrong line" not in out
    assert found["weights_apart"] == {"classifier.bias": pytest.approx(0.25)}
    assert "It differs most at sentence 0, label GOOD (counted from 0)." in out
    assert stages["logits"]["absolute"] == pytest.approx(0.25, abs=1e-6)
    assert stages["logits"]["place"] == {"batch": 0, "labels": 1}
    largest = max(abs(x) for x in other(**AutoTokenizer.from_pretrained(small)(["Fine."], return_tensors="pt")).logits[0].tolist())
    assert stages["logits"]["relative"] == pytest.approx(0.25 / largest, rel=1e-5)
    assert stages["last hidden state"]["verdict"] == "agree"
    assert (stages["logits"]["verdict"], stages["probabilities"]["verdict"]) == ("differ", "differ")
    assert (found["finding"], found["spot"]) == ("weights", None)
    assert found["tokens"] == [["[CLS]", "fine", ".", "[SEP]"]]


def test_other_ids_are_the_first_stage_to_part(small, monkeypatch, capsys, tmp_path):
    other = tmp_path / "other"
    save_pretrained(AutoModelForSequenceClassification.from_pretrained(small), other, AutoTokenizer.from_pretrained(small))
    lines = (other / "vocab.txt").read_text(encoding="utf-8").split("\n")
    one, two = lines.index("hate"), lines.index("love")
    lines[one], lines[two] = lines[two], lines[one]
    (other / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    status, out, _ = call(monkeypatch, capsys, "Fine.", "I hate this!", "--model", small, "--against", other)
    assert status == 1
    assert "They part at: ids" in out
    assert "at sentence 1, token 2 'hate'" in out


def test_gradients_add_a_row_for_every_parameter(small, monkeypatch, capsys):
    status, out, _ = call(monkeypatch, capsys, "--model", small, "--gradients")
    names = {name for name, _ in AutoModelForSequenceClassification.from_pretrained(small).named_parameters()}
    assert {line.split()[2] for line in out.splitlines() if line.startswith("gradient of ")} == names
    assert status == 0


def test_against_float64_shows_what_rounding_does(small, monkeypatch, capsys, tmp_path):
    written = tmp_path / "found.json"
    status, out, _ = call(monkeypatch, capsys, "--model", small, "--against", "float64", "--json", written)
    stages = {stage["name"]: stage for stage in json.loads(written.read_text())["stages"]}
    ours, exact = (AutoModelForSequenceClassification.from_pretrained(small, dtype=t) for t in (torch.float32, torch.float64))
    batch = AutoTokenizer.from_pretrained(small)(compare.SENTENCES, padding=True, return_tensors="pt")
    rounding = (ours(**batch).logits.double() - exact(**batch).logits).abs().max().item()
    assert status == 0
    assert 0 < stages["logits"]["absolute"] == pytest.approx(rounding, rel=1e-6)
    assert "Nothing was judged" in out
    assert "All stages agree" not in out


def test_what_was_not_compared_is_not_said_to_agree(small, monkeypatch, capsys, tmp_path):
    variants = Path(__file__).parents[1] / "variants.py"
    swapped = f"MultiHeadSelfAttention={variants}:FusedAttention"
    status, out, _ = call(monkeypatch, capsys, "--model", small, "--swap", swapped, "--json", tmp_path / "found.json")
    assert status == 0
    assert "All stages that could be compared agree; 2 attention maps were not given." in out
    assert re.search(r"block 0, attention +- +- .* not given", out)
    stages = {stage["name"]: stage for stage in json.loads((tmp_path / "found.json").read_text())["stages"]}
    assert stages["block 0, attention"]["absolute"] is None
    _, out, _ = call(monkeypatch, capsys, "--model", small, "--against", small)
    assert "a mistake in it would be in both" in out


def test_against_fast_every_stage_agrees_and_rounds_in_another_way(small, monkeypatch, capsys, tmp_path):
    written = tmp_path / "found.json"
    status, out, _ = call(monkeypatch, capsys, "--model", small, "--against", "fast", "--json", written)
    stages = json.loads(written.read_text())["stages"]
    assert status == 0 and "All stages agree. " in out and "in minibert, fast" in out
    assert [stage["name"] for stage in stages if "attention" in stage["name"]] == ["block 0, attention", "block 1, attention"]
    if unsupported_reason() is None:
        assert 0 < max(stage["absolute"] for stage in stages) < 1e-4
    _, out, _ = call(monkeypatch, capsys, "--model", small, "--against", "fast", "good " * 200)
    assert "All stages that could be compared agree; 2 attention maps were not given." in out


def test_a_mistake_is_found_against_fast_too(small, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from minibert.model import *\n"
        "class Mine(FeedForward):\n"
        "    def forward(self, hidden_states):\n"
        "        hidden = self.lin1(hidden_states)\n"
        "        hidden = F.gelu(hidden, approximate='tanh') * 1.001\n"
        "        return self.lin2(hidden)\n"
    )
    swapped = f"FeedForward={tmp_path / 'mine.py'}:Mine"
    status, out, _ = call(monkeypatch, capsys, "--model", small, "--against", "fast", "--swap", swapped)
    assert status == 1
    assert "The first wrong line is mine.py, line 5, in Mine.forward (distilbert.transformer.layer.0.ffn)" in out


def test_two_swaps_are_both_made(small, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from minibert.model import *\n"
        "class Right(TransformerBlock): pass\n"
        "class Wrong(MultiHeadSelfAttention):\n"
        "    def forward(self, x, mask=None):\n"
        "        output, attention = super().forward(x, mask)\n"
        "        return output * 1.01, attention\n"
    )
    one, two = f"MultiHeadSelfAttention={tmp_path}/mine.py:Wrong", f"TransformerBlock={tmp_path}/mine.py:Right"
    for order in ((one, two), (two, one)):
        status, out, _ = call(monkeypatch, capsys, "--model", small, "--swap", order[0], "--swap", order[1])
        assert status == 1
        assert "mine.py, line 6, in Wrong.forward" in out


@pytest.mark.long
def test_a_reader_who_leaves_early_hears_no_complaint(small):
    done = subprocess.run(
        f'"{sys.executable}" "{ROOT / "scripts" / "compare.py"}" --model "{small}" --against float64 | head -n 1',
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_the_page_shows_both_models(small, monkeypatch, capsys, tmp_path):
    file = tmp_path / "planted.py"
    old, new = MISTAKES["softmax over queries"]
    file.write_text(SOURCE.replace(old, new).replace("from .config", "from minibert.config"))
    swapped = f"MultiHeadSelfAttention={file}:MultiHeadSelfAttention"
    page = tmp_path / "page.html"
    status, _, _ = call(monkeypatch, capsys, "--model", small, "--swap", swapped, "--html", page)
    content = page.read_text()
    assert status == 1
    assert "F.softmax" in re.sub("<[^>]+>", "", content)
    assert "transformers" in content
    assert len(content.encode()) <= 1_200_000


@pytest.mark.parametrize("against", ["fast", "float64", "itself"])
def test_a_page_is_made_of_two_models_of_one_source(against, small, monkeypatch, capsys, tmp_path):
    """The front door makes tensors without a single number, which have no largest difference."""
    page = tmp_path / "page.html"
    other = small if against == "itself" else against
    status, _, err = call(monkeypatch, capsys, "Fine.", "--model", small, "--against", other, "--html", page)
    assert (status, err) == (0, "")
    assert "check_inputs" in page.read_text()


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, KeyError, ImportError, RecursionError, MemoryError])
@pytest.mark.some(2)
def test_what_nobody_foresaw_is_one_sentence_and_no_verdict(error, small, monkeypatch, capsys):
    def fail(*_):
        raise error("two\nlines")

    monkeypatch.setattr(compare, "table", fail)
    status, _, err = call(monkeypatch, capsys, "--model", small, "--against", "float64")
    assert status == 2  # 1 says that a stage differs
    assert re.fullmatch(rf"compare: test_compare.py, line \d+, raised {error.__name__}: .*two.*lines.*\n", err)
    monkeypatch.setenv("MINIBERT_TRACEBACK", "1")
    assert "Traceback" in call(monkeypatch, capsys, "--model", small, "--against", "float64")[2]


UNDROPPED = """from minibert.model import *
class Mine(FeedForward):
    def forward(self, x):
        return self.lin2(self.activation(self.lin1(x)))
class ByHand(FeedForward):
    def forward(self, x):
        output = self.lin2(self.activation(self.lin1(x)))
        return output * (torch.rand_like(output) > 0.1) / 0.9 if self.training else output
"""


@pytest.mark.parametrize("more", [[], ["--gradients"], ["--against", "float64"], ["--against", "itself"]], ids=" ".join)
def test_a_variant_without_dropout_differs_and_is_told_what_it_drops(more, small, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(UNDROPPED)
    more, written = [small if part == "itself" else part for part in more], tmp_path / "found.json"
    arguments = "Fine.", "--model", small, "--swap", f"FeedForward={tmp_path}/mine.py:Mine", *more, "--json", written
    status, out, _ = call(monkeypatch, capsys, *arguments)
    assert status == 1
    assert "They part at: training, dropout\n  Outside training no stage differs.\n" in out and "wrong line" not in out
    assert "block 0, output" in out
    assert "the calls of F.dropout since the stage before are\n      (1, 4, 4, 4) at the rate 0.1 in ours;\n" in out
    assert "      (1, 4, 4, 4) at the rate 0.1, (1, 4, 32) at the rate 0.1 in the reference.\n" in out
    found = json.loads(written.read_text())
    assert (found["finding"], found["agree"], found["spot"]) == ("training", False, None)
    assert (found["stages"][-1]["name"], found["stages"][-1]["verdict"]) == ("training, dropout", "differ")
    assert found["training"]["ours"] == [[[1, 4, 4, 4], 0.1]]


@pytest.mark.parametrize(
    ("arguments", "compared", "left"),
    [
        ([], "token ids, forward pass, dropout in training", "gradients, truncation, names of labels"),
        (["--gradients"], "token ids, forward pass, gradients, dropout in training", "truncation, names of labels"),
        (["--against", "fast"], "token ids, forward pass", "gradients, dropout in training, truncation, names of labels"),
        (["--against", "itself", "good " * 600], "token ids, forward pass, dropout in training, truncation",
         "gradients, names of labels"),
        (["--swap", "FeedForward=mine.py:ByHand"], "token ids, forward pass, dropout in training",
         "gradients, truncation, place and rate of what own lines drop, without F.dropout, names of labels"),
        (["--swap", "MultiHeadSelfAttention=variants.py:FusedAttention", "--against", "float64"],
         "token ids, forward pass, dropout in training",
         "gradients, truncation, the attention maps that were not given, names of labels"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
@pytest.mark.some(2)
def test_the_last_lines_say_what_was_compared_and_what_was_not(arguments, compared, left, small, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(UNDROPPED)
    (tmp_path / "variants.py").write_text((Path(__file__).parents[1] / "variants.py").read_text())
    monkeypatch.chdir(tmp_path)
    status, out, _ = call(monkeypatch, capsys, "--model", small, *[small if part == "itself" else part for part in arguments])
    said = " ".join(out.split())
    assert status == 0
    assert f" Compared on these texts: {compared}. Not compared: {left}, pipeline, dtypes other than float32." in said
    assert out.splitlines()[-1].endswith("float32.")


def test_two_checkpoints_of_one_code_are_told_their_weights_and_sizes_largest_first(small, monkeypatch, capsys, tmp_path):
    other = AutoModelForSequenceClassification.from_pretrained(small)
    with torch.no_grad():
        for number, parameter in enumerate(other.parameters()):
            if number % 5 == 0:
                parameter.view(-1)[0] += number / 10
        other.distilbert.embeddings.word_embeddings.weight[4, 0] += 100
    save_pretrained(other, tmp_path / "other", AutoTokenizer.from_pretrained(small))
    config = tmp_path / "other" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"attention_dropout": 0.3}))
    status, out, _ = call(monkeypatch, capsys, "Fine.", "--model", small, "--against", tmp_path / "other")
    head = out[: out.index("texts ")].splitlines()[2:]
    assert status == 1 and head[0] == "weights  8 of 40 tensors differ"
    assert head[1].split() == ["distilbert.embeddings.word_embeddings.weight", "by", "100", "at", "most"]
    assert [float(line.split()[2]) for line in head[2:6]] == pytest.approx([3.5, 3.0, 2.5, 2.0], rel=0.01)
    assert head[6:] == ["         and 3 more", "config   attention_dropout is 0.1, and 0.3 in the reference"]
    assert "computed by the same code, and their weights differ, as told above: no line is blamed." in out
    assert "line 1" not in out


def test_where_code_and_weights_are_others_the_line_may_be_right(small, monkeypatch, capsys, tmp_path):
    other = AutoModelForSequenceClassification.from_pretrained(small)
    with torch.no_grad():
        other.classifier.bias += 1
    save_pretrained(other, tmp_path / "other", AutoTokenizer.from_pretrained(small))
    (tmp_path / "mine.py").write_text("from minibert.model import *\nclass Mine(FeedForward): pass\n")
    swapped = f"FeedForward={tmp_path}/mine.py:Mine"
    _, out, _ = call(monkeypatch, capsys, "Fine.", "--model", small, "--swap", swapped, "--against", tmp_path / "other")
    assert "The first wrong line is model.py" in out and "The weights differ too, as told above: the line may be right." in out


def test_two_numbers_that_differ_are_shown_with_the_digits_that_differ(small, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from minibert.model import *\n"
        "class Mine(FeedForward):\n"
        "    def forward(self, x):\n"
        "        hidden = self.lin1(x)\n"
        "        hidden = hidden + 3e-8 * (torch.arange(64) == 5)\n"
        "        output = self.lin2(self.activation(hidden))\n"
        "        return self.dropout(output) * (1.01 if x.dtype == torch.float32 else 1)\n"
    )
    _, out, _ = call(monkeypatch, capsys, "Fine.", "--model", small, "--swap", f"FeedForward={tmp_path}/mine.py:Mine")
    assert "(torch.arange(64) == 5)" in out
    mine, theirs = re.search(r"In float64 .* is (\S+) (?:at|where) .*;\n.* is (\S+) there", out).groups()
    assert mine != theirs
    assert float(mine) - float(theirs) == pytest.approx(3e-8, rel=0.5)


def test_a_page_is_made_of_a_variant_whose_shape_comments_are_wrong(small, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from minibert.model import FeedForward\n"
        "class Mine(FeedForward):\n"
        "    def forward(self, x):\n"
        "        hidden = self.lin1(x) * 1.01  # (batch, hidden_dim)\n"
        "        hidden = self.activation(hidden).transpose(0, 1).contiguous()  # (batch, tokens, hidden_dim)\n"
        "        return self.lin2(hidden.transpose(0, 1))\n"
    )
    page = tmp_path / "page.html"
    for texts in (("Fine.",), ("Fine.", "I hate this so much!", "ok")):
        arguments = *texts, "--model", small, "--swap", f"FeedForward={tmp_path}/mine.py:Mine", "--html", page
        status, out, _ = call(monkeypatch, capsys, *arguments)
        assert status == 1
        assert "mine.py, line 4" in out
        assert "(batch, hidden_dim)" in page.read_text()


RAISES = """from minibert.model import FeedForward
class Mine(FeedForward):
    def forward(self, x):
        return x.nothing
class Leaves(FeedForward):
    def forward(self, x):
        raise SystemExit(0)
"""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--against", "mini-sst2"], "expected two models of one size"),
        (["--against", "./absent"], "there is no folder ./absent"),
        (["--model", "./absent"], "there is no folder ./absent"),
        (["--swap", "FeedForward"], "expected Class=file.py:Class"),
        (["--swap", "FeedForward=raises.py:Mine"], "raises.py, line 4, raised AttributeError: "),
        (["--json", "absent/found.json"], "absent/found.json cannot be written; expected a file in a folder"),
        (["--against", "fast", "--gradients"], "what is made fast gives no gradients"),
        (["--json", "."], ". cannot be written; expected a file in a folder"),
        (["--swap", "FeedForward=raises.py:Leaves"], "raises.py, line 7, raised SystemExit: 0"),
        (["--swap", "FeedForward=raises.py:Mine", "--swap", "FeedForward=raises.py:Leaves"], "--swap names FeedForward twice"),
        (["--html", "absent/page.html"], "absent/page.html cannot be written; expected a file in a folder"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_status_2(small, monkeypatch, capsys, tmp_path, arguments, sentence):
    (tmp_path / "raises.py").write_text(RAISES)
    monkeypatch.chdir(tmp_path)
    status, _, err = call(monkeypatch, capsys, *([] if "--model" in arguments else ["--model", small]), *arguments)
    assert status == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.long
def test_hostile_and_long_texts_are_compared_and_shown_as_text(small, monkeypatch, capsys):
    texts = ["", "\x1b[31m\u202e</script>", "good " * 600]
    status, out, _ = call(monkeypatch, capsys, "--model", small, "--", *texts)
    assert status == 0
    assert "of 512 tokens with their padding" in out
    assert "sentence 2 (counted from 0) is cut: 90 more tokens than the model can read" in out
    assert "\x1b" not in out


def test_without_transformers_the_sentence_says_what_to_install(small, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    status, _, err = call(monkeypatch, capsys, "--model", small)
    assert status == 2
    assert 'pip install -e ".[test]"' in err
    assert call(monkeypatch, capsys, "--model", small, "--against", "float64")[0] == 0


