"""scripts/benchmark.py: what it says about its figures. How large they are is no test's business."""

import importlib.util
import json
import math
import statistics
import sys

import benchmark
import pytest
import torch
from benchmark import HALF, LENGTHS, LOADED, OURS, TRANSFORMERS, Figure

from minibert import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification, save_pretrained

FOUND = {
    "start": {OURS: Figure([1.2]), "transformers' pipeline": Figure([4.0]), "import torch alone": Figure([0.5])},
    "loading": {OURS: Figure([0.01], [300]), LOADED: Figure([2.0], [400])},
    "sentences": {
        OURS: Figure([4.0, 5.0, 9.0], notes={"logits differ by": 2e-5}),
        HALF: Figure([2.0], notes={"same labels": 0.999}),
        TRANSFORMERS: Figure([20.0]),
        "ONNX Runtime, sorted, batch 1": Figure([20.0]),
        "ONNX Runtime, sorted, batch 8": Figure([10.0]),
        "OpenVINO, sorted, batch 8": Figure([4.0]),
        "OpenVINO, bfloat16, sorted, batch 8": Figure([1.0]),
    },
    "growth": {"1,000 texts of four words": Figure([1], [500]), "100,000 texts of four words": Figure([9], [520])},
}
TARGETS = {  # of FOUND, worked out by hand
    "cold start / transformers' pipeline": (0.3, "met"),
    "cold start / import torch": (2.4, "MISSED"),
    "loading / from_pretrained": (0.005, "met"),
    "loading, peak memory / from_pretrained's": (0.75, "met"),
    "sentences, float32 / transformers' pipeline, batch 32": (0.25, "met"),
    "sentences, float32 / ONNX Runtime's best": (0.5, "met"),
    "sentences, float32 / OpenVINO's best": (1.25, "MISSED"),
    "sentences, float32: logits differ by": (2e-5, "MISSED"),
    "sentences, bfloat16 / transformers' pipeline, batch 32": (0.1, "met"),
    "sentences, bfloat16 / OpenVINO's best in bfloat16": (2.0, "MISSED"),
    "sentences, bfloat16: same labels": (0.999, "met"),
    "one at a time / transformers' pipeline": (math.nan, "not measured"),
    "512 tokens / transformers model, sdpa": (math.nan, "not measured"),
    "peak memory, 100,000 / 1,000 texts": (1.04, "met"),
}


def test_targets_are_ratios_of_medians_and_say_what_was_not_measured():
    rows = {what: (value, benchmark.verdict(wanted, value)) for what, wanted, value in benchmark.targets(FOUND)}
    assert rows.keys() == TARGETS.keys()
    for what, (value, verdict) in rows.items():
        assert value == pytest.approx(TARGETS[what][0], nan_ok=True) and verdict == TARGETS[what][1], what


def test_programs_take_turns_and_slow_ones_one_turn_only(monkeypatch):
    monkeypatch.setattr(benchmark, "PAUSE", 0)
    called = []
    runs = {name: lambda name=name: called.append(name) for name in ("a", "slow", "b")}
    group = benchmark.take_turns(runs, 3, once=["slow"])
    assert called == ["a", "slow", "b", "a", "b", "a", "b"]
    assert {name: len(figure.seconds) for name, figure in group.items()} == {"a": 3, "slow": 1, "b": 3}


def test_a_line_gives_median_spread_turns_and_peak():
    [line] = benchmark.lines({"one": Figure([3.0, 1.25, 2.0], [2**20, 3 * 2**20, 5 * 2**20], {"same labels": 0.5})})
    assert line.split() == ["one", "2.00", "s", "(1.25", "to", "3.00,", "n", "=", "3)", "3", "MiB", "same", "labels", "0.5"]


def test_what_cannot_be_made_is_named_with_its_reason():
    def not_installed():
        import no_such_library  # noqa: F401

    def unavailable():
        raise RuntimeError("this processor has no bfloat16")

    made, absent = benchmark.make({"here": lambda: 1, "one": not_installed, "other": unavailable})
    assert made == {"here": 1}
    assert list(benchmark.lines(absent)) == [
        "one    absent: no_such_library is not installed",
        "other  absent: this processor has no bfloat16",
    ]


def test_the_peak_of_a_process_is_its_own():
    commands = {"small": ["-c", "pass"], "large": ["-c", "x = b'x' * 200_000_000; print('seconds', 0.5)"]}
    group = benchmark.whole_processes(commands, 1, warm_up=0)
    assert group["small"].peak[0] < 100 * 2**20 < 190 * 2**20 < group["large"].peak[0]  # this process has more than either
    assert group["large"].seconds == [0.5] and group["small"].seconds[0] != 0.5


def test_a_process_that_fails_is_no_figure():
    with pytest.raises(RuntimeError, match="broken failed: ValueError: no"):
        benchmark.whole_processes({"broken": ["-c", "raise ValueError('no')"]}, 1)


def test_generated_sentences_have_sst2s_lengths_and_are_the_same_each_time():
    texts = benchmark.generated()
    lengths = sorted(map(len, AutoTokenizer.from_pretrained("mini-sst2")(texts)["input_ids"]))
    assert len(texts) == 872 and texts == benchmark.generated() and len(set(texts)) == len(texts)
    assert abs(sum(lengths) - 21_943) < 220  # SST-2 dev's tokens, to 1 %
    assert (lengths[0], lengths[-1]) == (LENGTHS[0], LENGTHS[-1]) == (4, 55)
    assert abs(statistics.median(lengths) - 25) <= 1


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(1)
    model = DistilBertForSequenceClassification(DistilBertConfig(n_layers=1, n_heads=2, dim=16, hidden_dim=32)).eval()
    save_pretrained(model, folder, AutoTokenizer.from_pretrained("mini-sst2"))
    return folder


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
    benchmark.main()


def test_a_quick_run_ends_with_the_table_and_writes_every_figure(small, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark, "PAUSE", 0)
    rows = ["loading", "sentences", "single", "documents", "threads", "gpu"]
    call(monkeypatch, "--model", small, "--quick", "--rows", *rows, "--json", tmp_path / "found.json")
    out = capsys.readouterr().out
    table = out[out.index("target ") :].splitlines()[1:]
    assert [line[:56].strip() for line in table] == list(TARGETS)
    assert all(line.endswith(("met", "MISSED", "not measured")) for line in table)
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == rows and len(found["single"][OURS]["seconds"]) == 20
    for library, name in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        if importlib.util.find_spec(library) is None:
            assert found["sentences"][name]["absent"] == f"{library} is not installed"
    assert found["sentences"][OURS]["notes"]["logits differ by"] < 1e-5
    assert found["sentences"]["minibert, plain, sorted"]["notes"]["same labels"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "absent.tsv"], "No such file or directory: 'absent.tsv'"),
        (["--json", "absent/found.json"], "absent/found.json cannot be written; wanted a file in a folder"),
        (["--repeats", "0"], "--repeats is 0 and --threads"),
        (["--model", "./absent"], "there is no folder ./absent"),
    ],
)
def test_bad_arguments_are_one_sentence_before_anything_is_measured(monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=words) as stopped:
        call(monkeypatch, *arguments)
    assert len(str(stopped.value).splitlines()) == 1


def test_without_matplotlib_the_picture_is_refused_before_anything_is_measured(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match="matplotlib is not installed; run"):
        call(monkeypatch, "--picture", tmp_path / "found.png")
