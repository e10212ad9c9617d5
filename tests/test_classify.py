"""Text in, labels out, as transformers' pipeline gives them on the same folder."""

import math
import warnings

import pytest
import torch
import transformers

from minibert import AutoModelForSequenceClassification, AutoTokenizer, HubUnreachable, classify, pipeline
from minibert.checkpoint import bundled

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
def test_a_list_gives_the_references_labels_and_scores(ours, theirs, batch_size):
    assert_alike(ours(TEXTS, batch_size=batch_size), theirs(TEXTS))


def test_a_single_text_gives_a_list_of_one(ours, theirs):
    assert_alike(ours(TEXTS[0]), theirs(TEXTS[0]))


@pytest.mark.parametrize("top_k", [1, 2, 5, None])
def test_top_k_gives_the_references_lists(ours, theirs, top_k):
    assert_alike(ours(TEXTS, top_k=top_k), theirs(TEXTS, top_k=top_k))
    assert_alike(ours(TEXTS[0], top_k=top_k), theirs(TEXTS[0], top_k=top_k))


def test_top_k_means_the_same_when_made_and_when_called(ours):
    made = pipeline(model=ours.model, tokenizer=ours.tokenizer, top_k=2)
    assert made(TEXTS[0]) == ours(TEXTS[0], top_k=2)
    assert made(TEXTS[:2]) == ours(TEXTS[:2], top_k=2)


def test_equal_scores_are_ranked_by_label_id():
    scores = AutoModelForSequenceClassification.from_pretrained("mini-sst2")
    torch.nn.init.zeros_(scores.classifier.weight), torch.nn.init.zeros_(scores.classifier.bias)
    made = pipeline(model=scores, tokenizer=AutoTokenizer.from_pretrained("mini-sst2"))
    assert made("ok", top_k=None) == [{"label": "NEGATIVE", "score": 0.5}, {"label": "POSITIVE", "score": 0.5}]


def test_the_labs_sentences_come_out_right(ours):
    assert [result["label"] for result in ours(TEXTS[:2])] == ["POSITIVE", "NEGATIVE"]


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
    with pytest.raises(TypeError, match="text 2 is a NoneType; wanted a str"):
        next(results)


def test_what_came_before_a_failing_source_is_given_out(ours):
    def source():
        yield "good"
        raise RuntimeError("the disk is gone")

    results = ours(source())
    assert next(results)["label"] == "POSITIVE"
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(results)


def test_empty_inputs_tuples_and_iterables_are_what_one_would_expect(ours):
    expected = ours(TEXTS[:2])
    assert ours([]) == [] and list(ours(iter([]))) == []
    assert ours(tuple(TEXTS[:2])) == expected
    assert list(ours(dict.fromkeys(TEXTS[:2]).keys())) == expected


@pytest.mark.parametrize("texts", [None, 3, b"good", {"text": "good"}, ["good", 3], [["good", "bad"]], [b"good"]], ids=repr)
def test_what_is_no_text_is_refused_by_its_type(ours, texts):
    with pytest.raises(TypeError, match="wanted a str"):
        ours(texts)


def test_a_long_text_is_cut_with_one_warning(ours, theirs):
    texts = ["ok", "fine", "ok", LONG, LONG, "ok"]
    with pytest.warns(UserWarning, match="text 3 has 802 tokens and this model reads 512") as caught:
        results = ours(texts, batch_size=2)
    assert len(caught) == 1
    assert_alike(results, theirs(texts, truncation=True))


def test_a_text_of_exactly_all_positions_is_not_cut(ours):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours("good " * 510)
        with pytest.raises(UserWarning, match="513 tokens"):
            ours("good " * 511)


def test_a_model_in_training_mode_is_put_into_evaluation_mode(ours):
    model = AutoModelForSequenceClassification.from_pretrained("mini-sst2").train()
    made = pipeline(model=model, tokenizer=ours.tokenizer)
    assert made(TEXTS) == made(TEXTS) == ours(TEXTS)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"task": "translation"}, ValueError, "task is 'translation'; minibert does 'sentiment-analysis'"),
        ({"device": "toaster"}, ValueError, "device is 'toaster', which this PyTorch cannot use"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; wanted a positive number"),
        ({"batch_size": True}, ValueError, "batch_size is True"),
        ({"top_k": 0}, ValueError, "top_k is 0; wanted a positive number of labels"),
        ({"top_k": -1}, ValueError, "top_k is -1"),
        ({"top_k": "2"}, ValueError, "top_k is '2'"),
        ({"top_k": 1.5}, ValueError, "top_k is 1.5"),
        ({"model": 3}, TypeError, "model is a int; wanted a Hub id"),
    ],
)
def test_arguments_without_sense_are_refused(arguments, kind, words):
    with pytest.raises(kind, match=words):
        pipeline(**({"model": "mini-sst2"} | arguments))


def test_a_loaded_model_needs_its_tokenizer(ours):
    with pytest.raises(ValueError, match="pass its tokenizer too"):
        pipeline(model=ours.model)


def unreachable(where, revision=None, **_):
    if "/" in str(where):
        raise HubUnreachable(f"the Hugging Face Hub cannot be reached for {where}.")
    return classify.Checkpoint(bundled()[where], where)


def test_without_the_hub_the_checkpoint_that_ships_stands_in_and_says_so(monkeypatch):
    monkeypatch.setattr(classify, "locate", unreachable)
    with pytest.warns(UserWarning, match="cannot be reached .* mini-sst2, which ships with minibert, answers instead"):
        made = pipeline("sentiment-analysis")
    assert made.name == "mini-sst2"


def test_a_checkpoint_asked_for_by_name_is_never_replaced(monkeypatch):
    monkeypatch.setattr(classify, "locate", unreachable)
    with pytest.raises(HubUnreachable):
        pipeline("sentiment-analysis", model=classify.DEFAULT)
