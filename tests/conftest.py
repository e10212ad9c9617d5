"""What several test files need: no network, one tiny checkpoint, and the command without a process of its own."""

import json
import os
import random
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the client is imported: no test reaches the real Hub
os.environ["no_proxy"] = "127.0.0.1"  # nor a proxy, on its way to the loopback Hub
os.environ["OMP_NUM_THREADS"] = "1"  # for child processes too: the models are small, and threads of two tests wait for each other

import minibert.checkpoint
import minibert.model
from minibert import DistilBertTokenizer, save_pretrained
from minibert.command.cli import main
from minibert.config import DistilBertConfig
from minibert.learn.compare.swap import parse
from minibert.model import DistilBertForSequenceClassification

import pytest
import torch
from hypothesis import Phase, settings
from safetensors.torch import save

settings.register_profile("first failure", phases=(Phase.explicit, Phase.generate))  # where red is enough, and no smallest example

PARITY = ("test_model.py", "test_published.py")
SWAPPED: dict[str, type[torch.nn.Module]] = {}  # the classes that --swap has put in model.py's place

SIZES = {"vocab_size": 50, "max_position_embeddings": 16, "n_layers": 2, "n_heads": 2, "dim": 8, "hidden_dim": 16}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(5, 50))]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--swap", action="append", default=[], metavar="CLASS=FILE:CLASS",
        help="run the parity tests with a module of yours in the place of model.py's, such as FeedForward=mine.py:MyFeedForward",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Puts the swapped class wherever the original has been imported, before any test is."""
    try:
        SWAPPED.update(parse(config.getoption("--swap")))
    except (OSError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    for name, other in SWAPPED.items():
        original = getattr(minibert.model, name)
        for module in list(sys.modules.values()):
            if vars(module).get(name) is original:
                setattr(module, name, other)


@pytest.hookimpl(tryfirst=True)  # before `-m` looks for marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as long: tests in a browser, and the cases that a test marked `some(n)` has beyond n, which repeat its claim."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("long")
        if item.get_closest_marker("some"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for found in cases.values():  # the cases that are kept are spread evenly
        count = found[0].get_closest_marker("some").args[0]
        kept = {number * len(found) // count for number in range(count)}
        for number, item in enumerate(found):
            if number not in kept:
                item.add_marker("long")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --swap, the parity tests alone: what the others say of model.py's own lines is not meant of another's."""
    swapped = bool(config.getoption("--swap")) and collection_path.is_file()
    return True if swapped and collection_path.name not in PARITY else None


@pytest.fixture
def model() -> DistilBertForSequenceClassification:
    """A tiny classifier in which no two tensors are alike, so that none can stand in for another."""
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(DistilBertConfig(**SIZES, id2label={0: "BAD", 1: "GOOD"}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture(autouse=True)
def nothing_settled(monkeypatch):
    """Each test begins as a process does: whether mini-sst2 stands in is not decided."""
    monkeypatch.setattr(minibert.checkpoint, "_settled", {})


@pytest.fixture
def files(model: DistilBertForSequenceClassification) -> dict[str, bytes]:
    """Its files, written without minibert's own writer."""
    config = {"model_type": "distilbert", **SIZES, "id2label": {"0": "BAD", "1": "GOOD"}}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(model.state_dict()),
        "vocab.txt": "\n".join(VOCABULARY).encode(),
        "tokenizer_config.json": b'{"do_lower_case": true, "model_max_length": 16}',
    }


@pytest.fixture
def folder(files, tmp_path) -> Path:
    """A folder with these files."""
    (tmp_path / "checkpoint").mkdir()
    for name, content in files.items():
        (tmp_path / "checkpoint" / name).write_bytes(content)
    return tmp_path / "checkpoint"


class Done(NamedTuple):
    returncode: int | None
    stdout: str
    stderr: str


@pytest.fixture(name="minibert")
def command(monkeypatch, capfd):
    """The command in this process, which saves the second that importing PyTorch takes."""

    def call(*arguments: object, stdin: bytes = b"") -> Done:
        ours, theirs = os.pipe()
        os.write(theirs, stdin)  # which holds 64 KiB
        os.close(theirs)
        with open(ours, encoding="utf-8") as file, monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
            patch.setattr(sys, "stdin", file)
            main(list(map(str, arguments)))
        (out, err), code = capfd.readouterr(), ended.value.code
        return Done(1, out, f"{err}{code}\n") if isinstance(code, str) else Done(code, out, err)

    return call


@pytest.fixture(scope="module")
def as_in_the_process_of_a_check():
    """What sandbox sets up for an answer, for tests that examine one here: float64, and one thread."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


@pytest.fixture
def lesson(model, files, tmp_path):
    """A base model and a GLUE folder whose sentences are made of a good and a bad half of the vocabulary."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model only waits for a second one
    (tmp_path / "vocab.txt").write_bytes(files["vocab.txt"])
    save_pretrained(model.distilbert, tmp_path / "base", DistilBertTokenizer.from_folder(tmp_path))
    draw = random.Random(0)
    rows = []
    for row in range(120):
        words = VOCABULARY[5:25] if row % 2 else VOCABULARY[25:]
        rows.append((" ".join(draw.choices(words, k=draw.randint(3, 13))), row % 2))
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n" + "".join(f"{text} \t{label}\n" for text, label in rows))
    yield tmp_path
    torch.set_num_threads(threads)
