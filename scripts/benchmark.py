"""Speed and memory of minibert beside transformers, ONNX Runtime and OpenVINO, in one run on one machine.

    python scripts/benchmark.py --data ../shared/data/SST-2/dev.tsv      all rows; some twenty minutes on two cores
    python scripts/benchmark.py --rows start loading --repeats 5         some rows, sentences made up
    python scripts/benchmark.py --json found.json --picture found.png

Every program loads the same checkpoint: the Hub's where it is cached or reachable, else one of the same shape, 66,955,010
parameters, with random weights. Programs are warmed up and take turns; figures are medians, with the spread from the fastest
to the slowest turn. Only ratios within one run mean anything: a busy neighbour slows all of them. Libraries that are not
installed (`pip install -e ".[bench]"` has them all) and paths that this processor lacks are named as absent.

peers.py makes the programs; timing.py takes the time and says what was found, beside what was wanted.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from minibert import AutoTokenizer
from minibert.checkpoint import DEFAULT, HubUnreachable, locate
from minibert.command.exit_status import Parser, run_and_exit
from minibert.fast import PackedLinear, unsupported_reason
from minibert.text_classification import BATCH_TOKENS, HALF_BATCH_TOKENS, batches

import peers
import timing
import torch
from evaluate import read_glue
from timing import HALF, LOADED, OURS, TRANSFORMERS, Figure, Group, make, say, table, take_turns, whole_processes, with_progress
from torch import Tensor, nn

PARAMETERS = 66_955_010
SEED = 20261125
SENTENCES = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]
LENGTHS = (4, 10, 12, 14, 16, 17, 19, 20, 21, 23, 25, 26, 27, 29, 30, 32, 34, 37, 40, 44, 55)  # SST-2 dev: tokens at 0, 5 ... 100 %
ONE_BY_ONE = "transformers' pipeline, batch 1"


@dataclasses.dataclass
class Setting:
    folder: Path
    texts: list[str]
    ids: list[list[int]]
    threads: int
    repeats: int
    quick: bool
    multiplications: int  # a token's, in the Linear layers of the blocks: six times 4 * 768 * 768 + 2 * 768 * 3072
    head: dict[str, str]  # what the run was made of: date, processor, versions, weights, texts
    found: dict[str, Group] = dataclasses.field(default_factory=dict)


# ---- what every row needs

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


def by_tokens(ids: list[list[int]], name: str) -> list[list[int]]:
    """The batches that minibert makes of them, in the dtype that a program's name tells."""
    return list(batches([len(row) for row in ids], HALF_BATCH_TOKENS if "bfloat16" in name else BATCH_TOKENS))


def peak_of_products(dtype: torch.dtype) -> float:
    """The most operations a second that a product reaches here, by the best way there is: 1024 rows, 768 to 3072 numbers."""
    layer, x = nn.Linear(768, 3072), torch.randn(1024, 768).to(dtype)
    if unsupported_reason(dtype) is None:
        weight, bias = PackedLinear(layer, dtype).pack()

        def run() -> Tensor:
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    else:
        layer = layer.to(dtype)

        def run() -> Tensor:
            return layer(x)
    fastest = min(take_turns({"product": run}, 100, pause=0)["product"].seconds)
    return 2 * 1024 * 768 * 3072 / fastest


# ---- the rows

def start(s: Setting) -> None:
    """From process start to the two labels of the lab, and `import torch` as the floor."""
    ours = f"import minibert; print(minibert.pipeline(model={str(s.folder)!r}, device='cpu')({SENTENCES!r}))"
    theirs = f"import transformers; print(transformers.pipeline('sentiment-analysis', model={str(s.folder)!r})({SENTENCES!r}))"
    programs = {"import torch alone": "import torch", OURS: ours, "transformers' pipeline": theirs}
    in_processes(s, "start", programs, "process start to the lab's two labels")


def loading(s: Setting) -> None:
    """from_pretrained in a fresh process: after the import that a user writes, and after all that it would import itself.

    transformers imports most of itself at the first from_pretrained: the first pair has that within the time, the second not.
    """
    code = ("import time, torch{2}; from {0} import AutoModelForSequenceClassification as M; t = time.perf_counter(); "
            "m = M.from_pretrained({1!r}); print('seconds', time.perf_counter() - t); t = time.perf_counter(); "
            "m = M.from_pretrained({1!r}); print('again', time.perf_counter() - t)")  # fmt: skip
    folder, theirs = str(s.folder), "transformers.models.distilbert.modeling_distilbert"
    programs = {
        OURS: code.format("minibert", folder, ""),
        LOADED: code.format("transformers", folder, ""),
        f"{OURS}, all imported before": code.format("minibert", folder, ", safetensors.torch"),
        f"{LOADED}, all imported before": code.format("transformers", folder, f", {theirs}"),
    }
    in_processes(s, "loading", programs, "from_pretrained, after `from ... import AutoModelForSequenceClassification`")


def in_processes(s: Setting, row: str, programs: dict[str, str], title: str) -> None:
    missing = {}
    if peers.versions()["transformers"] == "absent":
        missing = {name: Figure(absent="transformers is not installed") for name in programs if name.startswith("transformers")}
    commands = {name: ["-c", code] for name, code in programs.items() if name not in missing}
    s.found[row] = whole_processes(commands, s.repeats, warm_up=int(not s.quick), threads=s.threads) | missing
    table(row, title, s.found[row])


@torch.inference_mode()
def sentences(s: Setting) -> None:
    """All the sentences, each program in the way that suits it best."""
    f, t, f32, bf16 = s.folder, s.threads, torch.float32, torch.bfloat16
    models, missing = make({
        "minibert, plain": lambda: peers.plain(f),
        **{f"transformers model, {how}, {str(dtype)[6:]}": lambda how=how, dtype=dtype: peers.transformers_model(f, how, dtype)
           for dtype in (f32, bf16) for how in ("sdpa", "eager")},
        "ONNX Runtime": lambda: peers.onnx(f, t),
        "OpenVINO": lambda: peers.openvino(f, t),
        "OpenVINO, bfloat16": lambda: peers.openvino(f, t, "bf16"),
    })  # fmt: skip
    pipelines, more = make({
        OURS: lambda: peers.minibert_pipeline(f),
        HALF: lambda: peers.minibert_pipeline(f, bf16),
        TRANSFORMERS: lambda: peers.transformers_pipeline(f),
    })  # fmt: skip
    runs: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        if name.startswith(("ONNX", "OpenVINO")):
            for size in (1, 8, 32, 128) if "bfloat16" in name else (1, 8, 32):
                runs[f"{name}, sorted, batch {size}"] = lambda m=model, size=size: run_sorted(m, s.ids, of_size(s.ids, size))
        else:
            runs[f"{name}, sorted"] = lambda m=model, name=name: run_sorted(m, s.ids, by_tokens(s.ids, name))
    for name in (name for name in (OURS, HALF) if name in pipelines):
        runs[name] = lambda made=pipelines[name]: made(s.texts)
    if TRANSFORMERS in pipelines:
        runs[ONE_BY_ONE] = lambda: pipelines[TRANSFORMERS](s.texts, batch_size=1)
        runs[TRANSFORMERS] = lambda: pipelines[TRANSFORMERS](s.texts, batch_size=32)
    else:
        more[ONE_BY_ONE] = more[TRANSFORMERS]
    say("warming up")
    for made in pipelines.values():
        made(s.texts[:24])
    models |= {name: peers.inside(pipelines[name]) for name in (OURS, HALF) if name in pipelines}
    logits = {name: run_sorted(model, s.ids, by_tokens(s.ids, name)) for name, model in models.items()}  # a warm-up too
    group = take_turns(with_progress(runs), s.repeats)
    peak = {dtype: peak_of_products(dtype) for dtype in (f32, bf16)}
    plain, tokens = logits["minibert, plain"], sum(map(len, s.ids))
    for name, figure in group.items():
        figure.notes["a second"] = len(s.texts) / figure.median
        dtype = bf16 if "bfloat16" in name else f32
        figure.notes["of the peak"] = 2 * s.multiplications * tokens / figure.median / peak[dtype]
        model = next((model for model in logits if name == model or name.startswith(f"{model}, sorted")), None)
        if model is not None:
            figure.notes["same labels"] = (logits[model].argmax(1) == plain.argmax(1)).double().mean().item()
            figure.notes["logits differ by"] = (logits[model] - plain).abs().max().item()
    group |= missing | more
    group["the peak of products"] = Figure(notes={f"{str(kind)[6:]} GFLOP/s": value / 1e9 for kind, value in peak.items()})
    s.found["sentences"] = group
    table("sentences", f"{len(s.texts)} sentences; tokenizing counts in the pipelines and in minibert's two, elsewhere the ids are "
          "ready\n  (of the peak: counts all products of six blocks, of which minibert, made fast, leaves a seventh out)", group)


@torch.inference_mode()
def single(s: Setting) -> None:
    """One sentence at a time, text to label, each sentence's time by itself."""
    tokenizer, texts = AutoTokenizer.from_pretrained(s.folder), s.texts[: 20 if s.quick else 200]

    def alone(model: peers.Model) -> Callable[[str], Any]:
        return lambda text: model(*padded([tokenizer(text)["input_ids"]])).softmax(-1).tolist()

    programs, missing = make({
        OURS: lambda: peers.minibert_pipeline(s.folder),
        HALF: lambda: peers.minibert_pipeline(s.folder, torch.bfloat16),
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
            time.sleep(timing.PAUSE)
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
    s.found["documents"] = take_turns(with_progress(runs), s.repeats) | missing
    table("documents", f"{len(ids)} documents of 512 tokens together", s.found["documents"])


@torch.inference_mode()
def growth(s: Setting) -> None:
    """Time and memory against the number of texts, each a process with a file, and against their length."""
    short = [" ".join(text.split()[:4]) for text in s.texts]
    group: Group = {}
    source, target = s.folder / "texts.txt", s.folder / "labels.jsonl"
    for count in (1, 10, 100, 1_000, 10_000, 100_000):
        name = f"{count:,} texts of four words"
        if s.quick and count > 1_000:
            group[name] = Figure(absent="--quick leaves it out")
            continue
        source.write_text("".join(f"{short[number % len(short)]}\n" for number in range(count)))
        command = ["-m", "minibert", "classify", "--file", source, "--output", target, "--model", s.folder, "--device", "cpu"]
        group |= whole_processes({name: list(map(str, command))}, 1, warm_up=0, threads=s.threads)
        with target.open() as written:
            if (labels := sum(1 for _ in written)) != count:
                raise RuntimeError(f"{count} texts gave {labels} labels.")
    models, missing = make({"fast": lambda: peers.quick(s.folder), "plain": lambda: peers.plain(s.folder)})
    for tokens in (8, 16, 32, 64, 128, 256, 512):
        ids = torch.randint(1000, 29000, (1, tokens), generator=torch.Generator().manual_seed(SEED))
        mask = torch.ones_like(ids)
        runs = {f"{tokens} tokens, {way}": lambda m=m, ids=ids, mask=mask: m(ids, mask) for way, m in models.items()}
        take_turns(runs, 2)
        group |= take_turns(runs, 7)
    s.found["growth"] = group | {f"a forward pass, {way}": figure for way, figure in missing.items()}
    table("growth", "whole processes with a file of short texts, repeated; then a forward pass of one text", s.found["growth"])


@torch.inference_mode()
def threads(s: Setting) -> None:
    """The sentences with one thread and with two."""
    models, missing = make({OURS: lambda: peers.quick(s.folder), HALF: lambda: peers.quick(s.folder, torch.bfloat16)})
    group = dict(missing)
    for count in (1, 2):
        torch.set_num_threads(count)
        words = "1 thread" if count == 1 else f"{count} threads"
        runs = {
            f"{name}, {words}": lambda model=model, name=name: run_sorted(model, s.ids, by_tokens(s.ids, name))
            for name, model in models.items()
        }
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
    s.found["gpu"] = take_turns(runs, s.repeats) | missing
    table("gpu", f"{len(s.texts)} sentences on {torch.cuda.get_device_name()}", s.found["gpu"])


ROWS: dict[str, Callable[[Setting], None]] = {
    "start": start, "loading": loading, "sentences": sentences, "single": single, "documents": documents,
    "growth": growth, "threads": threads, "gpu": gpu,
}  # fmt: skip


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


def set_up(args: argparse.Namespace, folder: Path) -> Setting:
    texts = read_glue(args.data)[0] if args.data else generated()
    source = "generated, with SST-2's lengths" if args.data is None else args.data.name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = locate(args.model or DEFAULT)
        for file in checkpoint.folder.iterdir():  # copies, since the peers put files of theirs beside these
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
        weights = checkpoint.name
    except HubUnreachable:
        peers.random_weights(folder, SEED)
        weights = f"random, seed {SEED} (the Hub's checkpoint is not at hand)"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = texts[:64] if args.quick else texts
    ids = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
    model = peers.AutoModelForSequenceClassification.from_pretrained(folder)
    count = sum(parameter.numel() for parameter in model.parameters())
    if args.model is None and count != PARAMETERS:
        raise ValueError(f"the model has {count:,} parameters; expected {PARAMETERS:,}.")
    head = {
        "date": str(datetime.date.today()),
        "processor": f"{processor()}, {args.threads} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in peers.versions().items()),
        "weights": f"{weights}, {count:,} parameters",
        "texts": f"{len(texts)}, {sum(map(len, ids)):,} tokens, longest {max(map(len, ids))}; {source}",
        "turns": "one" if args.quick else f"{args.repeats}, of heavy programs {min(args.repeats, timing.HEAVY_TURNS)}",
    }
    ways = {dtype: unsupported_reason(dtype) or "packed oneDNN products" for dtype in (torch.float32, torch.bfloat16)}
    head["fast path"] = "; ".join(f"{str(dtype)[6:]}: {way}" for dtype, way in ways.items())
    print("\n".join(f"{name:<11}{value}" for name, value in head.items()), flush=True)
    linears = [m for m in model.distilbert.transformer.modules() if isinstance(m, nn.Linear)]
    multiplications, repeats = sum(linear.weight.numel() for linear in linears), 1 if args.quick else args.repeats
    return Setting(folder, texts, ids, args.threads, repeats, args.quick, multiplications, head)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def run() -> int:
    parser = Parser(description="Speed and memory of minibert beside its peers, in one run.")
    parser.add_argument("--data", type=Path, help="GLUE file, such as SST-2's dev.tsv; by default sentences are made up")
    parser.add_argument("--model", metavar="WHERE", help="checkpoint; by default the Hub's, or its shape with random weights")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each program, by default 5; heavy ones have 3 at most")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="by default 2")
    parser.add_argument("--quick", action="store_true", help="64 texts, one turn each: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them (needs matplotlib)")
    args = parser.parse_args()
    try:
        if args.repeats < 1 or args.threads < 1:
            raise ValueError(f"--repeats is {args.repeats} and --threads {args.threads}; expected positive numbers.")
        for path in filter(None, (args.json, args.picture)):
            if path.is_dir() or not path.absolute().parent.is_dir():
                raise FileNotFoundError(f"{path} cannot be written; expected a file in a folder that is there.")
        if args.picture:
            import matplotlib  # noqa: F401  if it is absent, that is better known now than in a quarter of an hour
        torch.set_num_threads(args.threads)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            setting = set_up(args, Path(folder))
            warnings.simplefilter("ignore")  # of the exporters, page after page
            for row in args.rows:
                ROWS[row](setting)
        timing.target_table(setting.found)
        if args.json:
            whole = {"head": setting.head, **timing.figures(setting.found)}
            args.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        if args.picture:
            timing.picture(args.picture, setting.found)
    except ImportError as error:
        raise ValueError(f'{error.name} is not installed; run `pip install -e ".[bench]"`.') from error
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return 0


def main() -> None:
    run_and_exit("benchmark", run, failed=2)


if __name__ == "__main__":
    main()
