"""What can be wrong with a checkpoint's files: each fault is refused in one line, or the model is what the files now say.

Loading never ends in another exception, never waits, and reads nothing but the checkpoint's own files.
"""

import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

from minibert import AutoModelForSequenceClassification, AutoTokenizer, CheckpointError, pipeline
from minibert.checkpoint import read_tokenizer
from minibert.config import DistilBertConfig
from minibert.learn import explain
from minibert.model import DistilBertForSequenceClassification
from minibert.storage.files import LARGEST
from minibert.storage.tensors import LARGEST_HEADER, check_fit, read_tensors

import average
import compare
import evaluate
import pytest
import torch
import train
from conftest import SIZES, VOCABULARY, Done
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from served import served

FILES = ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "tokenizer.json"]
EACH_FILE = pytest.mark.parametrize("name", FILES)
load = AutoModelForSequenceClassification.from_pretrained
fuzz = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def load_all(folder: Path) -> None:
    load(folder), AutoTokenizer.from_pretrained(folder)


def refusal(call, kind: type[Exception] | tuple[type[Exception], ...] = CheckpointError) -> str:
    """The one line that a call fails with."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message and len(message) < 1500
    return message


def refused(call, *words: str, kind: type[Exception] = CheckpointError) -> None:
    message = refusal(call, kind)
    assert [word for word in words if word not in message] == [], message


def outcome(call):
    """What a call gives, or None where it is refused in one line."""
    try:
        return call()
    except CheckpointError as error:
        assert str(error).endswith(".") and "\n" not in str(error) and len(str(error)) < 1500
        return None


# Whose file it is, and of what kind


def move_out(folder: Path, name: str) -> Path:
    """Puts a file of the checkpoint outside of its folder and gives its new place."""
    if name == "tokenizer.json":
        words = {word: index for index, word in enumerate(VOCABULARY)}
        (folder / name).write_text(json.dumps({"model": {"type": "WordPiece", "vocab": words}}))
    target = folder.parent / f"outside {name}"
    (folder / name).rename(target)
    return target


@EACH_FILE
@pytest.mark.parametrize("way", ["absolute", "relative", "over another link"])
def test_a_link_out_of_the_folder_is_not_followed(folder, name, way):
    target = move_out(folder, name)
    shown = str(target) if way == "absolute" else f"../{target.name}"
    if way == "over another link":
        (folder / "inside").symlink_to(shown)
        shown = "inside"
    (folder / name).symlink_to(shown)
    refused(lambda: load_all(folder), f"{folder / name} is a link to {shown}, outside of the checkpoint", "copy the file itself")


@EACH_FILE
@pytest.mark.parametrize("target", ["nothing.here", "/no/where", "itself"])
def test_a_link_to_nothing_is_called_one(folder, name, target):
    move_out(folder, name)
    target = name if target == "itself" else target
    (folder / name).symlink_to(target)
    refused(lambda: load_all(folder), f"{folder / name} is a link to {target}, where nothing is to be had")


@EACH_FILE
def test_links_within_the_folder_and_to_the_folder_are_followed(folder, model, name):
    inside = move_out(folder, name).rename(folder / "the file itself")
    (folder / name).symlink_to(inside.name)
    (folder.parent / "elsewhere").symlink_to(folder)
    for place in (folder, folder.parent / "elsewhere"):
        assert torch.equal(load(place).classifier.weight, model.classifier.weight)
        assert AutoTokenizer.from_pretrained(place)("word7").input_ids == [2, 7, 3]


@pytest.mark.parametrize(
    ("store", "followed"),
    [
        ("models--a--b/blobs", True),
        ("blobs/ab", True),  # what client 2.4 shares between repositories
        ("models--a--b", False),
        ("models--c--d/blobs", False),
        ("datasets--a--b/blobs", False),
        ("elsewhere", False),
    ],
)
@pytest.mark.parametrize("chained", [False, True], ids=["link", "link to a link"])
def test_a_commit_in_the_hubs_cache_may_link_to_the_caches_store_alone(files, tmp_path, store, followed, chained):
    commit, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    for folder in (commit, blobs, tmp_path / store):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        target = tmp_path / store / f"hash of {name}"
        target.write_bytes(content)
        if chained:
            (blobs / f"link to {name}").symlink_to(target)
            target = blobs / f"link to {name}"
        (commit / name).symlink_to(os.path.relpath(target, commit))
    if followed:
        load_all(commit)
    else:
        refused(lambda: load_all(commit), "is a link to", "outside of the checkpoint")


@pytest.mark.parametrize("place", ["models--a--b/0123", "models--a--b/others/0123", "a--b/snapshots/0123"])
def test_a_folder_that_is_no_commit_of_a_cache_has_no_store(files, tmp_path, place):
    folder, store = tmp_path / place, tmp_path / place.partition("/")[0] / "blobs"
    folder.mkdir(parents=True)
    store.mkdir()
    written(files, folder)
    (folder / "vocab.txt").rename(store / "words")
    (folder / "vocab.txt").symlink_to(store / "words")
    refused(lambda: load_all(folder), f"vocab.txt is a link to {store / 'words'}, outside of the checkpoint")


def test_fetch_copies_no_file_from_outside_of_a_folder(minibert, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("nobody's business")
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to(secret)
    done = minibert("fetch", folder, "--to", tmp_path / "copy")
    assert_one_line(done, "tokenizer_config.json is a link to", "outside of the checkpoint")
    assert not (tmp_path / "copy").exists()


KINDS = """
import os, sys
from pathlib import Path
from minibert import AutoModelForSequenceClassification, AutoTokenizer, CheckpointError
folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    whole = (folder / name).read_bytes() if (folder / name).exists() else None
    for kind, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        try:
            AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
        except CheckpointError as error:
            print(kind, error)
        os.rmdir(folder / name) if kind == "folder" else os.unlink(folder / name)
    if whole is not None:
        (folder / name).write_bytes(whole)
"""


def test_a_pipe_or_a_folder_in_a_files_place_is_refused_at_once(folder):
    """In a process of its own: what waits for a pipe is hard to stop."""
    done = subprocess.run([*served(), "-c", KINDS, folder, *FILES], capture_output=True, text=True, timeout=60)
    wanted = []
    for name in FILES:
        wanted += [f"pipe {folder / name} is a pipe or a device; expected a plain file."]
        wanted += [f"folder {folder / name} is a folder; expected a plain file."]
    assert done.stdout.splitlines() == wanted and done.stderr == ""


def test_a_device_is_refused_before_it_is_read():
    with pytest.raises(ValueError, match="/dev/zero is a pipe or a device; expected a plain file"):
        DistilBertConfig.from_json("/dev/zero")


@pytest.mark.parametrize("name", [name for name in FILES if name != "model.safetensors"])
def test_a_file_of_a_senseless_size_is_refused_before_it_is_read(folder, name):
    with (folder / name).open("wb") as file:
        file.truncate(LARGEST + 1)  # a hole: it takes no place on the disk
    tracemalloc.start()
    try:
        refused(lambda: load_all(folder), str(folder / name), "67,108,865 bytes", "67,108,864 at most")
        assert tracemalloc.get_traced_memory()[1] < LARGEST / 10
    finally:
        tracemalloc.stop()


@contextmanager
def nobodys_rights():
    """As another user than root, whom rights do not bind."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", [".", *FILES[:4]])
def test_what_may_not_be_read_is_named(files, name):
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others anyway
        folder = Path(place)
        folder.chmod(0o755)
        load_all(written(files, folder))  # what is imported on the way is imported now
        (folder / name).chmod(0)
        try:
            with nobodys_rights():
                words = (str(folder / name), "cannot be read (Permission denied)") if name != "." else ("Permission denied",)
                refused(lambda: load_all(folder), *words)
        finally:
            (folder / name).chmod(0o755)


def test_a_folder_in_a_closed_folder_is_named(files):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "checkpoint"
        folder.mkdir()
        written(files, folder)
        Path(place).chmod(0)
        try:
            with nobodys_rights():
                refused(lambda: load_all(folder), str(folder), "Permission denied")
        finally:
            Path(place).chmod(0o755)


# JSON


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("config.json", '{"model_type": "distilbert", "dim": 8, "n_heads": 2, "dim": 8}', "dim"),
        ("config.json", '{"model_type": "distilbert", "id2label": {"0": "BAD", "1": "GOOD", "0": "GOOD"}}', "0"),
        ("config.json", '{"model_type": "distilbert", "model_typ\\u0065": "distilbert"}', "model_type"),
        ("tokenizer_config.json", '{"do_lower_case": true, "do_lower_case": false}', "do_lower_case"),
        ("tokenizer.json", '{"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "[PAD]": 1}}}', "[PAD]"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_by_name(folder, name, content, key):
    (folder / name).write_text(content)
    refused(lambda: load_all(folder), str(folder / name), f"the key '{key}' is there twice")


def as_stated(content: bytes) -> DistilBertConfig | None:
    """What a config.json says, read without minibert's reader; None where it is not a JSON object."""
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except ValueError:
        return None
    assert isinstance(values, dict)
    stated = {name: values[name] for name in values if name in DistilBertConfig.__dataclass_fields__}
    if "id2label" in stated:
        stated["id2label"] = {int(key): name for key, name in stated["id2label"].items()}
    return DistilBertConfig(**stated)


def assert_refused_or_as_stated(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        config = DistilBertConfig.from_json(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 1500
        return False
    assert config == as_stated(content)
    return True


def test_a_config_that_is_cut_off_anywhere_is_refused(files, tmp_path):
    content = files["config.json"]
    read = [assert_refused_or_as_stated(tmp_path / "config.json", content[:end]) for end in range(len(content) + 1)]
    assert read == [False] * len(content) + [True]


def test_a_flipped_bit_in_a_config_is_refused_or_read_as_it_stands(files, tmp_path):
    flipped = list(flips(files["config.json"]))
    read = [assert_refused_or_as_stated(tmp_path / "config.json", content) for content in flipped]
    assert len(flipped) == 8 * len(files["config.json"]) and 0 < sum(read) < len(read)


def flips(content: bytes, step: int = 1):
    """The same bytes with one bit flipped, for every bit, or every step-th."""
    for bit in range(0, 8 * len(content), step):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2, 8, 10**12, 10**400, -1, 0.1, 1.0])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "1", "a"]), inner, max_size=3),
    max_leaves=6,
)
KEYS = [*DistilBertConfig.__dataclass_fields__, "hidden_size", "num_attention_heads", "num_hidden_layers", "problem_type", "else"]


@fuzz
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3), whole=st.none() | JSON)
def test_any_json_is_a_config_or_is_refused_in_one_line(tmp_path, changes, whole):
    values = {"model_type": "distilbert", **SIZES} | changes if whole is None else whole
    (tmp_path / "config.json").write_text(json.dumps(values))
    try:
        config = DistilBertConfig.from_json(tmp_path / "config.json")
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 1500
        return
    for name in set(changes) & set(DistilBertConfig.__dataclass_fields__) - {"id2label"}:
        assert getattr(config, name) == changes[name]


@pytest.mark.parametrize("key", [*KEYS, "model_type"])
def test_json_of_any_depth_is_refused_in_one_line(tmp_path, key):
    for depth in (10, 300, 400, 500, 700, 900, 940, 960, 980, 1000, 5000, 100_000):
        nested = "[" * depth + "]" * depth
        kind = "" if key == "model_type" else '"model_type": "distilbert", '
        alias = f'"dim": {nested}, ' if key == "hidden_size" else ""  # these two are compared with each other
        (tmp_path / "config.json").write_text(f'{{{kind}{alias}"{key}": {nested}}}')
        try:
            DistilBertConfig.from_json(tmp_path / "config.json")
            assert key == "else"  # which no model has a use for
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 1500


@pytest.mark.parametrize("name", [*SIZES, "n_layers"])
def test_a_size_with_thousands_of_digits_is_refused_by_name(files, tmp_path, name):
    values = json.loads(files["config.json"]) | {name: 10**4000}
    (tmp_path / "config.json").write_text(json.dumps(values))
    message = refusal(lambda: DistilBertConfig.from_json(tmp_path / "config.json"), ValueError)
    assert f"{name} is 1000" in message and "minibert builds at most" in message


@pytest.mark.parametrize("label", ["two\nlines", "\x1b[2J", "\u202e", "\ud800", "\x00", "\x7f"])
def test_a_label_that_a_terminal_would_obey_is_refused(folder, files, label):
    values = json.loads(files["config.json"]) | {"id2label": {"0": "BAD", "1": label}}
    (folder / "config.json").write_text(json.dumps(values))
    refused(lambda: load(folder), "id2label", "expected names that can be printed")
    assert refusal(lambda: load(folder)).isprintable()  # it is told, not obeyed


# Vocabularies


def words_of(content: bytes) -> list[str]:
    """The lines of a vocab.txt, by the standard library's own notion of a line's end, but for the lone carriage return."""
    text = content.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    return (text[:-1] if text.endswith("\n") else text).split("\n")


def assert_words_or_refused(folder: Path, content: bytes) -> bool:
    (folder / "vocab.txt").write_bytes(content)
    tokenizer = outcome(lambda: read_tokenizer(folder))
    if tokenizer is not None:
        assert list(tokenizer.vocab) == words_of(content) and list(tokenizer.vocab.values()) == list(range(len(tokenizer.vocab)))
        ids = tokenizer(content.decode()).input_ids
        assert ids[0] == tokenizer.vocab["[CLS]"] and all(0 <= index < len(tokenizer.vocab) for index in ids)
    return tokenizer is not None


SPECIAL = "\n".join(VOCABULARY[:5]).encode() + b"\n"


@fuzz
@given(content=st.binary(max_size=30) | st.text(max_size=20).map(str.encode), whole=st.booleans())
def test_any_bytes_are_a_vocabulary_or_are_refused_in_one_line(tmp_path, content, whole):
    assert_words_or_refused(tmp_path, SPECIAL + content if whole else content)


def test_a_vocabulary_that_is_cut_off_anywhere_never_meets_the_model(folder, files, model):
    content, met = files["vocab.txt"], []
    for end in range(len(content)):
        if assert_words_or_refused(folder, content[:end]):
            tokenizer = read_tokenizer(folder)
            try:
                met += [pipeline(model=model, tokenizer=tokenizer) and end]
            except ValueError as error:
                assert "words that are missing would be read as others" in str(error) and str(error).endswith(".")
    # The last word may lose its last letters: that leaves as many words, and nothing in the file tells.
    assert met == list(range(len(content) - len("word49") + 1, len(content)))


def test_a_flipped_bit_in_a_vocabulary_is_refused_or_read_as_it_stands(folder, files):
    read = [assert_words_or_refused(folder, content) for content in flips(files["vocab.txt"], 3)]
    assert 0 < sum(read) < len(read)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_a_byte_order_mark_are_no_part_of_a_word(folder, files, ends, mark, last):
    (folder / "vocab.txt").write_bytes((mark + ends.join(VOCABULARY) + ends * last).encode())
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_bytes((mark + files[name].decode().replace(", ", f",{ends}")).encode())
    tokenizer = pipeline(model=folder, device="cpu").tokenizer
    assert list(tokenizer.vocab) == VOCABULARY and tokenizer("word49 word7").input_ids == [2, 49, 7, 3]


@pytest.mark.parametrize(("words", "told"), [(VOCABULARY[:-1], "would be read as others"), ([*VOCABULARY, "x"], "have no vector")])
@pytest.mark.parametrize("form", ["vocab.txt", "tokenizer.json"])
def test_a_vocabulary_of_another_size_than_the_embedding_is_refused(folder, model, words, told, form):
    if form == "vocab.txt":
        (folder / form).write_text("\n".join(words))
    else:
        vocabulary = {word: index for index, word in enumerate(words)}
        (folder / form).write_text(json.dumps({"model": {"type": "WordPiece", "vocab": vocabulary}}))
    sizes = f"{len(words)} words and the model 50 word vectors"
    refused(lambda: pipeline(model=folder), sizes, told, "vocab.txt from the model's own checkpoint", kind=ValueError)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    refused(lambda: pipeline(model=model, tokenizer=tokenizer), sizes, told, kind=ValueError)


# Tensors


@pytest.fixture
def stored(tmp_path):
    """A file with the tensors of a model of one block, and that model, without weights of its own."""
    config = DistilBertConfig(vocab_size=5, max_position_embeddings=4, n_layers=1, n_heads=1, dim=2, hidden_dim=3)
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(config)
    content = save(model.state_dict())
    (tmp_path / "model.safetensors").write_bytes(content)
    return tmp_path / "model.safetensors", content, model


def header_of(content: bytes) -> tuple[bytes, bytes]:
    """The header and the numbers."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def joined(header: bytes, numbers: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + numbers


def read_and_held(path: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    tensors = read_tensors(path)
    check_fit(model, tensors, path)
    return tensors


def assert_refused_or_untouched(stored, content: bytes) -> bool:
    path, _, model = stored
    path.unlink()
    path.write_bytes(content)
    tensors = outcome(lambda: read_and_held(path, model))
    if tensors is not None:
        wanted = model.state_dict()
        assert tensors.keys() == wanted.keys() and all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    return tensors is not None


def test_a_file_that_is_cut_off_in_its_header_or_in_any_tensor_is_refused(stored):
    _, content, _ = stored
    header, numbers = header_of(content)
    start = len(content) - len(numbers)
    places = {offset for name, entry in json.loads(header).items() for offset in entry["data_offsets"]}
    ends = [*range(start + 1), *(start + place + near for place in places for near in (-1, 0, 1))]
    assert [end for end in ends if end < len(content) and assert_refused_or_untouched(stored, content[:end])] == []
    assert assert_refused_or_untouched(stored, content)


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.long)])
def test_a_flipped_bit_in_the_header_is_refused_or_changes_no_number(stored, step):
    _, content, _ = stored
    _, numbers = header_of(content)
    read = [assert_refused_or_untouched(stored, flipped + numbers) for flipped in flips(content[: -len(numbers)], step)]
    assert sum(read) < len(read) / 10


@fuzz
@given(content=st.binary(max_size=60), length=st.none() | st.integers(0, 2**64 - 1))
def test_any_bytes_are_refused_as_a_safetensors_file(tmp_path, content, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes((length or len(content)).to_bytes(8, "little") + content if length is not None else content)
    assert outcome(lambda: read_tensors(path)) in (None, {})


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F4", "C64", "", "f32", 3, None]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 3, 5, -1, 2**32, 2**63, 2**64, "2", 1.0]), max_size=3),
        "data_offsets": st.lists(st.integers(-1, 300) | st.sampled_from([2**63, 2**64, None]), max_size=3),
        "more": st.just(1),
    },
)


@fuzz
@given(data=st.data(), how=st.sampled_from(["changed", "removed", "added", "replaced"]))
def test_a_header_that_says_something_else_is_refused_or_changes_no_number(stored, data, how):
    header, numbers = header_of(stored[1])
    entries = json.loads(header)
    name = data.draw(st.sampled_from(sorted(entries)))
    entry = data.draw(ENTRY)
    if how == "removed":
        del entries[name]
    elif how == "changed":
        entries[name] |= entry
    else:
        entries["added" if how == "added" else name] = entry
    assert_refused_or_untouched(stored, joined(json.dumps(entries).encode(), numbers))


@pytest.mark.parametrize("move", [-4, 4], ids=["overlapping", "with a hole"])
def test_ranges_that_overlap_or_leave_a_hole_are_refused(stored, move):
    header, numbers = header_of(stored[1])
    entries = json.loads(header)
    moved = max(entries.values(), key=lambda entry: entry["data_offsets"])
    moved["data_offsets"] = [offset + move for offset in moved["data_offsets"]]
    assert not assert_refused_or_untouched(stored, joined(json.dumps(entries).encode(), numbers + bytes(move if move > 0 else 0)))


@pytest.mark.parametrize("spelling", ["classifier.bias", "classifier.bi\\u0061s"])
def test_a_tensor_that_is_named_twice_is_refused_by_name(stored, spelling):
    path, content, model = stored
    header, numbers = header_of(content)
    other = json.dumps(json.loads(header)["pre_classifier.bias"])  # as large, and with other numbers
    path.write_bytes(joined(f'{{"{spelling}":{other},'.encode() + header[1:], numbers))
    refused(lambda: read_and_held(path, model), str(path), "the key 'classifier.bias' is there twice")


SIZE = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "BOOL": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
        "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F128": 128, "": 32}  # fmt: skip


@pytest.mark.parametrize("dtype", SIZE)
def test_a_tensor_of_any_dtype_is_a_weight_or_is_refused(tmp_path, model, dtype):
    tensors = model.state_dict()
    bias = tensors.pop("distilbert.embeddings.LayerNorm.bias")
    header, numbers = header_of(save(tensors))
    size = len(bias) * SIZE[dtype] // 8
    entry = {"dtype": dtype, "shape": [len(bias)], "data_offsets": [len(numbers), len(numbers) + size]}
    entries = json.loads(header) | {"distilbert.embeddings.LayerNorm.bias": entry}
    path = tmp_path / "model.safetensors"
    path.write_bytes(joined(json.dumps(entries).encode(), numbers + bytes(size)))
    read = outcome(lambda: read_and_held(path, model))
    assert (read is not None) == (dtype in ("F64", "F32", "F16", "BF16"))


def test_a_header_of_a_senseless_length_is_refused_before_it_is_read(folder):
    with (folder / "model.safetensors").open("wb") as file:
        file.write((LARGEST_HEADER + 1).to_bytes(8, "little"))
        file.truncate(10 * LARGEST_HEADER)
    tracemalloc.start()
    try:
        refused(lambda: load(folder), "its header has 4,194,305 bytes", "not a whole safetensors file")
        assert tracemalloc.get_traced_memory()[1] < LARGEST_HEADER / 10
    finally:
        tracemalloc.stop()


def test_the_names_of_a_file_make_no_message_long_or_of_two_lines(folder, model):
    tensors = model.state_dict()
    odd, path = "x\n\x1b" * 100_000, folder / "model.safetensors"
    path.write_bytes(save(tensors | {odd: torch.ones(1)}))
    refused(lambda: load(folder), "has x\\n\\x1b", "no place")
    path.write_bytes(save(tensors | {f"embeddings.{odd}": torch.ones(1), f"distilbert.embeddings.{odd}": torch.ones(1)}))
    refused(lambda: load(folder), "has distilbert.embeddings.x\\n\\x1b", "twice, with and without the prefix")
    path.write_bytes(joined(json.dumps({odd: {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}).encode(), bytes(8)))
    refused(lambda: load(folder), "not a whole safetensors file", "x\\n\\x1b")


# Numbers that are none


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("fast", [False, True], ids=["as it stands", "fast"])
@pytest.mark.some(4)
def test_no_weight_that_is_no_number_is_ever_scored(folder, files, model, activation, odd, fast):
    (folder / "config.json").write_text(json.dumps(json.loads(files["config.json"]) | {"activation": activation}))
    for name, tensor in model.state_dict().items():
        if activation == "relu" and "lin1" not in name:
            continue  # what comes before another function is not of this kind
        broken = tensor.clone()
        broken[7 if "word" in name else 0].view(-1)[0] = odd
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").write_bytes(save(model.state_dict() | {name: broken}))
        message = refusal(lambda: pipeline(model=folder, device="cpu", fast=fast)("word7 word9"), (CheckpointError, ValueError))
        assert "NaN or infinity" in message and "fetch" in message, name


def test_weights_whose_sum_is_too_large_for_a_number_are_numbers(folder, model):
    tensors = model.state_dict() | {"pre_classifier.weight": torch.full((8, 8), 3e38)}
    (folder / "model.safetensors").write_bytes(save(tensors))
    assert torch.equal(load(folder).pre_classifier.weight, tensors["pre_classifier.weight"])


def spoil(folder: Path, model: torch.nn.Module, word: int) -> None:
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors["distilbert.embeddings.word_embeddings.weight"][word, 0] = float("nan")
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "model.safetensors").write_bytes(save(tensors))


@pytest.mark.parametrize("name", ["pre_classifier.bias", "classifier.bias", "distilbert.embeddings.LayerNorm.weight"])
def test_a_number_too_large_for_the_models_dtype_is_refused(folder, model, name):
    tensors = model.state_dict()
    tensors[name] = tensors[name].double()
    tensors[name][0] = -1e300
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(save(tensors))
    refused(lambda: load(folder), f"model.safetensors: {name} holds NaN or infinity")


def test_a_path_that_is_no_utf8_is_called_so(folder):
    odd = folder.parent / os.fsdecode(b"m\xff")
    folder.rename(odd)
    refused(lambda: load(odd), "model.safetensors has a name that is not UTF-8, and safetensors opens no such file; rename it")


def test_the_texts_before_one_without_scores_are_given_out(folder, model):
    spoil(folder, model, word=7)
    given_out, classifier = [], pipeline(model=folder, device="cpu", batch_size=2)
    with pytest.raises(ValueError, match=r"^text 3 has no scores: .* NaN or infinity; fetch the checkpoint again\.$"):
        given_out.extend(result["label"] for result in classifier(iter(["word5", "word6", "word8", "word7", "word9"])))
    assert len(given_out) == 3


# Through the command line


def assert_one_line(done: Done, *words: str) -> None:
    assert done.returncode == 1 and done.stderr.startswith("minibert: ") and done.stderr.count("\n") == 1, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr


FAULTS = {
    "pickle only": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "minibert reads no pickles"),
    "a billion layers": (
        lambda f: (f / "config.json").write_text('{"model_type": "distilbert", "n_layers": 1000000000}'),
        "n_layers is 1,000,000,000; minibert builds at most 1,000 blocks",
    ),
    "cut off": (lambda f: os.truncate(f / "model.safetensors", 5000), "is not a whole safetensors file"),
    "cut vocabulary": (lambda f: os.truncate(f / "vocab.txt", 100), "words and the model 50 word vectors"),
    "pipe": (lambda f: ((f / "vocab.txt").unlink(), os.mkfifo(f / "vocab.txt")), "vocab.txt is a pipe or a device"),
}


@pytest.mark.parametrize(("damage", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_on_the_command_line_is_one_line_and_status_1(minibert, folder, damage, words):
    damage(folder)
    done = minibert("classify", "--model", folder, "word7")
    assert_one_line(done, words)
    assert done.stdout == ""


WORDS = "distilbert.embeddings.word_embeddings.weight"


def test_explain_and_the_scripts_say_so_too(folder, model, monkeypatch, capsys, tmp_path):
    spoil(folder, model, word=7)
    (tmp_path / "data").mkdir()
    for name in ("dev.tsv", "train.tsv"):
        (tmp_path / "data" / name).write_text("sentence\tlabel\nword7 word8\t1\n")
    refused(lambda: explain("word7", folder), "text 0 has no scores", kind=ValueError)
    for script, arguments, words in (
        (evaluate, ["--model", folder, "--data", tmp_path / "data/dev.tsv"], "evaluate: text 0 has no scores"),
        (average, [folder, "--to", tmp_path / "new"], f"average: {folder}/model.safetensors: {WORDS} holds NaN"),
        (train, ["--base", folder, "--data", tmp_path / "data", "--to", tmp_path / "new"], "word_embeddings.weight holds NaN"),
    ):
        assert words in end_of(script, arguments, monkeypatch)
    for against in ("float64", folder):
        assert end_of(compare, ["word7", "--model", folder, "--against", against], monkeypatch) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1
        assert told.err.startswith("compare: the reference makes no finite numbers of these texts")
    assert end_of(compare, ["word8", "--model", folder, "--against", "float64"], monkeypatch) == 0  # its words are whole


def test_no_script_puts_a_vocabulary_and_a_model_of_two_sizes_together(folder, monkeypatch, capsys, tmp_path):
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY[:-1]))
    words = "the vocabulary has 49 words and the model 50 word vectors"
    assert words in end_of(average, [folder, "--to", tmp_path / "new"], monkeypatch)
    assert words in end_of(train, ["--base", folder, "--data", tmp_path, "--to", tmp_path / "new"], monkeypatch)
    assert end_of(compare, ["word7", "--model", folder, "--against", "float64"], monkeypatch) == 2
    assert words in capsys.readouterr().err


def end_of(script, arguments, monkeypatch):
    """What a script exits with: a sentence, or a status."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        script.main()
    return caught.value.code
