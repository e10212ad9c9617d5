"""Speed and memory of minibert beside transformers, ONNX Runtime and OpenVINO, in one run on one machine.

    python scripts/benchmark.py --data ../shared/data/SST-2/dev.tsv      all rows; a quarter of an hour on two cores
    python scripts/benchmark.py --rows start loading --repeats 5         some rows, sentences made up
    python scripts/benchmark.py --json found.json --picture found.png

Every program loads the same checkpoint: the Hub's where it is cached or reachable, else one of the same shape, 66,955,010
parameters, with random weights. Programs are warmed up and take turns; figures are medians, with the spread from the fastest
to the slowest turn. Only ratios within one run mean anything: a busy neighbour slows all of them. Libraries that are
not installed (`pip install -e ".[bench]"` has them all) and paths that this processor lacks are named as absent.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import peers
import torch
import torch.nn.functional as F
from evaluate import read_glue
from torch import Tensor, nn

from minibert import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification, pipeline, save_pretrained
from minibert.checkpoint import DEFAULT, HubUnreachable, locate
from minibert.classify import batches
from minibert.fast import PackedLinear, why_not

PAUSE = 0.1  # seconds
PARAMETERS = 66_955_010
SEED = 20261125
SENTENCES = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]
LENGTHS = (4, 10, 12, 14, 16, 17, 19, 20, 21, 23, 25, 26, 27, 29, 30, 32, 34, 37, 40, 44, 55)  # SST-2 dev: tokens at 0, 5 ... 100 %
MULTIPLICATIONS = 6 * (4 * 768 * 768 + 2 * 768 * 3072)  # a token's, in the Linear layers of six blocks

OURS, HALF = "minibert", "minibert, bfloat16"
TRANSFORMERS, LOADED = "transformers' pipeline, batch 32", "transformers' from_pretrained"


@dataclasses.dataclass
class Figure:
    """What one program needed: seconds of each turn, bytes at its peak where measured, and what it says besides."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    peak: list[int] = dataclasses.field(default_factory=list)
    notes: dict[str, float] = dataclasses.field(default_factory=dict)
    absent: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else float("nan")


Group = dict[str, Figure]  # program -> figure

# A process of its own to start and watch another: a child's peak memory counts what its parent had when it was born.
LAUNCHER = """import os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
print("wall", time.perf_counter() - start, "peak", usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


@dataclasses.dataclass
class Setting:
    folder: Path
    texts: list[str]
    ids: list[list[int]]
    threads: int
    repeats: int
    quick: bool
    found: dict[str, Group] = dataclasses.field(default_factory=dict)


# ---- measuring

def take_turns(programs: dict[str, Callable[[], Any]], repeats: int, once: Iterable[str] = ()) -> Group:
    """Calls every program in turn, `repeats` times over, those in `once` in the first round only. Seconds of each call.

    The pause lets the threads of the one before fall asleep: most libraries let them turn idly for a while.
    """
    group: Group = {name: Figure() for name in programs}
    for turn in range(repeats):
        for name, run in programs.items():
            if turn == 0 or name not in once:
                time.sleep(PAUSE)
                start = time.perf_counter()
                run()
                group[name].seconds.append(time.perf_counter() - start)
    return group


def whole_processes(commands: dict[str, list[str]], repeats: int, warm_up: int = 1) -> Group:
    """Runs every command in turn, first `warm_up` times without counting: wall time and peak memory of the process.

    A command that prints "seconds X" is taken at its word for the time, "again X" is noted. Raises RuntimeError where one fails.
    """
    group: Group = {name: Figure() for name in commands}
    for turn in range(-warm_up, repeats):
        for name, command in commands.items():
            say(f"{name} {turn + 1}/{repeats}")
            whole = [sys.executable, "-I", "-c", LAUNCHER, sys.executable, *command]
            done = subprocess.run(whole, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False)
            if done.returncode:
                raise RuntimeError(f"{name} failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
            if turn >= 0:
                said = done.stdout.split()
                group[name].seconds.append(float(said[said.index("seconds" if "seconds" in said else "wall") + 1]))
                group[name].peak.append(int(said[said.index("peak") + 1]))
                if "again" in said:
                    group[name].notes["a second time, ms"] = 1000 * float(said[said.index("again") + 1])
    return group


def make(programs: dict[str, Callable[[], Any]]) -> tuple[dict[str, Any], Group]:
    """Makes each program; those that cannot be made are absent, with the reason."""
    made, absent = {}, {}
    for name, maker in programs.items():
        say(f"making {name}")
        try:
            made[name] = maker()
        except ImportError as error:
            absent[name] = Figure(absent=f"{error.name or error} is not installed")
        except RuntimeError as error:
            absent[name] = Figure(absent=str(error).splitlines()[0])
    return made, absent


def padded(ids: list[list[int]], device: str = "cpu") -> tuple[Tensor, Tensor]:
    rows = [torch.tensor(row) for row in ids]
    masks = [torch.ones_like(row) for row in rows]
    one, other = (nn.utils.rnn.pad_sequence(tensors, batch_first=True) for tensors in (rows, masks))
    return one.to(device), other.to(device)


def run_sorted(model: peers.Model, ids: list[list[int]], groups: Iterable[list[int]], device: str = "cpu") -> Tensor:
    """Logits of all texts, in their own order; `groups` says which are computed together."""
    logits: dict[int, Tensor] = {}
    for numbers in groups:
        logits |= zip(numbers, model(*padded([ids[number] for number in numbers], device)).cpu(), strict=True)
    return torch.stack([logits[number] for number in range(len(ids))])


def of_size(ids: list[list[int]], size: int) -> list[list[int]]:
    """Texts sorted by length, so many at a time."""
    order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def peak_of_products(dtype: torch.dtype) -> float:
    """The most operations a second that a product reaches here, by the best way there is: 1024 rows, 768 to 3072 numbers."""
    layer, x = nn.Linear(768, 3072), torch.randn(1024, 768)
    best: Any = PackedLinear(layer, dtype) if why_not(dtype) is None else layer.to(dtype)
    x = x if isinstance(best, PackedLinear) else x.to(dtype)
    weight, bias = (best.packed or best.pack()) if isinstance(best, PackedLinear) else (layer.weight, layer.bias)
    operator = torch.ops.mkldnn._linear_pointwise if isinstance(best, PackedLinear) else None
    inner = x.to(dtype)
    run = (lambda: operator(inner, weight, bias, "none", [], "")) if operator else (lambda: F.linear(inner, weight, bias))
    fastest = min(take_turns({"product": run}, 40)["product"].seconds)
    return 2 * 1024 * 768 * 3072 / fastest


# ---- the rows

def start(s: Setting) -> None:
    """From process start to the two labels of the lab, and `import torch` as the floor."""
    ours = f"import minibert; print(minibert.pipeline(model={str(s.folder)!r}, device='cpu')({SENTENCES!r}))"
    theirs = f"import transformers; print(transformers.pipeline('sentiment-analysis', model={str(s.folder)!r})({SENTENCES!r}))"
    programs = {"import torch alone": "import torch", OURS: ours, "transformers' pipeline": theirs}
    in_processes(s, "start", programs, "process start to the lab's two labels")


def loading(s: Setting) -> None:
    """from_pretrained in a fresh process, after the import that a user writes: what it imports itself counts."""
    code = ("import time, torch; from {0} import AutoModelForSequenceClassification as M; t = time.perf_counter(); "
            "m = M.from_pretrained({1!r}); print('seconds', time.perf_counter() - t); t = time.perf_counter(); "
            "m = M.from_pretrained({1!r}); print('again', time.perf_counter() - t)")  # fmt: skip
    programs = {OURS: code.format("minibert", str(s.folder)), LOADED: code.format("transformers", str(s.folder))}
    in_processes(s, "loading", programs, "from_pretrained, after `from ... import AutoModelForSequenceClassification`")


def in_processes(s: Setting, row: str, programs: dict[str, str], title: str) -> None:
    missing = {}
    if peers.versions()["transformers"] == "absent":
        missing = {name: Figure(absent="transformers is not installed") for name in programs if name.startswith("transformers")}
    commands = {name: ["-c", code] for name, code in programs.items() if name not in missing}
    s.found[row] = whole_processes(commands, 1 if s.quick else s.repeats + 2, warm_up=int(not s.quick)) | missing
    table(row, title, s.found[row])


@torch.inference_mode()
def sentences(s: Setting) -> None:
    """All the sentences, each program in the way that suits it best."""
    f, t, f32, bf16 = s.folder, s.threads, torch.float32, torch.bfloat16
    budget = list(batches([len(row) for row in s.ids]))
    models, missing = make({
        "minibert, plain": lambda: peers.plain(f),
        **{f"transformers model, {how}, {str(dtype)[6:]}": lambda how=how, dtype=dtype: peers.transformers_model(f, how, dtype)
           for dtype in (f32, bf16) for how in ("sdpa", "eager")},
        "ONNX Runtime": lambda: peers.onnx(f, t),
        "OpenVINO": lambda: peers.openvino(f, t),
        "OpenVINO, bfloat16": lambda: peers.openvino(f, t, "bf16"),
        OURS: lambda: peers.quick(f),
        HALF: lambda: peers.quick(f, bf16),
    })  # fmt: skip
    pipelines, more = make({
        OURS: lambda: pipeline(model=f, device="cpu"),
        HALF: lambda: pipeline(model=f, device="cpu", dtype=bf16) if why_not(bf16) is None else unavailable(why_not(bf16)),
        "transformers": lambda: peers.transformers_pipeline(f),
    })  # fmt: skip
    runs: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        if name in (OURS, HALF):
            runs[name] = lambda made=pipelines[name]: made(s.texts)
        elif name.startswith(("ONNX", "OpenVINO")):
            for size in (1, 8, 32):
                runs[f"{name}, sorted, batch {size}"] = lambda m=model, size=size: run_sorted(m, s.ids, of_size(s.ids, size))
        else:
            runs[f"{name}, sorted"] = lambda m=model: run_sorted(m, s.ids, budget)
    if "transformers" in pipelines:
        runs["transformers' pipeline, batch 1"] = lambda: pipelines["transformers"](s.texts, batch_size=1)
        runs[TRANSFORMERS] = lambda: pipelines["transformers"](s.texts, batch_size=32)
    say("warming up")
    for made in pipelines.values():
        made(s.texts[:24])
    logits = {name: run_sorted(model, s.ids, budget) for name, model in models.items()}  # a warm-up too
    slow = [name for name in runs if name.endswith("batch 1") or "eager" in name or name == "ONNX Runtime, sorted, batch 32"]
    group = take_turns(with_progress(runs), s.repeats, once=slow)
    peak = {dtype: peak_of_products(dtype) for dtype in (f32, bf16)}
    plain, tokens = logits["minibert, plain"], sum(map(len, s.ids))
    for name, figure in group.items():
        figure.notes["a second"] = len(s.texts) / figure.median
        dtype = bf16 if "bfloat16" in name else f32
        figure.notes["of the peak"] = 2 * MULTIPLICATIONS * tokens / figure.median / peak[dtype]
        model = next((model for model in logits if name == model or name.startswith(f"{model}, sorted")), None)
        if model is not None:
            figure.notes["same labels"] = (logits[model].argmax(1) == plain.argmax(1)).double().mean().item()
            figure.notes["logits differ by"] = (logits[model] - plain).abs().max().item()
    group |= missing | ({TRANSFORMERS: more["transformers"]} if "transformers" in more else {})
    group["the peak of products"] = Figure(notes={f"{str(kind)[6:]} GFLOP/s": value / 1e9 for kind, value in peak.items()})
    s.found["sentences"] = group
    table("sentences", f"{len(s.texts)} sentences; in the pipelines and in minibert, tokenizing counts", group)


def unavailable(reason: str | None) -> Any:
    raise RuntimeError(reason)


@torch.inference_mode()
def single(s: Setting) -> None:
    """One sentence at a time, text to label, each sentence's time by itself."""
    tokenizer, texts = AutoTokenizer.from_pretrained(s.folder), s.texts[: 20 if s.quick else 200]

    def alone(model: peers.Model) -> Callable[[str], Any]:
        return lambda text: model(*padded([tokenizer(text)["input_ids"]])).softmax(-1).tolist()

    programs, missing = make({
        OURS: lambda: pipeline(model=s.folder, device="cpu"),
        HALF: lambda: pipeline(model=s.folder, device="cpu", dtype=torch.bfloat16),
        "transformers' pipeline": lambda: peers.transformers_pipeline(s.folder),
        "ONNX Runtime": lambda: alone(peers.onnx(s.folder, s.threads)),
        "OpenVINO": lambda: alone(peers.openvino(s.folder, s.threads)),
    })  # fmt: skip
    for run in programs.values():
        for text in s.texts[:12]:
            run(text)
    group: Group = {name: Figure() for name in programs}
    for begin in range(0, len(texts), 20):  # by turns, twenty sentences each
        for name, run in programs.items():
            time.sleep(PAUSE)
            for text in texts[begin : begin + 20]:
                began = time.perf_counter()
                run(text)
                group[name].seconds.append(time.perf_counter() - began)
    for figure in group.values():
        figure.notes["ms, 99th percentile"] = 1000 * sorted(figure.seconds)[round(0.99 * (len(figure.seconds) - 1))]
    s.found["single"] = group | missing
    table("single", f"one sentence at a time, {len(texts)} sentences", s.found["single"])


@torch.inference_mode()
def documents(s: Setting) -> None:
    """Texts of 512 tokens, four at a time."""
    vocabulary = torch.Generator().manual_seed(SEED)
    ids = torch.randint(1000, 29000, (2 if s.quick else 4, 512), generator=vocabulary)
    mask = torch.ones_like(ids)
    models, missing = make({
        OURS: lambda: peers.quick(s.folder),
        HALF: lambda: peers.quick(s.folder, torch.bfloat16),
        "minibert, plain": lambda: peers.plain(s.folder),
        "transformers model, sdpa": lambda: peers.transformers_model(s.folder, "sdpa", torch.float32),
        "transformers model, eager": lambda: peers.transformers_model(s.folder, "eager", torch.float32),
        "ONNX Runtime": lambda: peers.onnx(s.folder, s.threads),
        "OpenVINO": lambda: peers.openvino(s.folder, s.threads),
    })  # fmt: skip
    runs = {name: lambda model=model: model(ids, mask) for name, model in models.items()}
    take_turns(runs, 1)
    s.found["documents"] = take_turns(with_progress(runs), s.repeats + 2) | missing
    table("documents", f"{len(ids)} documents of 512 tokens together", s.found["documents"])


@torch.inference_mode()
def growth(s: Setting) -> None:
    """Time and memory against the number of texts, each a process with a file, and against their length."""
    short = [" ".join(text.split()[:4]) for text in s.texts]
    group: Group = {}
    source, target = s.folder / "texts.txt", s.folder / "labels.jsonl"
    for count in (1, 10, 100, 1_000) if s.quick else (1, 10, 100, 1_000, 10_000, 100_000):
        source.write_text("".join(f"{short[number % len(short)]}\n" for number in range(count)))
        command = ["-m", "minibert", "classify", "--file", source, "--output", target, "--model", s.folder, "--device", "cpu"]
        name = f"{count:,} texts of four words"
        group |= whole_processes({name: list(map(str, command))}, 1, warm_up=0)
        with target.open() as written:
            if (labels := sum(1 for _ in written)) != count:
                raise RuntimeError(f"{count} texts gave {labels} labels.")
    models, _ = make({"fast": lambda: peers.quick(s.folder), "plain": lambda: peers.plain(s.folder)})
    for tokens in (8, 16, 32, 64, 128, 256, 512):
        ids = torch.randint(1000, 29000, (1, tokens), generator=torch.Generator().manual_seed(SEED))
        mask = torch.ones_like(ids)
        runs = {f"{tokens} tokens, {way}": lambda m=m, ids=ids, mask=mask: m(ids, mask) for way, m in models.items()}
        take_turns(runs, 2)
        group |= take_turns(runs, 7)
    s.found["growth"] = group
    table("growth", "whole processes with a file; then a forward pass of one text", group)


@torch.inference_mode()
def threads(s: Setting) -> None:
    """The sentences with one thread and with two."""
    models, missing = make({OURS: lambda: peers.quick(s.folder), HALF: lambda: peers.quick(s.folder, torch.bfloat16)})
    budget, group = list(batches([len(row) for row in s.ids])), dict(missing)
    for count in (1, 2):
        torch.set_num_threads(count)
        runs = {f"{name}, {count} threads": lambda m=m: run_sorted(m, s.ids, budget) for name, m in models.items()}
        group |= take_turns(with_progress(runs), 1 if s.quick else 2)
    torch.set_num_threads(s.threads)
    s.found["threads"] = group
    table("threads", f"{len(s.texts)} sentences, by threads", group)


@torch.inference_mode()
def gpu(s: Setting) -> None:
    """The sentences on a GPU, where there is one."""
    if not torch.cuda.is_available():
        s.found["gpu"] = {"GPU": Figure(absent="PyTorch sees none here")}
        table("gpu", "on a GPU", s.found["gpu"])
        return
    kinds, budget = (torch.float32, torch.bfloat16, torch.float16), list(batches([len(row) for row in s.ids], 16384))
    models, missing = make({
        **{f"minibert, {str(kind)[6:]}": lambda kind=kind: peers.quick(s.folder, kind, "cuda") for kind in kinds},
        "transformers model, sdpa, bfloat16": lambda: peers.transformers_model(s.folder, "sdpa", torch.bfloat16, "cuda"),
    })  # fmt: skip
    runs = {name: lambda model=model: run_sorted(model, s.ids, budget, "cuda") for name, model in models.items()}
    take_turns(runs, 1)
    s.found["gpu"] = take_turns(runs, s.repeats + 2) | missing
    table("gpu", f"{len(s.texts)} sentences on {torch.cuda.get_device_name()}", s.found["gpu"])


ROWS: dict[str, Callable[[Setting], None]] = {
    "start": start, "loading": loading, "sentences": sentences, "single": single, "documents": documents,
    "growth": growth, "threads": threads, "gpu": gpu,
}  # fmt: skip


# ---- targets

def best(group: Group, beginning: str) -> float:
    """The least median of those whose name begins so; NaN where there is none."""
    kept = [f.median for name, f in group.items() if name.startswith(beginning) and f.seconds]
    return min(kept, default=float("nan"))


def targets(found: dict[str, Group]) -> list[tuple[str, str, float]]:
    """(what, wanted, found): wanted begins with "<=" or ">="; found is NaN where it was not measured."""
    none = Figure()

    def figure(row: str, name: str) -> Figure:
        return found.get(row, {}).get(name, none)

    def memory(row: str, name: str) -> float:
        return statistics.median(figure(row, name).peak) if figure(row, name).peak else float("nan")

    rows, nan = found.get("sentences", {}), float("nan")
    ours, half = figure("sentences", OURS), figure("sentences", HALF)
    theirs = figure("sentences", TRANSFORMERS).median
    cold, single_ours = figure("start", OURS).median, figure("single", OURS).median
    few, many = (memory("growth", f"{count:,} texts of four words") for count in (1_000, 100_000))
    return [
        ("cold start / transformers' pipeline", "<= 0.35", cold / figure("start", "transformers' pipeline").median),
        ("cold start / import torch", "<= 1.3", cold / figure("start", "import torch alone").median),
        ("loading / from_pretrained", "<= 0.05", figure("loading", OURS).median / figure("loading", LOADED).median),
        ("loading, peak memory / from_pretrained's", "<= 1", memory("loading", OURS) / memory("loading", LOADED)),
        ("sentences, float32 / transformers' pipeline, batch 32", "<= 0.30", ours.median / theirs),
        ("sentences, float32 / ONNX Runtime's best", "<= 0.65", ours.median / best(rows, "ONNX Runtime, sorted")),
        ("sentences, float32 / OpenVINO's best", "<= 1.05", ours.median / best(rows, "OpenVINO, sorted")),
        ("sentences, float32: logits differ by", "<= 1e-5", ours.notes.get("logits differ by", nan)),
        ("sentences, bfloat16 / transformers' pipeline, batch 32", "<= 0.16", half.median / theirs),
        ("sentences, bfloat16 / OpenVINO's best in bfloat16", "<= 1.10", half.median / best(rows, "OpenVINO, bfloat16, sorted")),
        ("sentences, bfloat16: same labels", ">= 0.998", half.notes.get("same labels", nan)),
        ("one at a time / transformers' pipeline", "<= 0.45", single_ours / figure("single", "transformers' pipeline").median),
        ("512 tokens / transformers model, sdpa", "<= 0.75",
         figure("documents", OURS).median / figure("documents", "transformers model, sdpa").median),
        ("peak memory, 100,000 / 1,000 texts", "<= 1.05", many / few),
    ]  # fmt: skip


def verdict(wanted: str, found: float) -> str:
    """met, missed, or not measured, where found is NaN."""
    sign, limit = wanted.split()
    if found != found:
        return "not measured"
    return "met" if (found <= float(limit) if sign == "<=" else found >= float(limit)) else "MISSED"


# ---- what is said

def say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def with_progress(runs: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    return {name: lambda name=name, run=run: (say(name), run())[1] for name, run in runs.items()}


def lines(group: Group) -> Iterator[str]:
    """A line a program: median seconds, spread, turns, peak memory, and what else was noted."""
    width = max(map(len, group))
    for name, figure in group.items():
        parts = [f"{name:<{width}}"]
        if figure.absent:
            parts.append(f"absent: {figure.absent}")
        if figure.seconds:
            scale, unit = (1, "s ") if figure.median >= 1 else (1000, "ms")
            spread = f"({scale * min(figure.seconds):.2f} to {scale * max(figure.seconds):.2f}, n = {len(figure.seconds)})"
            parts.append(f"{scale * figure.median:8.2f} {unit} {spread:<26}")
        if figure.peak:
            parts.append(f"{statistics.median(figure.peak) / 2**20:6.0f} MiB")
        parts += [f"{note} {value:.4g}" for note, value in figure.notes.items()]
        yield "  ".join(parts).rstrip()


def table(row: str, title: str, group: Group) -> None:
    say("")
    print(f"\n{row}: {title}", *lines(group), sep="\n  ", flush=True)


def picture(path: Path, found: dict[str, Group]) -> None:
    """Sentences a second of each program, and how time grows. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(18, 7), layout="constrained")
    bars = {name: f.notes["a second"] for name, f in found.get("sentences", {}).items() if "a second" in f.notes}
    bars = dict(sorted(bars.items(), key=lambda pair: pair[1]))
    colours = ["tab:orange" if name.startswith("minibert") else "tab:blue" for name in bars]
    left.barh(list(bars), list(bars.values()), color=colours)
    left.set(title="SST-2's sentences", xlabel="sentences a second")
    grown = found.get("growth", {})
    counts = {int(name.split()[0].replace(",", "")): f for name, f in grown.items() if "texts" in name}
    middle.loglog(list(counts), [f.median for f in counts.values()], "o-", label="seconds")
    middle.loglog(list(counts), [f.peak[0] / 2**20 for f in counts.values()], "s--", label="peak memory, MiB")
    middle.set(title="a file, process start to end", xlabel="texts of four words")
    for way in ("fast", "plain"):
        lengths = {int(name.split()[0]): 1000 * f.median for name, f in grown.items() if name.endswith(f"tokens, {way}")}
        right.loglog(list(lengths), list(lengths.values()), "o-", label=f"minibert, {way}")
    right.set(title="one text, a forward pass", xlabel="tokens", ylabel="milliseconds")
    for axes in (middle, right):
        if axes.lines:
            axes.legend()
    figure.savefig(path, dpi=110)


# ---- setting up

def generated(count: int = 872) -> list[str]:
    """Sentences of common words, with the lengths of SST-2's dev set, in an order and of words drawn from SEED."""
    vocabulary = AutoTokenizer.from_pretrained("mini-sst2").vocab
    words = [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word.isalpha() and word.isascii()][:5000]
    draw = random.Random(SEED)
    lengths = []
    for number in range(count):
        step, share = divmod((number + 0.5) / count * (len(LENGTHS) - 1), 1)
        low, high = LENGTHS[int(step)], LENGTHS[int(step) + 1]
        lengths.append(round(low + share * (high - low)))
    draw.shuffle(lengths)
    return [" ".join(draw.choices(words, k=length - 2)) for length in lengths]  # each word is one token; [CLS] and [SEP] are two


def random_weights(folder: Path) -> None:
    """A checkpoint of the full shape: normal weights of deviation 0.02, biases 0, LayerNorm at 1 and 0, drawn from SEED."""
    torch.manual_seed(SEED)
    model = DistilBertForSequenceClassification(DistilBertConfig(id2label={0: "NEGATIVE", 1: "POSITIVE"})).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.02)
        elif "orm" not in name:
            nn.init.zeros_(parameter)
    save_pretrained(model, folder, AutoTokenizer.from_pretrained("mini-sst2"))


def set_up(args: argparse.Namespace, folder: Path) -> Setting:
    texts = read_glue(args.data)[0] if args.data else generated()
    source = "generated, with SST-2's lengths" if args.data is None else args.data.name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = locate(args.model or DEFAULT)
        for file in checkpoint.folder.iterdir():  # links, since the peers put files of theirs beside these
            if file.is_file():
                (folder / file.name).symlink_to(file.resolve())
        weights = checkpoint.name
    except HubUnreachable:
        random_weights(folder)
        weights = f"random, seed {SEED} (the Hub's checkpoint is not at hand)"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = texts[:64] if args.quick else texts
    ids = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
    model = peers.AutoModelForSequenceClassification.from_pretrained(folder)
    count = sum(parameter.numel() for parameter in model.parameters())
    if args.model is None and count != PARAMETERS:
        raise ValueError(f"the model has {count:,} parameters; wanted {PARAMETERS:,}.")
    print(f"date       {datetime.date.today()}")
    print(f"processor  {processor()}, {args.threads} threads")
    print("versions   " + ", ".join(f"{name} {version}" for name, version in peers.versions().items()))
    print(f"weights    {weights}, {count:,} parameters")
    print(f"texts      {len(texts)}, {sum(map(len, ids)):,} tokens, longest {max(map(len, ids))}; {source}")
    for dtype in (torch.float32, torch.bfloat16):
        print(f"fast path  {str(dtype)[6:]}: {why_not(dtype) or 'packed oneDNN products'}", flush=True)
    return Setting(folder, texts, ids, args.threads, 1 if args.quick else args.repeats, args.quick)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of minibert beside its peers, in one run.")
    parser.add_argument("--data", type=Path, help="GLUE file, such as SST-2's dev.tsv; by default sentences are made up")
    parser.add_argument("--model", metavar="WHERE", help="checkpoint; by default the Hub's, or its shape with random weights")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each program; by default 3")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="by default 2")
    parser.add_argument("--quick", action="store_true", help="64 texts, one turn each: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them (needs matplotlib)")
    args = parser.parse_args()
    try:
        if args.repeats < 1 or args.threads < 1:
            raise ValueError(f"--repeats is {args.repeats} and --threads {args.threads}; wanted positive numbers.")
        for path in filter(None, (args.json, args.picture)):
            if path.is_dir() or not path.absolute().parent.is_dir():
                raise FileNotFoundError(f"{path} cannot be written; wanted a file in a folder that is there.")
        if args.picture:
            import matplotlib  # noqa: F401  if it is absent, that is better known now than in a quarter of an hour
        torch.set_num_threads(args.threads)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            setting = set_up(args, Path(folder))
            warnings.simplefilter("ignore")  # of the exporters, page after page
            for row in args.rows:
                ROWS[row](setting)
        print(f"\n{'target':<56}{'wanted':>10}{'found':>12}")
        for what, wanted, value in targets(setting.found):
            print(f"{what:<56}{wanted:>10}{'' if value != value else f'{value:.3g}':>12}  {verdict(wanted, value)}")
        if args.json:
            figures = {row: {name: dataclasses.asdict(f) for name, f in group.items()} for row, group in setting.found.items()}
            args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        if args.picture:
            picture(args.picture, setting.found)
    except ImportError as error:
        sys.exit(f'benchmark: {error.name} is not installed; run `pip install -e ".[bench]"`.')
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"benchmark: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
