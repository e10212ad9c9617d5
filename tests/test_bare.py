"""The core install alone: no NumPy, no transformers, no Hub. What the README shows of it works, and whatever saves can save.

`.ci/run` runs this file in an environment that has the core packages and pytest; elsewhere the further packages are hidden.
"""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ("README.md", "minibert/learn/README.md", "minibert/command/README.md", "scripts/README.md")
README = "\n".join((ROOT / guide).read_text(encoding="utf-8") for guide in GUIDES)
HIDDEN = ("numpy", "transformers", "pandas", "pyarrow", "matplotlib", "onnxruntime", "openvino", "hypothesis")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ELSEWHERE = ("pytest", "minibert fetch", "weights/sst2", "compare.py")  # these want an extra, or the Hub
COMMANDS = [
    line for language, block in BLOCKS if not language
    for line in block.splitlines() if line.startswith((".venv/", "gunzip ")) and not any(one in line for one in ELSEWHERE)
]  # fmt: skip
SNIPPETS = [block for language, block in BLOCKS if language == "python" and "print(" in block]
COMMAND = {"python": sys.executable, "minibert": f"{sys.executable} -m minibert"}
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))

TINY = """
from minibert import AutoModel, DistilBertConfig, DistilBertModel, DistilBertTokenizer, save_pretrained
import torch
torch.manual_seed(0)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(5, 50))]
settings = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "model_max_length": 16}
tokenizer = DistilBertTokenizer({word: number for number, word in enumerate(words)}, settings)
model = DistilBertModel(DistilBertConfig(vocab_size=50, max_position_embeddings=16, n_layers=1, n_heads=2, dim=8, hidden_dim=16))
"""


@pytest.fixture
def bare(tmp_path):
    """Runs a command line in an empty folder, where the further packages cannot be imported and no Hub answers."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(f"import sys\nsys.modules |= dict.fromkeys({HIDDEN})\n")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    ours |= {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}", "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    ours |= {"NO_PROXY": "127.0.0.1", "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    place = tmp_path / "place"
    place.mkdir()

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=place, env=ours, capture_output=True, text=True, encoding="utf-8", timeout=120)
        assert "Traceback" not in done.stderr and "NumPy" not in done.stderr, done.stderr
        return done

    run.place = place
    return run


def test_the_packages_of_the_extras_are_hidden_here(bare):
    done = bare(sys.executable, "-c", f"from importlib.util import find_spec; print(sum(map(bool, map(find_spec, {HIDDEN}))))")
    assert done.stdout == "0\n", done.stderr


def test_a_checkpoint_is_saved_and_read_back_in_every_dtype(bare):
    code = TINY + """
for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
    save_pretrained(model.to(dtype), "saved", tokenizer)
    read = AutoModel.from_pretrained("saved", dtype=dtype).state_dict()
    assert read.keys() == model.state_dict().keys()
    print(dtype, all(torch.equal(tensor, read[name]) for name, tensor in model.state_dict().items()))
"""
    done = bare(sys.executable, "-c", code)
    assert done.stdout.splitlines() == [f"torch.{name} True" for name in ("float64", "float32", "float16", "bfloat16")], done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.some(2)
def test_the_readmes_commands_work(bare, command):
    (bare.place / "reviews.txt").write_text("I hate this.\nA joy.\n")
    (bare.place / "reviews.csv").write_text("review,stars\nI hate this.,1\nA joy.,5\n")
    (bare.place / "reviews.jsonl.gz").write_bytes(gzip.compress(b'{"text": "I hate this."}\n{"text": "A joy."}\n'))
    if "exercise check" in command:
        bare(sys.executable, "-m", "minibert", "exercise", "start", "wordpiece")
    ours = re.sub(r"\.venv/bin/(minibert|python)", lambda found: COMMAND[found[1]], command)
    done = bare("bash", "-o", "pipefail", "-c", ours.replace(" scripts/", f" {ROOT}/scripts/").replace("| less", "| cat"))
    assert done.returncode == int("exercise check" in command), done.stdout + done.stderr
    assert ("not written" in done.stdout) == ("exercise check" in command) and (done.stdout or "--output" in command)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
@pytest.mark.some(1)
def test_the_readmes_snippets_work(bare, snippet):
    (bare.place / "README.md").write_text("I hate this.\nA joy.\n")
    done = bare(sys.executable, "-c", snippet)
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.some(1)
def test_each_script_helps_or_names_the_extra_that_it_needs(bare, script):
    done = bare(sys.executable, str(ROOT / "scripts" / script), "--help")
    assert done.returncode == 0 or re.search(r"""pip install -e ['"]\.\[\w+\]""", done.stderr), done.stderr


def test_the_comparison_with_transformers_names_its_extra(bare):
    done = bare(sys.executable, str(ROOT / "scripts/compare.py"), "--model", "mini-sst2")
    assert done.returncode == 2 and 'transformers is not installed; run `pip install -e ".[test]"`' in done.stderr


@pytest.mark.long
def test_an_exercises_file_runs_without_a_remark(bare):
    for name in ("softmax", "masking", "fold-bert", "find-the-bug"):
        assert bare(sys.executable, "-m", "minibert", "exercise", "start", name).returncode == 0
        assert bare(sys.executable, f"{name.replace('-', '_')}.py").returncode == 0


@pytest.mark.long
def test_a_model_is_trained_resumed_averaged_and_evaluated(bare):
    bare(sys.executable, "-c", TINY + 'save_pretrained(model, "base", tokenizer)')
    rows = "".join(f"word{5 + n % 20} word{5 + n % 7} \t{n % 2}\n" for n in range(64))
    for name in ("train.tsv", "dev.tsv"):
        (bare.place / name).write_text("sentence\tlabel\n" + rows)
    scripts = ROOT / "scripts"
    train = (sys.executable, f"{scripts}/train.py", "--base", "base", "--data", ".", "--hold-out", "0", "--epochs", "1")
    for more in ([], ["--resume"]):
        done = bare(*train, "--to", "run", *more)
        assert done.returncode == 0, done.stderr
    done = bare(sys.executable, f"{scripts}/average.py", "run", "run", "--to", "mean")
    assert done.stdout.startswith("mean: the mean of 2 runs"), done.stderr
    done = bare(sys.executable, f"{scripts}/evaluate.py", "--model", "mean", "--data", "dev.tsv")
    assert done.returncode == 0 and "64" in done.stdout, done.stderr
