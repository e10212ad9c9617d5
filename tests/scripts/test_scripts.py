"""The scripts: a folded BERT computes what BERT computes, a resumed training run ends where an unbroken one does."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

from minibert import (
    AutoModel,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    pipeline,
    save_pretrained,
)
from minibert.bert import fold

import average
import evaluate
import import_bert
import pytest
import torch
import train
import transformers
from conftest import VOCABULARY
from helpers import run, train_on
from safetensors.torch import load_file, save_file
from served import served

SCRIPTS = Path(__file__).parents[2] / "scripts"


# import_bert.py


@pytest.fixture
def bert(tmp_path):
    """A small BERT with random weights, LayerNorms and biases included, saved as the Hub has it."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=16, attn_implementation="eager",
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    folder = tmp_path / "bert"
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    return model, folder


def assert_folded(bert, folder):
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 9, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    theirs = bert.double()(input_ids=ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    ours = AutoModel.from_pretrained(folder, dtype=torch.float64)
    ours = ours(input_ids=ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    # Adding position and token type first rounds once in float32, the dtype that the folder stores: hence 1e-5.
    for one, other in zip((*ours.hidden_states, *ours.attentions), (*theirs.hidden_states, *theirs.attentions), strict=True):
        assert (one - other).abs().max() < 1e-5


def test_a_folded_bert_computes_berts_hidden_states_and_attention(bert, tmp_path, monkeypatch):
    model, folder = bert
    run(monkeypatch, import_bert, folder, "--to", tmp_path / "ours")
    assert_folded(model, tmp_path / "ours")


def test_the_fold_itself_is_exact(bert):
    model, _ = bert
    tensors = fold({name: tensor.double() for name, tensor in model.state_dict().items()})
    config = DistilBertConfig(vocab_size=50, dim=12, n_layers=2, n_heads=3, hidden_dim=20, max_position_embeddings=16)
    ours = DistilBertModel(config).double().eval()
    ours.load_state_dict(tensors)
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    assert (ours(ids).last_hidden_state - model.double()(ids).last_hidden_state).abs().max() < 1e-11


def test_the_names_of_berts_first_release_are_understood(bert, tmp_path, monkeypatch):
    model, folder = bert
    old = {"bert." + name: tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t for n, t in old.items()}
    old |= {"cls.predictions.bias": torch.zeros(50), "bert.embeddings.position_ids": torch.arange(16)[None]}
    save_file(old, folder / "model.safetensors")
    run(monkeypatch, import_bert, folder, "--to", tmp_path / "ours")
    assert_folded(model, tmp_path / "ours")


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("embeddings.token_type_embeddings.weight", torch.ones(2, 9), "token_type_embeddings has shape (2, 9)"),
        ("embeddings.token_type_embeddings.weight", torch.ones(0, 12), "token_type_embeddings has shape (0, 12)"),
        ("embeddings.token_type_embeddings.weight", torch.tensor(1.0), "token_type_embeddings has shape ()"),
        ("embeddings.token_type_embeddings.weight", None, "has no tensor"),
        ("bert.embeddings.LayerNorm.weight", torch.ones(12), "LayerNorm.weight is there twice"),
        ("encoder.layer.0", torch.ones(12), "has encoder.layer.0, for which"),
        ("encoder.layer.0.output.dense.bias", torch.ones(12, dtype=torch.int64), "has dtype torch.int64"),
        ("encoder.layer.0.output.dense.bias", torch.full((12,), torch.inf), "ffn.lin2.bias holds NaN or infinity"),
    ],
)
def test_a_bert_whose_tensors_cannot_be_folded_is_refused_by_name(bert, tmp_path, monkeypatch, name, tensor, words):
    changed = load_file(bert[1] / "model.safetensors") | {name: tensor}
    save_file({key: value for key, value in changed.items() if value is not None}, bert[1] / "model.safetensors")
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, import_bert, bert[1], "--to", tmp_path / "ours")
    assert str(caught.value).startswith("import_bert: ") and words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_a_bert_whose_vocabulary_or_config_is_not_its_own_is_refused(bert, tmp_path, monkeypatch):
    (bert[1] / "vocab.txt").write_text("\n".join(VOCABULARY[:-1]))
    with pytest.raises(SystemExit, match="49 words and the model 50 word vectors"):
        run(monkeypatch, import_bert, bert[1], "--to", tmp_path / "ours")
    (bert[1] / "config.json").rename(tmp_path / "outside")
    (bert[1] / "config.json").symlink_to(tmp_path / "outside")
    with pytest.raises(SystemExit, match=r"config\.json is a link to .*, outside of the checkpoint"):
        run(monkeypatch, import_bert, bert[1], "--to", tmp_path / "ours")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05; a DistilBERT has 1e-12"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"model_type": "roberta"}, "model_type is 'roberta'; a DistilBERT has 'bert'"),
        ({"hidden_act": "silu"}, "activation is 'silu'"),
        ({"num_hidden_layers": 3}, "lacks transformer.layer.2"),
    ],
)
def test_a_bert_that_would_compute_otherwise_is_refused(bert, tmp_path, monkeypatch, change, words):
    config = json.loads((bert[1] / "config.json").read_text())
    (bert[1] / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(SystemExit, match=words):
        run(monkeypatch, import_bert, bert[1], "--to", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


# train.py


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--lr", "inf"], "'inf' is not a learning rate"),
        (["--lr", "nan"], "'nan' is not a learning rate"),
        (["--lr", "-1"], "'-1' is not a learning rate"),
        (["--mask-tokens", "nan"], "'nan' is not a share"),
        (["--mask-tokens", "2"], "'2' is not a share"),
    ],
    ids=str,
)
def test_a_setting_without_sense_is_a_usage_error(lesson, monkeypatch, capsys, settings, words):
    with pytest.raises(SystemExit, match="2"):
        train_on(lesson, monkeypatch, "run", *settings)
    assert words in capsys.readouterr().err


def test_a_run_that_leads_to_no_numbers_ends_and_keeps_nothing_of_them(lesson, monkeypatch):
    with pytest.raises(SystemExit, match=r"^train: at step \d+ the loss was no finite number any more; begin again"):
        train_on(lesson, monkeypatch, "run", "--lr", 1e30)
    assert not (lesson / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("saves", [1, 4, 7], ids=lambda saves: f"after {saves} saves")
@pytest.mark.some(1)
def test_a_resumed_run_gives_the_weights_of_an_unbroken_one(lesson, monkeypatch, capsys, saves):
    unbroken = train_on(lesson, monkeypatch, "unbroken")
    left, save_state = [saves], train.save_state

    def pull_the_plug(*arguments, **progress):
        save_state(*arguments, **progress)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "save_state", pull_the_plug)
    with pytest.raises(SystemExit, match="130"):
        train_on(lesson, monkeypatch, "broken")
    assert "--resume goes on from the last state" in capsys.readouterr().err
    monkeypatch.setattr(train, "save_state", save_state)
    assert train_on(lesson, monkeypatch, "broken", "--resume") == unbroken


def test_training_learns_and_another_seed_learns_otherwise(lesson, monkeypatch):
    one = train_on(lesson, monkeypatch, "one", "--epochs", 12)
    assert train_on(lesson, monkeypatch, "other", "--epochs", 12, "--seed", 2) != one
    classifier = pipeline(model=lesson / "one")
    texts, labels = evaluate.read_glue(lesson / "train.tsv")
    right = [result["label"] == train.LABELS[label] for result, label in zip(classifier(texts), labels, strict=True)]
    assert sum(right) / len(right) > 0.9


def test_frozen_word_vectors_stay_those_of_the_base(lesson, monkeypatch):
    name = "distilbert.embeddings.word_embeddings.weight"
    base = load_file(lesson / "base" / "model.safetensors")[name.removeprefix("distilbert.")]
    for to, options, same in (("frozen", ["--freeze-words"], True), ("free", [], False)):
        train_on(lesson, monkeypatch, to, *options)
        assert torch.equal(load_file(lesson / to / "model.safetensors")[name], base) == same


def test_resuming_with_other_settings_is_refused(lesson, monkeypatch):
    train_on(lesson, monkeypatch, "to")
    with pytest.raises(SystemExit, match="was made with other settings"):
        train_on(lesson, monkeypatch, "to", "--resume", "--seed", 5)


def test_a_damaged_state_is_refused_and_a_new_run_does_not_go_on_from_an_old_one(lesson, monkeypatch):
    train_on(lesson, monkeypatch, "to")
    lines = (lesson / "to" / "log.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    (lesson / "to" / "training.pt").write_bytes(b"junk")
    with pytest.raises(SystemExit, match=r"is not a state of a training run .* start again without --resume"):
        train_on(lesson, monkeypatch, "to", "--resume")
    train_on(lesson, monkeypatch, "to", "--seed", 2)
    assert len((lesson / "to" / "log.txt").read_text().splitlines()) == 3


def test_with_many_epochs_the_first_one_is_already_judged_after_training(lesson, monkeypatch):
    """The average starts within the first epoch, however long the warm-up would be: what is kept is never the bare base."""
    kept = []
    monkeypatch.setattr(train, "judge", lambda model, _: kept.append(model.pre_classifier.weight.clone()) or (0.5, 1.0))
    train_on(lesson, monkeypatch, "to", "--epochs", 12)
    torch.manual_seed(1)
    start = AutoModelForSequenceClassification.from_pretrained(lesson / "base", new_head=train.LABELS)
    assert not torch.equal(kept[0], start.pre_classifier.weight)


def test_what_is_held_out_stands_in_no_training_sentence():
    whole = [f"{name} " + " ".join(f"w{i}" for i in range(12)) + f" {name}" for name in ("a", "b", "c", "d")]
    pieces = [text[:14] for text in whole] + ["w1 w2", "other words"]
    kept, held = train.hold_out(whole + pieces, 2)
    texts = whole + pieces
    assert len(held) == 2 and all(texts[row] in whole for row in held)
    for row in kept:
        assert not any(f" {texts[row]} " in f" {texts[other]} " for other in held)
    assert texts.index("other words") in kept


def test_batches_hold_every_example_once_and_sentences_of_like_length():
    examples = [([i] * (1 + i % 17), i % 2) for i in range(1000)]
    made = train.batches(examples, 8, seed=3)
    assert sorted(ids for batch in made for ids, _ in batch) == sorted(ids for ids, _ in examples)
    assert max(len(batch) for batch in made) == 8
    spread = [max(len(ids) for ids, _ in batch) - min(len(ids) for ids, _ in batch) for batch in made]
    assert sum(spread) / len(spread) < 2
    assert train.batches(examples, 8, seed=3) == made != train.batches(examples, 8, seed=4)


# average.py


def test_the_average_of_runs_is_the_mean_of_each_weight_in_half_precision(lesson, monkeypatch):
    for order in (1, 2, 3):
        train_on(lesson, monkeypatch, f"run{order}", "--order", order)
    runs = [lesson / f"run{order}" for order in (1, 2, 3)]
    run(monkeypatch, average, *runs, "--to", lesson / "mean")
    weights = [load_file(folder / "model.safetensors") for folder in runs]
    for name, found in load_file(lesson / "mean" / "model.safetensors").items():
        mean = sum(each[name].double() for each in weights) / 3
        assert found.dtype == torch.float16 and torch.allclose(found.double(), mean, rtol=2**-11, atol=2**-24)
    assert pipeline(model=lesson / "mean")("word7")


def test_runs_of_different_shapes_are_not_averaged(lesson, model, monkeypatch):
    train_on(lesson, monkeypatch, "run")
    model.config = replace(model.config, attention_dropout=0.5)
    save_pretrained(model, lesson / "other", DistilBertTokenizer.from_folder(lesson / "base"))
    with pytest.raises(SystemExit, match=r"the runs differ in config.json"):
        run(monkeypatch, average, lesson / "run", lesson / "other", "--to", lesson / "mean")


# evaluate.py


def test_the_figures_are_those_of_a_table_counted_by_hand():
    #         hit, hit, miss, false alarm, right no, right no
    right = [1, 1, 1, 0, 0, 0]
    given = [0.9, 0.8, 0.4, 0.7, 0.2, 0.1]
    found = evaluate.measure(right, given)
    assert found["accuracy"] == 4 / 6 and found["precision"] == 2 / 3 and found["recall"] == 2 / 3
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["loss"] == pytest.approx(0.4629, abs=1e-4)  # -(ln .9 + ln .8 + ln .4 + ln .3 + ln .8 + ln .9) / 6
    assert [found[cell] for cell in ("true_negative", "false_positive", "false_negative", "true_positive")] == [2, 1, 1, 2]


def test_evaluate_counts_what_the_reference_gets_right(tmp_path):
    rows = [("a great film", 1), ("a dull film", 0), ("great", 0), ("not a great film at all", 0), ("fun", 1)]
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\n" + "".join(f"{text} \t{label}\n" for text, label in rows))
    command = [*served(), SCRIPTS / "evaluate.py", "--model", "mini-sst2", "--data", tmp_path / "dev.tsv", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    theirs = transformers.pipeline("sentiment-analysis", model=str(SCRIPTS.parent / "weights/mini-sst2"), device="cpu")
    right = [int(theirs(text)[0]["label"] == train.LABELS[label]) for text, label in rows]
    assert found["sentences"] == 5 and found["accuracy"] == sum(right) / 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\tb\nx\t1\n", "line 2 of"),
        ("sentence\tlabel\nx\t2\n", "line 2 of"),
        ("sentence\tlabel\n", "holds no sentences"),
        ("", "holds no sentences"),
    ],
)
def test_a_file_that_is_no_glue_file_is_refused(tmp_path, content, words):
    (tmp_path / "dev.tsv").write_text(content)
    with pytest.raises(ValueError, match=words):
        evaluate.read_glue(tmp_path / "dev.tsv")


@pytest.mark.parametrize("before", [0, 1, 3000])
def test_a_line_that_is_not_utf8_is_known_by_its_number(tmp_path, before):
    lines = [b"sentence\tlabel\n", *[b"a good one\t1\n"] * 3000][:before]
    (tmp_path / "dev.tsv").write_bytes(b"".join([*lines, b"caf\xe9\t1\n"]))
    with pytest.raises(ValueError, match=rf"^line {before + 1} of .*dev\.tsv is not UTF-8 \(byte 4\)"):
        evaluate.read_glue(tmp_path / "dev.tsv")


# pipeline_explained.py


def test_the_lab_step_by_step_ends_where_the_pipeline_does():
    command = [*served(), SCRIPTS / "pipeline_explained.py", "mini-sst2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, first, second = done.stdout.splitlines()
    for line, label in ((first, "POSITIVE"), (second, "NEGATIVE")):
        by_hand, by_pipeline = line.split()[1], line.split("pipeline: ")[1].split(")")[0]
        assert line.split()[0] == label and float(by_hand) == pytest.approx(float(by_pipeline), abs=1e-6)
