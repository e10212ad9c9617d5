"""Feeds one reader with bytes that no writer would write, for as long as it is told, and keeps to what reaches new lines.

    python scripts/fuzz.py checkpoint --minutes 30        (extra: fuzz)

READER is `config`, `tokenizer`, `checkpoint` or `texts`. Whatever comes, a reader has two ways to go: it refuses in one
sentence, or what it returns keeps its promises, which the function of its name below asserts. Anything else is a finding:
another exception, a broken promise, ten seconds or two gigabytes for one small file. Then the script prints the bytes, ends
with a status that is not 0, and the bytes become a test.

atheris runs the code and counts which branches of minibert each input takes; what takes a new one is kept and varied
further: its bytes or, every other time, one value of its JSON. Its last lines give the number of runs; `cov` is the number of
places reached.
"""

import argparse
import io
import json
import math
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    sys.exit("fuzz: atheris is not installed; it comes with the extra: pip install -e '.[fuzz]'")

with atheris.instrument_imports(include=["minibert"]):
    from minibert.checkpoint import AutoModelForSequenceClassification, CheckpointError, save_pretrained
    from minibert.command.text_file import FORMS, read_texts
    from minibert.config import MAX_PARAMETERS, DistilBertConfig
    from minibert.model import DistilBertForSequenceClassification
    from minibert.tokenizer import LONE_SURROGATE, DistilBertTokenizer

CUT = b"\n=====\n"  # between the parts of one input
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "##ly", "é"]
SIZES = DistilBertConfig(vocab_size=9, max_position_embeddings=4, n_layers=1, n_heads=1, dim=2, hidden_dim=2)


def refused(error: Exception) -> None:
    """A refusal is one line that ends as a sentence does."""
    message = str(error)
    assert message.endswith(".") and "\n" not in message, f"no sentence: {message!r}"


def config(data: bytes, folder: Path) -> None:
    """What is accepted has a size that can be built, and comes back from what is written of it."""
    (folder / "config.json").write_bytes(data)
    try:
        read = DistilBertConfig.from_json(folder / "config.json")
    except ValueError as error:
        return refused(error)
    assert 0 < read.parameter_count <= MAX_PARAMETERS
    assert DistilBertConfig.from_dict(json.loads(json.dumps(read.to_dict("any")))) == read


def tokenizer(data: bytes, folder: Path) -> None:
    """vocab.txt or tokenizer.json, the settings, a text: every id has a word, and the special ones stand where they should."""
    vocabulary, settings, text, *_ = [*data.split(CUT), b"", b"", b""]
    for name in ("vocab.txt", "tokenizer.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / ("tokenizer.json" if vocabulary.startswith(b"{") else "vocab.txt")).write_bytes(vocabulary)
    (folder / "tokenizer_config.json").write_bytes(settings or b"{}")
    try:
        read = DistilBertTokenizer.from_folder(folder)
    except ValueError as error:
        return refused(error)
    ids = read(text.decode("utf-8", "replace"), truncation=True).input_ids
    assert len(ids) <= read.model_max_length and all(0 <= number < read.vocab_size for number in ids)
    assert ids[0] == read.vocab["[CLS]"] and ids[-1] == read.vocab["[SEP]"]
    if not any(LONE_SURROGATE.search(word) for word in read.vocab):
        read.decode(ids)


def checkpoint(data: bytes, folder: Path) -> None:
    """A header and the numbers, with the length put before them, or else the bytes as they are: each parameter has its shape."""
    header, cut, numbers = data.partition(CUT)
    whole = len(header).to_bytes(8, "little") + header + numbers if cut else data
    (folder / "model.safetensors").write_bytes(whole)
    try:
        read = AutoModelForSequenceClassification.from_pretrained(folder)
    except CheckpointError as error:
        return refused(error)
    assert sum(parameter.numel() for parameter in read.parameters()) == SIZES.parameter_count
    assert all(parameter.dtype.is_floating_point and not parameter.is_meta for parameter in read.parameters())


def texts(data: bytes, folder: Path) -> None:
    """The first byte chooses a form: texts come in the file's order, and of plain lines one from each."""
    form, content = FORMS[data[0] % len(FORMS)] if data else "lines", data[1:]
    found = []
    try:
        for text in read_texts(io.BytesIO(content), "a file", form, None if form == "lines" else "text"):
            found.append(text)
    except ValueError as error:
        return refused(error)
    assert [text.end for text in found] == sorted(text.end for text in found)
    assert all(text.end <= len(content) for text in found)
    assert form != "lines" or len(found) == content.count(b"\n") + (content[-1:] not in (b"", b"\n"))


ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 9, 2**31, 10**12, 10**30, -0.5, 0.5, 1e30, math.nan, math.inf, "", "A", "9", "[PAD]",
    "\ud800", "F16", "F64", "I64", "BOOL", "F8_E4M3", "relu", "bert", "single_label_classification", [], [0], [0, 8], [2, 2], [[]],
    {}, {"0": "A"},
]  # fmt: skip


def varied(data: bytes, size: int, seed: int) -> bytes:
    """One value of an input's JSON made an odd one, taken away, or put under another's name; elsewhere its bytes are varied."""
    draw = random.Random(seed)
    parts = data.split(CUT)
    number = draw.randrange(len(parts))
    try:
        whole = json.loads(parts[number])
    except (ValueError, RecursionError):
        whole = None
    if not whole or not isinstance(whole, dict) or draw.random() < 0.5:
        return bytes(atheris.Mutate(data, size))
    holders = [holder for holder in (whole, *whole.values()) if holder and isinstance(holder, dict)]
    holder = draw.choice(holders)
    name, other = draw.choice(list(holder)), draw.choice(list(holder))
    what = draw.randrange(4)
    if what == 0:
        holder[name] = draw.choice(ODD)
    elif what == 1:
        holder[name] = holder[other]
    elif what == 2:
        holder[other] = holder.pop(name)
    else:
        holder[str(draw.choice(ODD))] = holder.pop(name)
    parts[number] = json.dumps(whole).encode()
    return CUT.join(parts)[:size]


READERS: dict[str, Callable[[bytes, Path], None]] = {
    reader.__name__: reader for reader in (config, tokenizer, checkpoint, texts)
}


def seeds(reader: str, folder: Path) -> list[bytes]:
    """Inputs that are as they should be, for the first ones to be varied; a checkpoint of nine words is written to the folder."""
    model = DistilBertForSequenceClassification(SIZES)
    save_pretrained(model, folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    written, weights = (folder / "config.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(weights[:8], "little")
    core = {"model": {"type": "WordPiece", "vocab": {word: number for number, word in enumerate(WORDS)}}, "added_tokens": []}
    settings = json.dumps({"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "model_max_length": 4})
    words, text = "\n".join(WORDS).encode(), "Goodly, é!".encode()
    return {
        "config": [written, b'{"model_type": "distilbert", "hidden_size": 8, "id2label": {"0": "A"}}'],
        "tokenizer": [CUT.join([start, settings.encode(), text]) for start in (words, json.dumps(core).encode())],
        "checkpoint": [weights, weights[8:start] + CUT + weights[start:]],
        "texts": [b"\0a\nb\r\n", b'\1{"text": "a"}\n', b'\2n,text\n1,"a ""b"",\n"\n', b"\3n\ttext\n1\ta\n"],
    }[reader]


def main() -> None:
    parser = argparse.ArgumentParser(description="Feed a reader with bytes that no writer would write.")
    parser.add_argument("reader", choices=READERS, metavar="READER", help=", ".join(READERS))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--corpus", type=Path, help="folder for the inputs that reached something new; by default not kept")
    args = parser.parse_args()

    memory = Path("/dev/shm")  # on Linux; a disk takes longer to write a file than a reader to refuse it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        corpus = args.corpus or folder / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds(args.reader, folder)):
            (corpus / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={round(60 * args.minutes)}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=8192"]
        atheris.Setup(
            [sys.argv[0], str(corpus), *limits, "-print_final_stats=1", f"-artifact_prefix={args.reader}-"],
            lambda data: READERS[args.reader](data, folder),
            custom_mutator=varied,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
