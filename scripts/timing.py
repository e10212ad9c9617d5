"""How benchmark.py takes time, and how it says what it found: turns, processes, tables, targets, one picture.

A figure is what one program needed, a group is the figures of one row: program -> figure. Seconds are those of
time.perf_counter, memory is in bytes.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAUSE = 0.1  # seconds
HEAVY_SECONDS, HEAVY_TURNS = 10.0, 3  # a program whose first turn takes longer gets so many turns, where others get more
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


# ---- measuring

def take_turns(programs: dict[str, Callable[[], Any]], repeats: int, pause: float | None = None) -> Group:
    """Calls every program in turn, `repeats` times over, heavy ones HEAVY_TURNS times at most. Seconds of each call.

    pause  seconds before each call, PAUSE by default: it lets the threads of the one before fall asleep, for most libraries
           let them turn idly for a while
    """
    group: Group = {name: Figure() for name in programs}
    for turn in range(repeats):
        for name, run in programs.items():
            if turn >= HEAVY_TURNS and group[name].seconds[0] > HEAVY_SECONDS:
                continue
            time.sleep(PAUSE if pause is None else pause)
            start = time.perf_counter()
            run()
            group[name].seconds.append(time.perf_counter() - start)
    return group


def whole_processes(commands: dict[str, list[str]], repeats: int, *, threads: int, warm_up: int = 1) -> Group:
    """Runs every command in turn, first `warm_up` times without counting: wall time and peak memory of the process.

    A command that prints "seconds X" is taken at its word for the time, "again X" is noted. `threads` is what
    PyTorch has in each. Raises RuntimeError where one fails.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    group: Group = {name: Figure() for name in commands}
    for turn in range(-warm_up, repeats):
        for name, command in commands.items():
            say(f"{name} {turn + 1}/{repeats}")
            whole = [sys.executable, "-I", "-c", LAUNCHER, sys.executable, *command]
            done = subprocess.run(whole, capture_output=True, text=True, env=environment, check=False)
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


# ---- targets

def best(group: Group, beginning: str) -> float:
    """The least median of those whose name begins so; NaN where there is none."""
    kept = [f.median for name, f in group.items() if name.startswith(beginning) and f.seconds]
    return min(kept, default=float("nan"))


def why_missing(found: dict[str, Group], row: str, name: str) -> str:
    """Why there is no figure of a program, or of those whose names begin so: in words."""
    if row not in found:
        return f"the row {row} was not run"
    reasons = {given: figure.absent for given, figure in found[row].items() if figure.absent and name.startswith(given)}
    return reasons[max(reasons, key=len)] if reasons else f"{name} was not run"


Target = tuple[str, str, float, str]


def targets(found: dict[str, Group]) -> list[Target]:
    """(what, wanted, found, reason): expected begins with "<=" or ">="; found is NaN where it was not measured, for that reason."""
    nan = float("nan")

    def seconds(row: str, name: str) -> float:
        return best(found.get(row, {}), name) if name.endswith("sorted") else found.get(row, {}).get(name, Figure()).median

    def memory(row: str, name: str) -> float:
        return statistics.median(found.get(row, {}).get(name, Figure()).peak or [nan])

    def ratio(what: str, wanted: str, row: str, one: str, other: str, of: Callable[[str, str], float] = seconds) -> Target:
        values = {name: of(row, name) for name in (one, other)}
        missing = [why_missing(found, row, name) for name, value in values.items() if value != value]
        return what, wanted, values[one] / values[other], missing[0] if missing else ""

    def note(what: str, wanted: str, row: str, name: str, key: str) -> Target:
        value = found.get(row, {}).get(name, Figure()).notes.get(key, nan)
        return what, wanted, value, why_missing(found, row, name) if value != value else ""

    few, many = (f"{count:,} texts of four words" for count in (1_000, 100_000))
    rows, before = "sentences", "all imported before"
    return [
        ratio("cold start / transformers' pipeline", "<= 0.35", "start", OURS, "transformers' pipeline"),
        ratio("cold start / import torch", "<= 1.3", "start", OURS, "import torch alone"),
        ratio("loading / from_pretrained", "<= 0.05", "loading", OURS, LOADED),
        ratio(f"loading / from_pretrained, {before}", "<= 0.05", "loading", f"{OURS}, {before}", f"{LOADED}, {before}"),
        ratio("loading, peak memory / from_pretrained's", "<= 1", "loading", OURS, LOADED, memory),
        ratio("sentences, float32 / transformers' pipeline, batch 32", "<= 0.30", rows, OURS, TRANSFORMERS),
        ratio("sentences, float32 / ONNX Runtime's best", "<= 0.65", rows, OURS, "ONNX Runtime, sorted"),
        ratio("sentences, float32 / OpenVINO's best", "<= 1.05", rows, OURS, "OpenVINO, sorted"),
        note("sentences, float32: logits differ by", "<= 1e-5", rows, OURS, "logits differ by"),
        ratio("sentences, bfloat16 / transformers' pipeline, batch 32", "<= 0.16", rows, HALF, TRANSFORMERS),
        ratio("sentences, bfloat16 / OpenVINO's best in bfloat16", "<= 1.10", rows, HALF, "OpenVINO, bfloat16, sorted"),
        note("sentences, bfloat16: same labels", ">= 0.998", rows, HALF, "same labels"),
        ratio("one at a time / transformers' pipeline", "<= 0.45", "single", OURS, "transformers' pipeline"),
        ratio("512 tokens / transformers model, sdpa", "<= 0.75", "documents", OURS, "transformers model, sdpa"),
        ratio("peak memory, 100,000 / 1,000 texts", "<= 1.05", "growth", many, few, memory),
    ]


def verdict(wanted: str, found: float, reason: str = "") -> str:
    """met or MISSED; or that it was not measured, where found is NaN, and the reason."""
    sign, limit = wanted.split()
    if found != found:
        return f"not measured ({reason})"
    return "met" if (found <= float(limit) if sign == "<=" else found >= float(limit)) else "MISSED"


def target_table(found: dict[str, Group]) -> None:
    """Prints what this project set itself for two cores of an AMD EPYC, what was found here, and whether that is enough."""
    print("\nwhat minibert aims at: shares of the other's time or memory, set on two cores of an AMD EPYC; other processors differ")
    print(f"{'target':<56}{'wanted':>10}{'found':>12}")
    for what, wanted, value, reason in targets(found):
        print(f"{what:<56}{wanted:>10}{'' if value != value else f'{value:.3g}':>12}  {verdict(wanted, value, reason)}")


def figures(found: dict[str, Group]) -> dict[str, Any]:
    """All that was found, for JSON: seconds and bytes of each turn by row, and the targets; null is what was not measured."""
    rows = {row: {name: dataclasses.asdict(figure) for name, figure in group.items()} for row, group in found.items()}
    aims = [
        {"target": what, "wanted": wanted, "found": value if value == value else None, "verdict": verdict(wanted, value, reason)}
        for what, wanted, value, reason in targets(found)
    ]
    return {"rows": rows, "targets": aims}


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
    columns = "median (fastest to slowest of n turns), peak memory of a process of its own, and what else was found"
    print(f"\n{row}: {title}", f"  {columns}", *lines(group), sep="\n  ", flush=True)


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
    counts = {int(name.split()[0].replace(",", "")): f for name, f in grown.items() if "texts" in name and f.peak}
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
