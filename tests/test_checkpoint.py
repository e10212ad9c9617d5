"""Every tensor once, nothing made up, nothing left over; and what minibert writes, transformers reads, and back."""

import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

from minibert import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, checkpoint
from minibert.checkpoint import CheckpointError, HubUnreachable, bundled, locate, save_pretrained
from minibert.model import DistilBertForSequenceClassification
from minibert.storage.tensors import write_tensors

import pytest
import safetensors.torch
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers.implementations import BertWordPieceTokenizer

WEIGHT = "transformer.layer.1.ffn.lin1.weight"
HEAD = ["pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"]
BOTH_MODELS = pytest.mark.parametrize("kind", [AutoModel, AutoModelForSequenceClassification])
BASES = ["bare names", "prefixed names", "with a masked-language head"]
load = AutoModelForSequenceClassification.from_pretrained

# Two sentences, the second one padded.
BATCH = {"input_ids": torch.tensor([[2, 7, 9, 8, 3], [2, 30, 3, 0, 0]]), "attention_mask": torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])}


@pytest.fixture
def folder(files, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def tensors(model):
    return model.state_dict()


def assert_refused(call, *words: str) -> None:
    """Refused with one line that has all these words."""
    with pytest.raises(CheckpointError) as caught:
        call()
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    assert [word for word in words if word not in message] == [], message


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(**BATCH).logits


# Strict reading


def test_a_classifier_is_loaded_tensor_for_tensor_for_evaluation_and_can_be_trained(folder, model, tensors):
    loaded = load(folder)
    assert_equal(loaded.state_dict(), tensors)
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training and all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.config.id2label == {0: "BAD", 1: "GOOD"}


@BOTH_MODELS
@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        (f"distilbert.{WEIGHT}", None, ["lacks", WEIGHT]),
        ("outputs.weight", torch.ones(2, 8), ["has outputs.weight", "no place"]),
        ("distilbert.pooler.weight", torch.ones(2, 8), ["pooler.weight", "no place"]),
        (WEIGHT, torch.ones(16, 8), [WEIGHT]),  # the file has it with the prefix too: which one is right?
        (f"distilbert.{WEIGHT}", torch.ones(8, 16), [WEIGHT, "(8, 16)", "(16, 8)"]),
        (f"distilbert.{WEIGHT}", torch.ones(16, 8, dtype=torch.int64), [WEIGHT, "int64"]),
        (f"distilbert.{WEIGHT}", torch.ones(16, 8, dtype=torch.bool), [WEIGHT, "bool"]),
    ],
    ids=["missing", "extra", "extra in the base", "twice", "shape", "integers", "booleans"],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(folder, tensors, kind, name, tensor, words):
    changed = {key: value for key, value in (tensors | {name: tensor}).items() if value is not None}
    save_file(changed, folder / "model.safetensors")
    assert_refused(lambda: kind.from_pretrained(folder), "model.safetensors", *words)


def test_a_renamed_tensor_is_refused_and_the_hint_names_the_rename(folder, tensors):
    renamed = {name.replace("1.ffn.lin1.weight", "1.ffn.linear_1.weight"): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / "model.safetensors")
    hint = "It has distilbert.transformer.layer.1.ffn.linear_1.weight"
    assert_refused(lambda: load(folder), f"lacks distilbert.{WEIGHT},", hint)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_layers": 3}, ["lacks distilbert.transformer.layer.2."]),
        ({"n_layers": 1}, ["has distilbert.transformer.layer.1."]),
        ({"vocab_size": 51}, ["word_embeddings.weight", "(50, 8)", "(51, 8)"]),
        ({"id2label": {"0": "A", "1": "B", "2": "C"}}, ["classifier.weight", "(2, 8)", "(3, 8)"]),
        ({"model_type": "bert"}, ["config.json", "model_type is 'bert'", "import_bert.py"]),
        ({"n_heads": 3}, ["config.json", "n_heads is 3"]),
    ],
)
def test_a_config_that_is_not_the_files_is_refused_by_name(folder, files, settings, words):
    (folder / "config.json").write_text(json.dumps(json.loads(files["config.json"]) | settings))
    assert_refused(lambda: load(folder), *words)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("model.safetensors", lambda content: content[:-1], "not a whole safetensors file"),
        ("model.safetensors", lambda content: content[:40], "not a whole safetensors file"),
        ("model.safetensors", lambda content: content + b"\0", "not a whole safetensors file"),
        ("model.safetensors", lambda _: b"", "not a whole safetensors file"),
        ("model.safetensors", lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "not a whole"),
        ("model.safetensors", lambda _: b"<!DOCTYPE html><html><body>Sign in</body></html>", "not a whole safetensors file"),
        ("model.safetensors", None, "has no model.safetensors"),
        ("config.json", None, "has no config.json"),
        ("config.json", lambda content: content[:-1], "config.json is not valid JSON"),
        ("config.json", lambda _: b"null", "config.json: config is a NoneType"),
    ],
    ids=["cut off", "cut in its header", "too long", "empty", "LFS pointer", "web page", "gone", "no config", "half", "null"],
)
def test_a_file_that_is_broken_or_missing_is_named(folder, name, damage, words):
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage:
        (folder / name).write_bytes(damage(content))
    assert_refused(lambda: load(folder), str(folder), words)


def test_a_pickle_is_named_and_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert_refused(lambda: load(folder), "pytorch_model.bin", "no pickles")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_half_precision_file_computes_in_float32_unless_told_otherwise(folder, tensors, half):
    halves = {name: tensor.to(half) for name, tensor in tensors.items()}
    save_file(halves, folder / "model.safetensors")
    assert_equal(load(folder).state_dict(), {name: tensor.float() for name, tensor in halves.items()})
    assert {parameter.dtype for parameter in load(folder).parameters()} == {torch.float32}
    assert_equal(load(folder, dtype=half).state_dict(), halves)
    assert {parameter.dtype for parameter in load(folder, dtype=half).parameters()} == {half}


@BOTH_MODELS
def test_loading_draws_no_random_number_and_changes_no_file(folder, files, kind):
    before = torch.get_rng_state()
    loaded = kind.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.fill_(1)
    assert {name: (folder / name).read_bytes() for name in files} == files


# Bases and heads


def base_of(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name.removeprefix("distilbert."): tensor for name, tensor in tensors.items() if name not in HEAD}


def store_base(folder: Path, tensors: dict[str, torch.Tensor], form: str) -> None:
    """The base alone, as a model class of minibert or of transformers stores it."""
    if form == "with a masked-language head":
        config = json.loads((folder / "config.json").read_text())
        reference = transformers.DistilBertForMaskedLM(transformers.DistilBertConfig(**config))
        reference.distilbert.load_state_dict(base_of(tensors))
        reference.save_pretrained(folder)
        assert "vocab_transform.weight" in load_file(folder / "model.safetensors")
    else:
        save_file(base_of(tensors, "distilbert." if form == "prefixed names" else ""), folder / "model.safetensors")


def test_a_classifiers_base_is_loaded_without_its_head(folder, model, tensors):
    base = AutoModel.from_pretrained(folder)
    assert_equal(base.state_dict(), base_of(tensors))
    assert torch.equal(base(**BATCH).last_hidden_state, model.distilbert(**BATCH).last_hidden_state)


@pytest.mark.parametrize("form", BASES)
def test_a_base_is_no_classifier_and_the_message_says_what_to_do(folder, tensors, form):
    store_base(folder, tensors, form)
    assert_equal(AutoModel.from_pretrained(folder).state_dict(), base_of(tensors))
    assert_refused(lambda: load(folder), "base model", "new_head=", "AutoModel")


@pytest.mark.parametrize("form", [*BASES, "a classifier"])
def test_a_new_head_is_all_that_is_not_from_the_file(folder, tensors, form):
    if form != "a classifier":
        store_base(folder, tensors, form)
    torch.manual_seed(1)
    loaded, again = load(folder, new_head=["A", "B", "C"]), load(folder, new_head=["A", "B", "C"])
    assert_equal(loaded.distilbert.state_dict(), base_of(tensors))
    assert loaded.config.id2label == {0: "A", 1: "B", 2: "C"} and loaded.classifier.weight.shape == (3, 8)
    assert not loaded.classifier.bias.any() and not loaded.pre_classifier.bias.any()
    assert not torch.equal(loaded.pre_classifier.weight, tensors["pre_classifier.weight"])
    assert not torch.equal(loaded.pre_classifier.weight, again.pre_classifier.weight)
    torch.manual_seed(1)
    assert_equal(load(folder, new_head=["A", "B", "C"]).state_dict(), loaded.state_dict())


def test_a_new_head_is_drawn_as_widely_as_the_config_says(model, tmp_path):
    config = replace(model.config, dim=64, n_layers=1, initializer_range=0.05)
    save_pretrained(DistilBertForSequenceClassification(config), tmp_path)
    torch.manual_seed(0)
    head = load(tmp_path, new_head=[f"label {number}" for number in range(64)])
    for weight in (head.pre_classifier.weight, head.classifier.weight):  # 64 x 64 = 4096 numbers each
        # Their deviation is known to 1/sqrt(2 * 4096) = 1.1 %, their mean to 0.05/64; five times that is allowed.
        assert abs(weight.std().item() / 0.05 - 1) < 0.055 and abs(weight.mean().item()) < 5 * 0.05 / 64


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("QuestionAnswering", ["the head of question answering (qa_outputs)", "use AutoModel", "new_head="]),
        ("TokenClassification", ["the head of token classification", "use AutoModel", "new_head="]),
        ("MultipleChoice", ["classifier.weight has shape (1, 8)", "(2, 8)", "multiple choice"]),
    ],
)
def test_of_a_checkpoint_with_another_head_the_base_is_loaded_and_the_head_is_named(folder, files, tensors, task, words):
    config = transformers.DistilBertConfig(**json.loads(files["config.json"]))
    reference = getattr(transformers, f"DistilBertFor{task}")(config)
    reference.distilbert.load_state_dict(base_of(tensors))
    reference.save_pretrained(folder)
    assert_equal(AutoModel.from_pretrained(folder).state_dict(), base_of(tensors))
    assert_refused(lambda: load(folder), *words)
    assert_equal(load(folder, new_head=["A", "B"]).distilbert.state_dict(), base_of(tensors))


# Shards


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def shards(folder, tensors):
    """The checkpoint in two files: the head in the second. Gives a function that writes the index anew."""
    (folder / "model.safetensors").unlink()
    places = {name: SECOND if name in HEAD else FIRST for name in tensors}
    for file in (FIRST, SECOND):
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file)

    def write(**changes):
        index = {"metadata": {"total_size": 1}, "weight_map": places | changes}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    write()
    return write


def test_a_checkpoint_in_shards_is_loaded_tensor_for_tensor(shards, folder, tensors):
    assert_equal(load(folder).state_dict(), tensors)
    assert_equal(AutoModel.from_pretrained(folder).state_dict(), base_of(tensors))


def test_the_doctor_and_fetch_say_what_a_checkpoint_in_shards_is(shards, folder, tensors, minibert, tmp_path):
    size = sum(tensor.numel() for tensor in tensors.values())
    assert f"whole: {size:,} parameters, labels BAD, GOOD, in {folder}" in minibert("doctor", folder).stdout
    done = minibert("fetch", folder, "--to", tmp_path / "copy")
    assert done.returncode == 1 and "has its weights in shards, which fetch does not copy" in done.stderr


def test_the_shards_that_transformers_writes_are_read(files, tensors, tmp_path):
    reference = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**json.loads(files["config.json"])))
    reference.load_state_dict(tensors)
    reference.save_pretrained(tmp_path / "there", max_shard_size="4KB")
    assert len(list((tmp_path / "there").glob("model-*.safetensors"))) > 1
    assert_equal(load(tmp_path / "there").state_dict(), tensors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classifier.bias": FIRST}, [FIRST, "lacks classifier.bias"]),
        ({"made.up": SECOND}, [SECOND, "lacks made.up"]),
        ({"classifier.bias": "../model.safetensors"}, ["names '../model.safetensors'", "of the same folder"]),
        ({"classifier.bias": "pytorch_model.bin"}, ["names 'pytorch_model.bin'"]),
        ({"classifier.bias": "gone.safetensors"}, ["has no gone.safetensors"]),
        ({"classifier.bias": 1}, ["is not an index of shards"]),
    ],
)
def test_an_index_that_is_not_its_shards_is_refused(shards, folder, changes, words):
    shards(**changes)
    assert_refused(lambda: load(folder), *words)


def test_a_tensor_in_two_shards_or_twice_in_the_index_is_refused(shards, folder, tensors):
    save_file({name: tensors[name] for name in [*HEAD, f"distilbert.{WEIGHT}"]}, folder / SECOND)
    assert_refused(lambda: load(folder), SECOND, f"has distilbert.{WEIGHT}", "though not model.safetensors.index.json")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}')
    assert_refused(lambda: load(folder), "index.json", "is there twice")


# Writing, and the reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_transformers_reads_what_minibert_writes(model, tmp_path, dtype):
    save_pretrained(model.to(dtype), tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, use_safetensors=True)
    assert reference.dtype == torch.float32 and reference.config.id2label == {0: "BAD", 1: "GOOD"}
    assert_equal(reference.state_dict(), {name: tensor.float() for name, tensor in model.state_dict().items()})
    torch.testing.assert_close(logits(reference), logits(load(tmp_path)))  # float32, summed in another order


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_file_is_written_byte_for_byte_as_safetensors_writes_it(dtype):
    names = {"b": (3, 5), "a": (7,), "é": (2, 2), "no rows": (0, 3), "one number": ()}
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in names.items()} | {"view": torch.randn(4, 6).to(dtype).T}
    write_tensors(tensors, file := io.BytesIO())
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert file.getvalue() == safetensors.torch.save(contiguous, {"format": "pt"})


def test_wide_numbers_come_before_narrow_ones_and_each_begins_at_a_multiple_of_its_size():
    tensors = {"a": torch.randn(3).half(), "b": torch.randn(5), "c": torch.randn(2).double(), "d": torch.randn(1).bfloat16()}
    write_tensors(tensors, file := io.BytesIO())
    assert file.getvalue() == safetensors.torch.save(tensors, {"format": "pt"})
    assert_equal(safetensors.torch.load(file.getvalue()), tensors)
    header = json.loads(file.getvalue()[8 : 8 + int.from_bytes(file.getvalue()[:8], "little")])
    assert {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"} == {
        "c": [0, 16], "b": [16, 36], "d": [36, 38], "a": [38, 44],
    }  # fmt: skip


NOT_WRITTEN = {
    "another dtype": ("ids", torch.tensor([1]), "ids has dtype torch.int64; expected torch.float64, torch.float32, "),
    "no numbers": ("a", torch.ones(2, device="meta"), "a is on the meta device and has no numbers; expected one that has."),
    "sparse": ("a", torch.eye(2).to_sparse(), "a has the layout torch.sparse_coo; expected a dense tensor, as to_dense() makes."),
    "the header's own name": ("__metadata__", torch.ones(2), "a tensor is named __metadata__, which a safetensors file"),
    "a name that is not UTF-8": ("\udcff", torch.ones(2), "a tensor is named \\udcff, which a safetensors file"),
}


@pytest.mark.parametrize(("name", "tensor", "sentence"), NOT_WRITTEN.values(), ids=NOT_WRITTEN)
def test_what_no_file_can_hold_is_not_written(name, tensor, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        write_tensors({"b": torch.ones(3), name: tensor}, file := io.BytesIO())
    assert file.getvalue() == b""


def test_minibert_reads_what_transformers_writes(files, tensors, tmp_path):
    reference = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**json.loads(files["config.json"])))
    reference.load_state_dict(tensors)
    reference.save_pretrained(tmp_path)
    assert_equal(load(tmp_path).state_dict(), tensors)
    torch.testing.assert_close(logits(load(tmp_path)), logits(reference.eval()))


def test_a_checkpoint_can_be_saved_over_the_one_that_it_was_loaded_from(folder, tensors):
    loaded, other = load(folder), load(folder)
    with torch.no_grad():
        loaded.classifier.bias.fill_(7)
    save_pretrained(loaded, folder)
    assert_equal(load(folder).state_dict(), tensors | {"classifier.bias": torch.tensor([7.0, 7.0])})
    assert_equal(other.state_dict(), tensors)


def test_a_tokenizer_that_is_saved_over_one_with_added_tokens_is_read_again(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (folder / "added_tokens.json").write_text('{"<new>": 50}')
    (folder / "special_tokens_map.json").write_text('{"additional_special_tokens": ["<new>"]}')
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder)("word7").input_ids == [2, 7, 3]


def test_the_tokenizer_that_was_saved_last_is_the_one_that_is_read(folder, model):
    first, words = AutoTokenizer.from_pretrained(folder), (folder / "vocab.txt").read_text().split("\n")
    BertWordPieceTokenizer(vocab={word: index for index, word in enumerate(reversed(words))}).save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").unlink()
    assert AutoTokenizer.from_pretrained(folder)("word7").input_ids == [47, 42, 46]
    save_pretrained(model, folder, first)
    assert AutoTokenizer.from_pretrained(folder)("word7").input_ids == [2, 7, 3]


def test_a_save_that_fails_leaves_the_old_checkpoint_whole(folder, files, model, monkeypatch):
    def disk_is_full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(model.half(), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


# Where


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.setattr(checkpoint, "bundled", lambda: {"tiny": Path("/shipped/tiny")})


def test_a_name_that_ships_comes_before_a_folder_and_a_folder_before_the_hub(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("tiny", "mine", "some/model"):
        Path(name).mkdir(parents=True)
    places = {"tiny": "/shipped/tiny", "mine": "mine", "some/model": "some/model", "~/mine": f"{tmp_path}/mine"}
    assert {name: str(locate(name).folder) for name in places} == places and locate("tiny").name == "tiny"
    assert locate(Path("mine")).folder == Path("mine")
    for name in ("tiny", "mine"):
        assert_refused(lambda name=name: locate(name, "main"), name, "revision='main'")


@pytest.mark.parametrize("where", ["./nowhere", "~/nowhere", "~no.such.user/nowhere", "/no/where", "a/b/c", Path("nowhere")])
def test_a_path_without_a_folder_is_named_beside_what_ships(shipped, where):
    assert_refused(lambda: locate(where), f"there is no folder {where}", "tiny")


def test_a_name_that_only_the_hub_may_know_needs_the_hub(shipped):
    with pytest.raises(HubUnreachable, match=r"^nowhere .*what ships is: tiny"):  # tests are offline
        locate("nowhere")
    with pytest.raises(HubUnreachable, match=r"^no/where "):
        locate("no/where")


def test_what_ships_is_found_in_a_checkout_and_in_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "__file__", str(tmp_path / "minibert" / "checkpoint.py"))
    for folder in ("weights/one", "weights/unfinished", "minibert/weights/two"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "weights/one/config.json").touch()
    (tmp_path / "minibert/weights/two/config.json").touch()
    assert bundled() == {"two": tmp_path / "minibert/weights/two"}
    (tmp_path / "minibert/weights").rename(tmp_path / "minibert/elsewhere")
    assert bundled() == {}  # what else is named weights beside an installed package is not minibert's
    (tmp_path / "pyproject.toml").touch()
    assert bundled() == {"one": tmp_path / "weights/one"}


def test_arguments_that_would_be_guessed_at_are_refused(folder):
    assert_refused(lambda: locate(""), "the checkpoint's name is empty")
    with pytest.raises(TypeError, match="new_head is 'NEG'; expected a list"):
        load(folder, new_head="NEG")
    for dtype in (torch.int64, "float32", None):
        with pytest.raises(ValueError, match="expected torch"):
            load(folder, dtype=dtype)
