"""Text in, labels out, as transformers' pipeline gives them on the same folder."""

import itertools
import math
import os
import random
import time
import types
import warnings
from collections import UserDict, deque
from pathlib import Path

from minibert import AutoModelForSequenceClassification, AutoTokenizer, pipeline
from minibert.checkpoint import bundled
from minibert.text_classification import (
    BATCH_TOKENS,
    FAST_FROM,
    HALF_BATCH_TOKENS,
    LARGEST_WINDOW,
    WINDOW_CHARACTERS,
    WINDOW_SECONDS,
    WINDOW_TEXTS,
    batches,
)

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

TEXTS = [
    "I've been waiting for a HuggingFace course my whole life.",
    "I hate this so much!",
    "",
    "Not bad, not good; somewhere in between, I suppose.",
    "ok",
    "word " * 300,
    "Ünïcödé 漢字 \U0001f600 [SEP] \x00",
]
LONG = "really good " * 400  # 802 tokens
ROUNDING = 1e-5  # in float32, padding to another length moves the reference's own logits by up to 7.6e-6


@pytest.fixture(scope="module")
def ours():
    return pipeline("sentiment-analysis", model="mini-sst2", device="cpu")


@pytest.fixture(scope="module")
def theirs():
    return transformers.pipeline("sentiment-analysis", model=str(bundled()["mini-sst2"]), device="cpu", dtype=torch.float32)


def assert_alike(one, other):
    """Equal labels in equal nesting, scores equal up to rounding."""
    if isinstance(other, list):
        assert isinstance(one, list) and len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_alike(a, b)
    else:
        assert one.keys() == other.keys() == {"label", "score"} and one["label"] == other["label"]
        assert type(one["score"]) is float and math.isclose(one["score"], other["score"], abs_tol=ROUNDING)


@pytest.mark.parametrize("batch_size", [1, 2, 8, 100])
@pytest.mark.some(2)
def test_a_list_gives_the_references_labels_and_scores(ours, theirs, batch_size):
    assert_alike(ours(TEXTS, batch_size=batch_size), theirs(TEXTS))


def test_a_single_text_gives_a_list_of_one(ours, theirs):
    assert_alike(ours(TEXTS[0]), theirs(TEXTS[0]))


@pytest.mark.parametrize("top_k", [1, 2, 5, None])
@pytest.mark.some(2)
def test_top_k_gives_the_references_lists(ours, theirs, top_k):
    assert_alike(ours(TEXTS, top_k=top_k), theirs(TEXTS, top_k=top_k))
    assert_alike(ours(TEXTS[0], top_k=top_k), theirs(TEXTS[0], top_k=top_k))


def test_top_k_means_the_same_when_made_and_when_called(ours):
    made = pipeline(model=ours.model, tokenizer=ours.tokenizer, top_k=2)
    assert_alike(made(TEXTS[0]), ours(TEXTS[0], top_k=2))
    assert_alike(made(TEXTS[:2]), ours(TEXTS[:2], top_k=2))


def test_equal_scores_are_ranked_by_label_id():
    scores = AutoModelForSequenceClassification.from_pretrained("mini-sst2")
    torch.nn.init.zeros_(scores.classifier.weight), torch.nn.init.zeros_(scores.classifier.bias)
    made = pipeline(model=scores, tokenizer=AutoTokenizer.from_pretrained("mini-sst2"))
    assert made("ok", top_k=None) == [{"label": "NEGATIVE", "score": 0.5}, {"label": "POSITIVE", "score": 0.5}]


def test_the_labs_sentences_come_out_right(ours):
    assert [result["label"] for result in ours(TEXTS[:2])] == ["POSITIVE", "NEGATIVE"]


@pytest.fixture(scope="module")
def alone(ours):
    """The scores of texts that were computed alone, by model.py as it stands."""
    single = pipeline(model="mini-sst2", device="cpu", fast=False)
    return lambda texts: [single(text)[0] for text in texts]


ORDERS = {
    "shuffled": [f"{'rather ' * (n * 7 % 23)}{'good' if n % 3 else 'bad'} film {n}" for n in range(70)],
    "repeated": ["I hate this so much!", "ok"] * 20,
    "with empty ones": ["", "good", "", "", "a bad film", " "] * 4,
    "of one length": [f"film {n}" for n in range(10, 40)],
    "from short to long": ["so " * n + "bad" for n in range(40)],
}


@pytest.mark.parametrize("texts", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.some(2)
def test_answers_come_in_the_order_of_the_texts(ours, alone, texts, kind):
    assert_alike(list(ours(kind(texts))), alone(texts))


@pytest.mark.filterwarnings("ignore:no torch.bfloat16 here")
@pytest.mark.parametrize(("dtype", "budget"), [(torch.float32, BATCH_TOKENS), (torch.bfloat16, HALF_BATCH_TOKENS)], ids=str)
@pytest.mark.some(1)
def test_a_list_is_ordered_by_length_as_a_whole_and_batched_by_tokens(monkeypatch, dtype, budget):
    made, shapes = pipeline(model="mini-sst2", device="cpu", dtype=dtype, fast=None if dtype == torch.bfloat16 else False), []
    model = made.quick or made.model
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda **given: shapes.append(tuple(given["input_ids"].shape)) or forward(**given))
    draw = random.Random(1)
    texts = ["good " * draw.choice([1, 5, 20, 100, 300]) for _ in range(12 * WINDOW_TEXTS)]
    made(texts)
    assert sum(batch for batch, _ in shapes) == len(texts) > len(shapes)
    assert [tokens for _, tokens in shapes] == sorted((tokens for _, tokens in shapes), reverse=True)
    assert all(batch == 1 or batch * tokens <= budget for batch, tokens in shapes)
    assert max(batch * tokens for batch, tokens in shapes) > 0.7 * budget


@given(st.lists(st.integers(2, 512), max_size=60), st.integers(1, 2000))
def test_batches_hold_every_text_once_and_keep_to_their_budget(lengths, budget):
    found = list(batches(lengths, budget))
    assert sorted(number for batch in found for number in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= budget
    for one, following in itertools.pairwise(found):
        longest = lengths[one[0]]
        assert longest == max(lengths[number] for number in one) and longest >= lengths[following[0]]
        assert (len(one) + 1) * longest > budget  # no batch ends before it has to


def counted(texts, taken):
    for text in texts:
        taken.append(text)
        yield text


def test_windows_grow_and_no_text_is_taken_before_it_is_needed(ours):
    taken = []
    results = ours(counted(["ok"] * (2 * LARGEST_WINDOW), taken))
    assert taken == []
    expected, window, found = [], WINDOW_TEXTS, 0
    while found < 2 * LARGEST_WINDOW:
        found = min(found + window, 2 * LARGEST_WINDOW)
        expected.append(found)
        window = min(2 * window, LARGEST_WINDOW)
    seen = list(dict.fromkeys(len(taken) for _ in results))
    assert seen == expected


def test_a_window_of_long_texts_ends_early(ours):
    taken, long = [], "good " * (WINDOW_CHARACTERS // 5)
    with pytest.warns(UserWarning, match="text 1 has"):
        next(ours(counted(["ok", long, "ok", "ok"], taken)))
    assert taken == ["ok", long]


def test_texts_that_come_slowly_are_answered_meanwhile(ours, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    taken = []

    def slow():
        for text in ("one", "two", "three", "four"):
            clock.now += 0.6 * WINDOW_SECONDS
            taken.append(text)
            yield text

    results = ours(slow())
    assert [len(taken) for _ in results] == [2, 2, 4, 4]


def test_it_grows_fast_once_enough_texts_have_come():
    made = pipeline(model="mini-sst2", device="cpu")
    made(["ok"] * (FAST_FROM - 1))
    assert made.quick is None
    made("ok")
    assert made.quick is not None and type(made.model.classifier) is torch.nn.Linear


def test_fast_is_made_when_asked_for_and_never_for_a_model_that_was_passed():
    assert pipeline(model="mini-sst2", device="cpu", fast=True).quick is not None
    slow = pipeline(model="mini-sst2", device="cpu", fast=False)
    passed = pipeline(model=slow.model, tokenizer=slow.tokenizer, device="cpu")
    for made in (slow, passed):
        made(["ok"] * 2 * FAST_FROM)
        assert made.quick is None
    assert pipeline(model=slow.model, tokenizer=slow.tokenizer, device="cpu", fast=True).quick is not None


def test_where_there_is_no_faster_path_the_pipeline_answers_without_a_word(monkeypatch, alone):
    expected = alone(TEXTS * 2)
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace())
    made = pipeline(model="mini-sst2", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_alike(made(TEXTS * 2), expected)
    assert made.quick is None


def test_bfloat16_changes_scores_a_little_and_labels_of_clear_sentences_not_at_all(alone):
    texts = TEXTS[:2] * 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a processor without it computes in float32, and says so
        found = pipeline(model="mini-sst2", device="cpu", dtype=torch.bfloat16)(texts)
    for one, other in zip(found, alone(texts), strict=True):
        assert one["label"] == other["label"] and math.isclose(one["score"], other["score"], abs_tol=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_of_a_model_in_half_precision_padded_texts_get_the_references_scores(dtype):
    """As near to float64 as four times the reference is in that type; and softmax is taken in float32, so that scores sum to 1."""
    texts, names = [*TEXTS[:2], "ok"], ("NEGATIVE", "POSITIVE")

    def numbers(results):
        return torch.tensor([[{one["label"]: one["score"] for one in row}[name] for name in names] for row in results])

    def reference(dtype):
        eager = {"attn_implementation": "eager", "dtype": dtype}
        made = transformers.pipeline("sentiment-analysis", model=str(bundled()["mini-sst2"]), device="cpu", model_kwargs=eager)
        return numbers(made(texts, batch_size=3, top_k=None))

    model = AutoModelForSequenceClassification.from_pretrained("mini-sst2", dtype=dtype)
    made = pipeline(model=model, tokenizer=AutoTokenizer.from_pretrained("mini-sst2"), device="cpu", top_k=None)
    found, exact = numbers(made(texts, batch_size=3)), reference(torch.float64)
    assert (found - exact).abs().max() <= 4 * (reference(dtype) - exact).abs().max() < 0.1
    assert (found.sum(1) - 1).abs().max() <= 1e-6


def test_a_generator_is_taken_a_batch_at_a_time(ours):
    taken = []

    def source():
        for text in TEXTS[:2] * 4:
            taken.append(text)
            yield text

    results = ours(source(), batch_size=3)
    assert taken == []
    next(results)
    assert len(taken) == 3
    assert [r["label"] for r in results] == ["NEGATIVE", "POSITIVE"] * 3 + ["NEGATIVE"]
    assert len(taken) == 8


def test_what_came_before_a_bad_text_is_given_out(ours):
    results = ours(iter(["good", "bad", None, "good"]), batch_size=8)
    assert [next(results)["label"], next(results)["label"]] == ["POSITIVE", "NEGATIVE"]
    with pytest.raises(TypeError, match="text 2 is a NoneType, a missing value"):
        next(results)


def test_what_came_before_a_failing_source_is_given_out(ours):
    def source():
        yield "good"
        raise RuntimeError("the disk is gone")

    results = ours(source())
    assert next(results)["label"] == "POSITIVE"
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(results)


def test_empty_inputs_tuples_and_iterables_are_what_one_would_expect():
    ours = pipeline(model="mini-sst2", device="cpu", fast=False)  # or packing amid the test would change scores by rounding
    expected = ours(TEXTS[:2])
    assert ours([]) == [] and list(ours(iter([]))) == []
    assert ours(tuple(TEXTS[:2])) == expected
    assert list(ours(dict.fromkeys(TEXTS[:2]).keys())) == expected


class Dataset:
    """A map-style dataset, as PyTorch has them: it knows its length and its items, and not where it ends."""

    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts) - 1

    def __getitem__(self, place):
        return self.texts[place]


def keys(texts):
    return dict.fromkeys(texts).keys()


@pytest.mark.parametrize("kind", [tuple, deque, np.array, keys, lambda texts: Dataset([*texts, "never"])])
def test_what_has_a_length_gives_a_list(ours, kind):
    expected = ours(TEXTS[:5])
    found = ours(kind(TEXTS[:5]))
    assert type(found) is list
    assert_alike(found, expected)


def test_a_column_of_a_table_gives_a_list_and_a_table_is_refused(ours):
    pandas = pytest.importorskip("pandas", reason="a table of pandas is the claim")
    table = pandas.DataFrame({"review": TEXTS[:2], "stars": [1, 2]}, index=[7, 9])
    assert_alike(ours(table["review"]), ours(TEXTS[:2]))
    with pytest.raises(TypeError, match=r"^texts is a DataFrame, a table with columns; expected the one that holds the texts"):
        ours(table)
    for missing in (None, math.nan, pandas.NA):
        with pytest.raises(TypeError, match=r"^text 1 is a (float|NAType), a missing value \((nan|<NA>)\); expected a str\. "):
            ours(pandas.Series(["good", missing], dtype="str"))
    with pytest.raises(TypeError, match=r"^text 1 is a NAType, a missing value \(<NA>\)"):
        ours(pandas.Series(["good", pandas.NA], dtype="object"))
    with pytest.raises(TypeError, match=r"^text 0 is a NaTType, a missing"):
        ours([pandas.NaT])


@pytest.mark.parametrize("missing", [None, math.nan, np.float64("nan")], ids=repr)
def test_a_missing_value_is_named_with_its_place_and_what_to_do(ours, missing):
    with pytest.raises(TypeError, match=r"^text 1 is a \w+, a missing value \((None|nan)\); expected a str\. "):
        ours(np.array(["good", missing], dtype=object))


@pytest.mark.parametrize(
    ("texts", "words"),
    [({"good", "bad"}, "texts is a set, which has no order.*: sorted"), (frozenset(["good"]), "texts is a frozenset"),
     ({"text": "good"}, "texts is a dict, whose keys would be read"), (UserDict(text="good"), "texts is a UserDict, whose keys"),
     ([b"good"], r"text 0 is a bytes; expected a str\. Decode it")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_would_be_read_otherwise_than_it_is_meant_is_refused_with_the_remedy(ours, texts, words):
    with pytest.raises(TypeError, match=f"^{words}"):
        ours(texts)


def test_a_file_that_was_opened_for_bytes_is_refused_with_the_remedy(ours):
    with open(__file__, "rb") as file, pytest.raises(TypeError, match=r"^text 0 is a bytes; .* open its file without"):
        next(ours(file))


NO_TEXTS = [None, 3, b"good", bytearray(b"good"), memoryview(b"good"), {"text": "good"}, ["good", 3], [["good"]], [b"good"]]
NO_TEXTS += [Path("good"), range(3), np.array("good"), np.array([1.0]), torch.tensor(1.0), torch.tensor([1.0])]


@pytest.mark.parametrize("texts", NO_TEXTS, ids=lambda value: type(value).__name__)
def test_what_is_no_text_is_refused_by_its_type(ours, texts):
    with pytest.raises(TypeError, match=r"expected a (str|list of str)"):
        ours(texts)


def test_a_long_text_is_cut_with_one_warning(ours, theirs):
    texts = ["ok", "fine", "ok", LONG, LONG, "ok"]
    with pytest.warns(UserWarning, match="text 3 has more than the 512 tokens that this") as caught:
        results = ours(texts, batch_size=2)
    assert len(caught) == 1
    assert_alike(results, theirs(texts, truncation=True))


def test_a_text_of_exactly_all_positions_is_not_cut(ours):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours("good " * 510)
        with pytest.raises(UserWarning, match=r"more than the 512 tokens .* its 2,555 characters, .* first 2,549 are"):
            ours("good " * 511)


def peak():
    """The largest memory of this process since it was asked to forget, in MiB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not tell the peak of memory anew")
@pytest.mark.parametrize("kind", [str, iter], ids=["one text", "a generator"])
def test_a_long_text_takes_no_more_memory_than_its_beginning(ours, alone, kind):
    text = "really good, " * 400_000
    expected = alone([text[:2000]])
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    with pytest.warns(UserWarning, match=r"of its 5,200,000 characters, those after the first 2,209 are left out\.") as caught:
        [found] = ours(text) if kind is str else ours(iter([text]))
    assert len(caught) == 1 and peak() - before < 100  # all of its tokens take 1 GB
    assert found["label"] == expected[0]["label"] == "POSITIVE"
    assert_alike([found], ours([text[:2209]]))


def test_a_model_in_training_mode_is_put_into_evaluation_mode(ours):
    model = AutoModelForSequenceClassification.from_pretrained("mini-sst2").train()
    made = pipeline(model=model, tokenizer=ours.tokenizer)
    assert made(TEXTS) == made(TEXTS)
    assert_alike(made(TEXTS), ours(TEXTS))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"task": "translation"}, ValueError, "task is 'translation'; minibert does 'sentiment-analysis'"),
        ({"device": "toaster"}, ValueError, "device is 'toaster', which this PyTorch cannot use"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; expected a positive number"),
        ({"batch_size": True}, ValueError, "batch_size is True"),
        ({"fast": False, "dtype": torch.bfloat16}, ValueError, "fast is False and dtype is torch.bfloat16"),
        ({"dtype": torch.float64}, ValueError, "dtype is torch.float64; on cpu, expected one of torch.float32"),
        ({"top_k": 0}, ValueError, "top_k is 0; expected a positive number of labels"),
        ({"top_k": -1}, ValueError, "top_k is -1"),
        ({"top_k": "2"}, ValueError, "top_k is '2'"),
        ({"top_k": 1.5}, ValueError, "top_k is 1.5"),
        ({"model": 3}, TypeError, "model is a int; expected a Hub id"),
        ({"tokenizer": "mini-sst2"}, TypeError, "tokenizer is 'mini-sst2'; expected a loaded one"),
        ({"device": 1.5}, ValueError, "device is 1.5, which this PyTorch cannot use"),
        ({"device": 10**30}, ValueError, "device is 1000"),
        ({"revision": 5}, TypeError, "revision is 5; expected the name of a branch"),
    ],
)
def test_arguments_without_sense_are_refused(arguments, kind, words):
    with pytest.raises(kind, match=words):
        pipeline(**({"model": "mini-sst2"} | arguments))


def test_a_loaded_model_has_no_revision(ours):
    with pytest.raises(ValueError, match="model is a loaded model, and revision='main' is for the Hub"):
        pipeline(model=ours.model, tokenizer=ours.tokenizer, revision="main")


def test_a_loaded_model_needs_its_tokenizer(ours):
    with pytest.raises(ValueError, match="pass its tokenizer too"):
        pipeline(model=ours.model)
