"""DistilBertConfig: what it reads, what it refuses, and that its arithmetic is the model's."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

from minibert.config import DistilBertConfig
from minibert.model import DistilBertForSequenceClassification

import pytest
import transformers

HUB_FILE = "../shared/data/distilbert-sst2-small-files/config.json"
HUB = {  # the same, so that nothing here depends on that file
    "activation": "gelu",
    "architectures": ["DistilBertForSequenceClassification"],
    "attention_dropout": 0.1,
    "dim": 768,
    "dropout": 0.1,
    "finetuning_task": "sst-2",
    "hidden_dim": 3072,
    "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
    "initializer_range": 0.02,
    "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
    "max_position_embeddings": 512,
    "model_type": "distilbert",
    "n_heads": 12,
    "n_layers": 6,
    "output_past": True,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "vocab_size": 30522,
}
# No value is a default and no two sizes are alike, so that none can stand in for another.
UNUSUAL = {
    "vocab_size": 37,
    "max_position_embeddings": 11,
    "n_layers": 3,
    "n_heads": 2,
    "dim": 10,
    "hidden_dim": 7,
    "activation": "relu",
    "dropout": 0.25,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.5,
    "initializer_range": 0.125,
    "pad_token_id": 5,
    "id2label": {0: "bad", 1: "so-so", 2: "good"},
}
FIELDS = [field.name for field in dataclasses.fields(DistilBertConfig)]
SIZES = ["vocab_size", "max_position_embeddings", "n_layers", "n_heads", "dim", "hidden_dim"]
DROPOUTS = ["dropout", "attention_dropout", "seq_classif_dropout"]


def read(**changes):
    return DistilBertConfig.from_dict(HUB | changes)


def refusal(call, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        call(*args, **kwargs)
    assert caught.type is ValueError and "\n" not in str(caught.value)
    return str(caught.value)


def values_of(config):
    return {name: getattr(config, name) for name in FIELDS}


def test_the_hubs_config_is_read():
    config = read()
    assert [getattr(config, name) for name in SIZES] == [30522, 512, 6, 12, 768, 3072]
    assert [getattr(config, name) for name in DROPOUTS] == [0.1, 0.1, 0.2]
    assert (config.activation, config.initializer_range, config.pad_token_id) == ("gelu", 0.02, 0)
    assert config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    assert config.label2id == {"NEGATIVE": 0, "POSITIVE": 1}
    assert config.num_labels == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_is_read_as_its_content(tmp_path, encoding):
    (tmp_path / "config.json").write_text(json.dumps(HUB | {"n_layers": 2, "id2label": {"0": "schön"}}), encoding=encoding)
    config = DistilBertConfig.from_json(tmp_path / "config.json")
    assert (config.n_layers, config.id2label) == (2, {0: "schön"})


def test_the_content_written_here_is_the_hubs_own_file():
    path = Path(__file__).resolve().parent.parent / HUB_FILE
    if not path.exists():
        pytest.skip(f"there is no {HUB_FILE}")
    assert json.loads(path.read_text(encoding="utf-8")) == HUB
    assert DistilBertConfig.from_json(str(path)) == read()


def test_the_defaults_are_the_references():
    theirs = transformers.DistilBertConfig()
    assert set(UNUSUAL) == set(FIELDS)
    assert values_of(DistilBertConfig()) == values_of(theirs)
    assert values_of(DistilBertConfig.from_dict({"model_type": "distilbert"})) == values_of(theirs)


@pytest.mark.parametrize("changes", [{}, {"dim": 768, "n_heads": 12, "n_layers": 1}, {"n_layers": 1, "id2label": {0: "one"}}])
def test_parameter_count_is_that_of_the_real_models(changes):
    config = DistilBertConfig(**UNUSUAL | changes)
    theirs = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**UNUSUAL | changes))
    ours = DistilBertForSequenceClassification(config)
    assert config.parameter_count == sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())


def test_the_default_has_66_955_010_parameters():
    assert DistilBertConfig().parameter_count == read().parameter_count == 66_955_010


def test_aliases_mean_the_checkpoints_own_names():
    aliased = {"model_type": "distilbert", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    config, theirs = DistilBertConfig.from_dict(aliased), transformers.DistilBertConfig(**aliased)
    assert (config.dim, config.n_heads, config.n_layers) == (theirs.dim, theirs.n_heads, theirs.n_layers) == (64, 4, 2)
    assert read(hidden_size=768).dim == 768  # both names are fine while they agree


def test_keys_that_the_model_has_no_use_for_are_ignored():
    assert read(auto_map={"AutoModel": "evil.py"}, qa_dropout="?", architectures=None, transformers_weights="../x") == read()


def test_what_to_dict_writes_is_read_by_both(tmp_path):
    config = DistilBertConfig(**UNUSUAL)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict("DistilBertForSequenceClassification")))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(theirs) is transformers.DistilBertConfig and theirs.architectures == ["DistilBertForSequenceClassification"]
    assert values_of(theirs) == values_of(DistilBertConfig.from_json(tmp_path / "config.json")) == UNUSUAL
    assert theirs.label2id == {"bad": 0, "so-so": 1, "good": 2}


def test_a_config_cannot_be_changed():
    config = DistilBertConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dim = 1
    assert dataclasses.replace(config, n_layers=1).n_layers == 1 and config.n_layers == 6
    assert "n_heads is 5" in refusal(dataclasses.replace, config, n_heads=5)  # a changed copy is checked as well


@pytest.mark.parametrize("size", [0, -1, "32", 1.5, 768.0, True, None], ids=repr)
@pytest.mark.parametrize("name", SIZES)
def test_a_size_is_a_positive_integer(name, size):
    for refused in (refusal(read, **{name: size}), refusal(DistilBertConfig, **{name: size})):
        assert refused == f"config: {name} is {size!r}; a size is a positive integer."


@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, 2, float("nan"), float("inf"), "0.1", True, None], ids=repr)
@pytest.mark.parametrize("name", DROPOUTS)
def test_a_dropout_is_a_probability_below_one(name, rate):
    message = refusal(read, **{name: rate})
    assert f"{name} is {rate!r};" in message and "probability from 0 up to, not at, 1" in message
    assert getattr(read(**{name: 0}), name) == 0


MONSTERS = [
    {"n_layers": 1_000_000_000},
    {"vocab_size": 10**12},
    {"max_position_embeddings": 10**12},
    {"hidden_dim": 10**12},
    {"dim": 768_000},
    {"dim": 1, "n_heads": 1, "hidden_dim": 1, "n_layers": 1001},
    {"dim": 10**12, "n_heads": 1, "n_layers": 10**12, "hidden_dim": 10**12},
]


@pytest.mark.parametrize("changes", MONSTERS)
def test_a_monstrous_model_is_refused_without_allocating(changes):
    tracemalloc.start()
    try:
        message = refusal(read, **changes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    named = [f"config: {name} is " in message for name in changes]
    assert "minibert builds at most 1,000" in message and ("config: these sizes make " in message or any(named))
    assert peak < 1_000_000  # bytes; one list of a billion layers would be 8,000 times that


def test_bert_large_is_no_monster():
    assert read(n_layers=24, n_heads=16, dim=1024, hidden_dim=4096).n_layers == 24


REFUSALS = [
    ({"model_type": "bert"}, ["model_type is 'bert'", "'distilbert'", "import_bert.py"]),
    ({"model_type": "roberta"}, ["model_type is 'roberta'", "minibert reads 'distilbert'"]),
    ({"model_type": None}, ["model_type is None", "minibert reads 'distilbert'"]),
    ({"n_heads": 5}, ["n_heads is 5", "does not divide dim = 768"]),
    ({"n_heads": 769}, ["n_heads is 769", "does not divide dim = 768"]),
    ({"activation": "gelu_new"}, ["activation is 'gelu_new'", "gelu and relu"]),
    ({"activation": None}, ["activation is None", "gelu and relu"]),
    ({"activation": ["gelu"]}, ["activation is ['gelu']", "gelu and relu"]),
    ({"initializer_range": -0.02}, ["initializer_range is -0.02", "expected a number between 0 and 1"]),
    ({"initializer_range": "0.02"}, ["initializer_range is '0.02'", "expected a number between 0 and 1"]),
    *[({"pad_token_id": x}, [f"pad_token_id is {x!r}", "from 0 to 30521"]) for x in (30522, -1, None, "0", True, 0.0)],
    *[({"id2label": {key: "A", "1": "B"}}, [f"keys [{int(key)}, 1]", "0, 1, 2", "without a gap"]) for key in ("2", "3")],
    ({"id2label": {}}, ["id2label has the keys []", "expected 0, 1, 2"]),
    *[({"id2label": {key: "A"}}, [repr(key), 'expected an object such as {"0": "NEGATIVE"']) for key in ("zero", "-1", "00", "")],
    *[({"id2label": x}, [f"id2label is {x!r}", "expected an object"]) for x in (["A", "B"], None, "AB", 2)],
    ({"id2label": {"0": "A", "1": "A"}}, ["['A', 'A']", "a different string for each"]),
    *[({"id2label": {"0": "A", "1": x}}, [f"['A', {x!r}]", "a different string for each"]) for x in (1, None, ["B"], True)],
    ({"problem_type": "regression"}, ["problem_type is 'regression'", "'single_label_classification'"]),
    ({"problem_type": "multi_label_classification"}, ["problem_type is 'multi_label_classification'", "one label of several"]),
    ({"id2label": {"0": "A", "1": "B"}, "label2id": {"A": 1, "B": 0}}, ["id2label gives 'A' the number 0 and label2id 1"]),
    ({"id2label": {"0": "A", "1": "B"}, "label2id": {"B": "1"}}, ["id2label gives 'B' the number 1 and label2id '1'"]),
    ({"hidden_size": 64}, ["hidden_size is 64", "dim was given as 768"]),
    ({"num_hidden_layers": 12}, ["num_hidden_layers is 12", "n_layers was given as 6"]),
    ({"num_attention_heads": 8}, ["num_attention_heads is 8", "n_heads was given as 12"]),
]


@pytest.mark.parametrize(("changes", "words"), REFUSALS)
def test_a_wrong_value_is_refused_by_name(changes, words):
    message = refusal(read, **changes)
    assert message.startswith("config: ") and [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("kind", [None, "single_label_classification"])
def test_a_single_label_problem_is_read(kind):
    assert read(problem_type=kind) == read()


@pytest.mark.parametrize("numbers", [{"A": 0, "B": 1}, {"LABEL_0": 0, "LABEL_1": 1}, {}, None, "none"], ids=str)
def test_a_label2id_that_contradicts_nothing_is_no_matter(numbers):
    assert read(id2label={"0": "A", "1": "B"}, label2id=numbers).id2label == {0: "A", 1: "B"}


def test_a_config_without_model_type_is_refused():
    assert "model_type is None" in refusal(DistilBertConfig.from_dict, {"dim": 768})


CONTENTS = [
    (b"", "is not valid JSON"),
    (b"{", "is not valid JSON"),
    (b"\xff\xfe{", "is not valid JSON"),
    (b"[" * 100_000, "is not valid JSON"),
    (b"[]", "config is a list; expected an object"),
    (b"null", "config is a NoneType; expected an object"),
    (b'"distilbert"', "config is a str; expected an object"),
    (b'{"model_type": "distilbert", "dim": 0}', "dim is 0"),
]


@pytest.mark.parametrize(("content", "words"), CONTENTS, ids=range(len(CONTENTS)))
def test_a_damaged_file_is_refused_by_name(tmp_path, content, words):
    (tmp_path / "config.json").write_bytes(content)
    message = refusal(DistilBertConfig.from_json, tmp_path / "config.json")
    assert message.startswith(str(tmp_path / "config.json")) and words in message


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        DistilBertConfig.from_json(tmp_path / "config.json")
