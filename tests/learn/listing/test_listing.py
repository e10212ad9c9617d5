"""The living listing: the source with a sentence's tensors, as `explain` gathers it and as a terminal shows it."""

import ast
import dataclasses
import math
import re
import unicodedata
from pathlib import Path

import minibert.model
import minibert.text_classification
from minibert import AutoModelForSequenceClassification, AutoTokenizer, pipeline
from minibert.learn import Explanation, explain

import pytest
import torch

BAD = "I hate this so much!"
SIZES = {"batch": 1, "tokens": 8, "query": 8, "key": 8, "dim": 384, "heads": 12, "head_dim": 32, "hidden_dim": 1536, "labels": 2}
MODEL = Path(minibert.model.__file__).read_text()
SCORES = Path(minibert.text_classification.__file__).read_text()
EDGE = "   │ "


@pytest.fixture(scope="module")
def told() -> Explanation:
    return explain(BAD, "mini-sst2")


@pytest.fixture(scope="module")
def reference():
    """The same sentence through the model, by the public names and without `learn`."""
    inputs = AutoTokenizer.from_pretrained("mini-sst2")(BAD, return_tensors="pt")
    inputs = {name: torch.as_tensor(value).view(1, -1) for name, value in inputs.items()}
    model = AutoModelForSequenceClassification.from_pretrained("mini-sst2")
    with torch.no_grad():
        return model, inputs, model(**inputs, output_hidden_states=True, output_attentions=True)


@pytest.fixture
def tiny(files, tmp_path):
    """A classifier that is loaded in no time."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return pipeline(model=tmp_path, device="cpu")


def promises(source: str) -> dict[int, list[tuple[str, str]]]:
    """Each line in a function that assigns and ends with a shape comment: what it assigns, and the axes of that."""
    lines = source.splitlines()
    found = {}
    for function in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            comment = re.search(r"#\s*((?:\([\w, ]*\)(?:, )?)+)(?:\s\s|$)", lines[node.end_lineno - 1]) if _assigns(node) else None
            if comment:
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                names = [name.id for name in ast.walk(target) if isinstance(name, ast.Name)]
                found[node.end_lineno] = list(zip(names, re.findall(r"\(([\w, ]*)\)", comment[1]), strict=True))
    return found


def _assigns(node: ast.AST) -> bool:
    return isinstance(node, (ast.Assign, ast.AnnAssign))


def below(listing: str, file: str, line: int) -> list[str]:
    """What stands between a source line and the next one, without the source line's own continuation."""
    place = listing.index(f" {file}, line ")
    lines = iter(listing[place:].splitlines())
    next(one for one in lines if one.startswith(f"{line:4} "))
    found = []
    for one in lines:
        if one.startswith(EDGE):
            found.append(one.removeprefix(EDGE))
        elif not one.startswith(9 * " "):
            break
    return found


def at(listing: str, code: str) -> list[str]:
    """The same for the line of model.py that has this code in it, and it alone."""
    [line] = [number for number, text in enumerate(MODEL.splitlines(), start=1) if code in text]
    return below(listing, "minibert/model.py", line)


def numbers(line: str) -> list[float]:
    return [float(number) for number in line.split("]")[-1].split()]


def close(numbers: list[float], tensor: torch.Tensor) -> bool:
    """Equal to the three digits that are shown; a sum that cancels to nearly nothing may differ by float32's rounding."""
    return len(numbers) > 3 and torch.allclose(torch.tensor(numbers), tensor.flatten()[: len(numbers)], rtol=6e-3, atol=1e-6)


def width(line: str) -> int:
    return sum((unicodedata.east_asian_width(c) in ("W", "F")) + (unicodedata.category(c) != "Mn") for c in line)


def with_tensor(told: Explanation, name: str, tensor: torch.Tensor, **changes) -> Explanation:
    """The explanation with another tensor in the first place where `name` is assigned."""
    parts = []
    for part in told.parts:
        shown = list(part.shown)
        for index, one in enumerate(shown):
            if one.record.variable == name and not one.record.argument and tensor is not None:
                record = dataclasses.replace(one.record, tensor=tensor, axes=None)
                shown[index] = dataclasses.replace(one, record=record, **changes)
                tensor = None
        parts.append(dataclasses.replace(part, shown=tuple(shown)))
    return dataclasses.replace(told, parts=tuple(parts))


def test_every_statement_with_a_shape_comment_has_its_tensors_below_its_line(told):
    listing = told.listing()
    promised = {("minibert/model.py", line): all_ for line, all_ in promises(MODEL).items()}
    promised |= {("minibert/text_classification.py", line): all_ for line, all_ in promises(SCORES).items()}
    assert len(promised) == 40
    for (file, line), tensors in promised.items():
        lines = below(listing, file, line)
        for name, axes in tensors:
            sizes = [axis if axis.isdigit() else f"{axis} {SIZES[axis]}" for axis in axes.split(", ") if axis]
            kind = {"positions": "int64", "padding": "bool"}.get(name, "float32")
            [place] = [i for i, one in enumerate(lines) if one.startswith(f"{name}  ({', '.join(sizes)})  {kind}")]
            assert re.search(r"\d|False", lines[place + 1]), (line, name)
            if axes:
                assert re.search("[▁▂▃▅▇]| times", lines[place + 2]), (line, name)


def test_nothing_of_a_source_line_is_lost_but_its_axes_and_no_line_is_wider_than_80(told):
    listing = told.listing()
    assert max(map(width, listing.splitlines())) == 80
    source, printed, current = MODEL.splitlines(), {}, 0
    for line in listing[listing.index("── Embeddings") : listing.index("── TextClass")].splitlines():
        if number := re.match(r" *(\d+) ", line[:5]):
            current = int(number[1])
            printed[current] = line[5:]
        elif line.startswith(5 * " "):
            printed[current] += line
    assert len(printed) > 80
    for number, code in printed.items():
        wanted = re.sub(r"#\s*(\([\w, ]*\)(, )?)+(\s\s|$)", "#  ", source[number - 1])
        assert re.sub(r"[\s#]", "", code) == re.sub(r"[\s#]", "", wanted), number


def test_the_way_goes_from_the_text_to_the_label(told):
    listing = told.listing()
    stops = [BAD, "5223  hate", "── Embeddings", "── MultiHeadSelfAttention, block 0", "── FeedForward, block 0",
             "── TransformerBlock, block 0", "are folded", "── Transformer ", "── DistilBertForSequenceClassification",
             "self.classifier(pooled)", "F.softmax(logits", "0.9773  NEGATIVE"]  # fmt: skip
    places = [listing.index(stop) for stop in stops]
    assert places == sorted(places)
    assert "Turns each token id into a vector that says which word it is" in listing


def test_a_block_says_what_it_reads(told):
    """The sections before it end with something else: the parts come before the class that joins them."""
    assert "It reads the embeddings." in told.listing().replace("\n", " ")
    third = told.listing(3).replace("\n", " ")
    assert "Here is block 3, its parts before the class that joins them. It reads what block 2 made, which is folded." in third


def test_the_numbers_are_the_models(told, reference):
    model, inputs, output = reference
    listing = told.listing()
    words = model.state_dict()["distilbert.embeddings.word_embeddings.weight"][inputs["input_ids"][0]]
    assert close(numbers(at(listing, "word_vectors = ")[1]), words)
    assert close(numbers(at(listing, "first = ")[1]), output.hidden_states[-1][0, 0])
    ends = re.match(r"  (\S+) .* (\S+)   mean (\S+), std (\S+)$", at(listing, "word_vectors = ")[2]).groups()
    wanted = torch.stack([words.min(), words.max(), words.mean(), words.std()])
    assert torch.allclose(torch.tensor(list(map(float, ends))), wanted, rtol=6e-3)

    logits = output.logits[0].tolist()
    assert numbers(at(listing, "logits = self.classifier")[1]) == [float(f"{logit:.3g}") for logit in logits]
    powers = [math.exp(logit) for logit in logits]
    probabilities = [power / sum(powers) for power in powers]
    assert [row.split() for row in listing.splitlines()[-6:-4]] == [
        ["0", f"{logits[0]:.3g}", f"{probabilities[0]:.4f}", "NEGATIVE"],
        ["1", f"{logits[1]:.3g}", f"{probabilities[1]:.4f}", "POSITIVE"],
    ]
    assert [one[0] for one in told.labels] == ["NEGATIVE", "POSITIVE"]
    assert [one[2] for one in told.labels] == pytest.approx(probabilities, abs=1e-6)


def test_a_block_is_that_block(told, reference):
    _, _, output = reference
    seen = set()
    for block in range(6):
        listing = told.listing(block)
        line = at(listing, "attention = F.softmax(scores")[1]
        assert close(numbers(line), output.attentions[block]) and line not in seen
        assert close(numbers(at(listing, "hidden_states, attention = block(")[1]), output.hidden_states[block + 1])
        assert f"block {block}" in at(listing, "hidden_states, attention = block(")[0]
        assert f"distilbert.transformer.layer.{block}.ffn" in listing and f"This was block {block} of 0 to 5." in listing
        assert not any(f"layer.{other}." in listing for other in range(6) if other != block)
        seen.add(line)
    assert str(told) == told.listing() == told.listing(0)


@pytest.mark.parametrize("block", [-1, 6])
def test_a_block_that_is_not_there_is_refused_with_those_that_are(told, block):
    with pytest.raises(ValueError, match=f"^block is {block}; this model has the blocks 0 to 5\\.$"):
        told.listing(block)


def test_the_loss_is_that_of_the_label(tiny):
    [scores] = [{one["label"]: one["score"] for one in tiny("word7 word8", top_k=None)}]
    shown = {}
    for label in (None, "BAD", "GOOD"):
        told = explain("word7 word8", tiny, label=label)
        shown[label] = float(at(told.listing(), "loss = F.cross_entropy")[-1])
        assert told.right == (label or max(scores, key=scores.get))
        assert f"given {told.right}" in told.listing()
        assert ("own answer" in told.listing()) == (told.right == max(scores, key=scores.get))
    assert shown["BAD"] == pytest.approx(-math.log(scores["BAD"]), rel=6e-3)
    assert shown["GOOD"] == pytest.approx(-math.log(scores["GOOD"]), rel=6e-3)
    assert shown[None] == min(shown["BAD"], shown["GOOD"])
    with pytest.raises(ValueError, match="label is 'UGLY'; this model knows BAD, GOOD"):
        explain("word7", tiny, label="UGLY")


def test_lines_that_did_not_run_have_no_tensor_and_parts_of_a_statement_take_one_line(told):
    listing = told.listing()
    assert at(listing, "all_attentions.append") == []
    assert at(listing, "queries = queries.view")[0] == "queries.view(per_head)  (1, 8, 12, 32)  float32"
    assert at(listing, "queries = queries.view")[1].startswith("queries  (batch 1, heads 12, query 8, head_dim 32)")
    assert "inputs.to(…).attention_mask  (1, 8)  int64" in listing
    arguments = at(listing, "def forward(self, input_ids: Tensor) -> Tensor:")
    assert arguments == ["input_ids  (batch 1, tokens 8)  int64", "  [0]  101  1045  5223  2023  2061  2172  999  102"]


@pytest.mark.parametrize(
    ("tensor", "rows"),
    [
        (torch.tensor([0.0, 1, 1, 2, 2, 2, 2, 4, 4, 5]), ["[:8]  0  1  1  2  2  2  2  4", "0 ▂ ▃ ▇   ▃▂ 5   mean 2.3, std 1.57"]),
        (torch.tensor([[0.25, torch.finfo(torch.float32).min, 0.5]]), ["[0]  0.25  masked  0.5", "0.25 ▇▇ 0.5   1 masked"]),
        (torch.tensor([torch.finfo(torch.float16).min, 1, 2], dtype=torch.float16), ["masked  1  2", "1 ▇▇ 2   1 masked"]),
        (torch.full((3,), torch.finfo(torch.float32).min), ["masked  masked  masked", "3 masked"]),
        (torch.tensor([math.nan, math.inf, 1, 2]), ["nan  inf  1  2", "1 ▇▇ 2   2 infinite or no number"]),
        (torch.tensor([7, 7, 7]), ["7  7  7", "all 7"]),
        (torch.tensor([1234567, 7654321]), ["1234567  7654321", "1234567 ▇▇ 7654321"]),
        (torch.tensor([True, False, True]), ["True  False  True", "False 1 times, True 2 times"]),
        (torch.zeros(0, 3), ["no values"]),
        (torch.tensor(0.5), ["0.5"]),
    ],
    ids=["floats", "masked", "masked half", "all masked", "nan", "all alike", "integers", "bool", "empty", "scalar"],
)  # fmt: skip
def test_values_and_histogram(told, tensor, rows):
    head, *found = at(with_tensor(told, "word_vectors", tensor).listing(), "word_vectors = ")
    assert head == f"word_vectors  ({', '.join(map(str, tensor.shape))})  {str(tensor.dtype)[6:]}"
    assert [row.strip() for row in found] == rows


def test_a_pipeline_that_was_made_fast_is_shown_as_model_py_has_it(told):
    quick = pipeline(model="mini-sst2", device="cpu", fast=True)
    assert explain(told.text, quick).listing() == told.listing()


def test_masked_scores_are_called_so(tiny):
    tokenizer = tiny.tokenizer
    tiny.tokenizer = type("Padding", (), {
        "__getattr__": lambda self, name: getattr(tokenizer, name),
        "__call__": lambda self, text, **how: tokenizer(text, **how | ({"padding": "max_length"} if how else {})),
    })()  # fmt: skip
    listing = explain("word7 word8 word9", tiny).listing()
    values, spread = at(listing, "scores = scores.masked_fill")[1:]
    assert re.search(r"\[0, 0, 0, :\d\]( +-?[\d.]+){5}(  masked)+$", values)
    assert spread.endswith(f", {2 * 16 * 11} masked") and "e+38" not in listing
    assert "False 5 times, True 11 times" in listing


def test_a_line_that_ran_more_often_and_a_model_that_differs_say_so(told):
    from minibert.learn.listing.data import OtherModelTensor

    changed = with_tensor(told, "word_vectors", torch.ones(2), times=3, beside=OtherModelTensor(torch.zeros(2), 1.0, False))
    assert at(changed.listing(), "word_vectors = ") == [
        "word_vectors  (2)  float32  first of 3 times", "  1  1", "  all 1", "  the other model's differs, by 1 at most"
    ]  # fmt: skip
    same = OtherModelTensor(torch.ones(2), 0.0, True)
    assert "differs" not in with_tensor(told, "word_vectors", torch.ones(2), beside=same).listing()


def test_a_model_of_one_block_folds_nothing(tiny):
    tiny.model.distilbert.transformer.layer = tiny.model.distilbert.transformer.layer[:1]
    tiny.model.config = dataclasses.replace(tiny.model.config, n_layers=1)
    listing = explain("word7", tiny).listing()
    assert "folded" not in listing and at(listing, "attention = F.softmax(scores")


HOSTILE = "\x1b[31m \x07 \u202e\u2066 \u200f </script><b>& \x00 a\r\nb \u2028 \ufeff \u05e9\u05dc\u05d5\u05dd %s {0}"


def test_a_hostile_sentence_is_shown_as_text(told):
    listing = explain(HOSTILE, "mini-sst2").listing()
    assert all(character.isprintable() or character == "\n" for character in listing)
    first = "".join(line.removeprefix("text").strip() + " " for line in listing.splitlines()[:3])
    for words in (r"\x1b[31m \x07 \u202e\u2066 \u200f </script><b>& \x00 a\r\nb \u2028 \ufeff", "\u05e9\u05dc\u05d5\u05dd %s {0}"):
        assert words in first
    assert max(map(width, listing.splitlines())) <= 80
    with pytest.raises(ValueError, match="lone surrogate"):
        explain("half \udc80", "mini-sst2")
    named = dataclasses.replace(told, model="\x1b[2J", labels=(("\u202e", 0.0, 1.0),), right="\x07", tokens=(("\x9b", 1),))
    assert all(character.isprintable() or character == "\n" for character in named.listing())


def test_wide_characters_fit(told):
    wide = "\u6f22" * 100
    listing = dataclasses.replace(told, text=wide, tokens=((wide, 5), ("e\u0301" * 90, 6)), model=wide).listing()
    rows = [line for line in listing.splitlines() if "\u6f22" in line]
    assert sum(row.count("\u6f22") for row in rows) == 300  # none is lost
    assert all(2 * row.count("\u6f22") + len(row) - row.count("\u6f22") <= 80 for row in rows)
    assert max(row.count("\u6f22") for row in rows) == 36  # and a line is filled
    assert max(row.count("\u0301") for row in listing.splitlines()) == 62  # a mark takes no column of its own


@pytest.mark.filterwarnings("ignore:text 0 has")
def test_a_long_text_is_cut_and_says_so(told):
    text = "good " * 3000
    long = explain(text, "mini-sst2")
    listing = long.listing()
    assert len(long.tokens) == 512 and long.left_out == 3002 - 512
    assert "… and 472 more" in listing and "2,490 more tokens were cut off" in listing
    assert f"… and {len(text) - 400:,} more characters" in " ".join(listing.split())
    assert listing.count("2204  good") == 39  # 40 tokens, one of them [CLS]
    assert len(listing.splitlines()) < len(told.listing().splitlines()) + 60
    assert max(map(width, listing.splitlines())) == 80
    assert "more" not in re.sub("more tokens|more characters", "", told.listing().split("── Embeddings")[0])


def test_without_the_characters_it_is_drawn_in_ascii(told):
    plain = dataclasses.replace(told, text="na\u00efve \u6f22").listing(0, "ascii")
    assert plain.isascii() and r'"na\xefve \u6f22"' in plain and max(map(len, plain.splitlines())) == 80
    drawn = dict(zip("▁▂▃▅▇─│…", ".:+*#-|~", strict=True))
    assert plain.split("-- Embeddings")[1] == "".join(drawn.get(c, c) for c in told.listing()).split("-- Embeddings")[1]
    latin = dataclasses.replace(told, text="na\u00efve \u6f22").listing(0, "latin-1")
    assert '"na\u00efve \\u6f22"' in latin and "▁" not in latin and "│" not in latin
    assert "▁" in told.listing(0, "utf-16")


def test_a_long_repr_would_flood_a_notebook(told):
    assert repr(told) == "<Explanation of 'I hate this so much!': NEGATIVE 0.9773, mini-sst2>"
    assert len(repr(dataclasses.replace(told, text="x" * 10**6))) < 200


def test_a_page_is_written_whole_and_framed_in_a_notebook(told, tmp_path, monkeypatch):
    content = "the page before"
    monkeypatch.setattr("minibert.learn.listing.explanation.page", lambda explanation: content)
    told.save(tmp_path / "page.html")
    with (tmp_path / "page.html").open() as reader:  # who reads the old page keeps it, whole
        content = '<!doctype html><p title="a">\u6f22 & </iframe><script>1 < 2</script>'
        told.save(str(tmp_path / "page.html"))
        assert reader.read() == "the page before"
    assert [(path.name, path.read_text("utf-8")) for path in tmp_path.iterdir()] == [("page.html", content)]

    frame = re.fullmatch(r'<iframe [^>]*sandbox="allow-scripts"[^>]*srcdoc="([^"<>]*)"></iframe>', told._repr_html_())
    assert frame[1].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&") == content
    for nowhere in (tmp_path / "no folder" / "page.html", tmp_path, "", tmp_path / "page.html" / "page.html"):
        with pytest.raises(OSError, match=r"cannot be written \(.*\); expected a file in a folder that is there, .*\.$") as caught:
            told.save(nowhere)
        assert str(caught.value).startswith(repr(str(nowhere)))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_what_is_no_text_is_refused(told):
    with pytest.raises(TypeError, match="text is a list; expected a str"):
        explain([BAD], "mini-sst2")
    empty = explain("", "mini-sst2")
    assert [token for token, _ in empty.tokens] == ["[CLS]", "[SEP]"] and 'text   ""\n' in empty.listing()


def test_a_function_within_another_is_not_printed_twice(told):
    line, end = told.parts[0].bodies[0]
    first = dataclasses.replace(told.parts[0], bodies=((line + 1, line + 2), (line, end)))
    assert dataclasses.replace(told, parts=(first, *told.parts[1:])).listing() == told.listing()
