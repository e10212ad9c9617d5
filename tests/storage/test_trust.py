"""A checkpoint is numbers and words: nothing of it is run, and nothing beside its own files is opened."""

import ast
import json
import pickle
import subprocess
from pathlib import Path

import pytest
from helpers import environment
from served import served

ROOT = Path(__file__).resolve().parents[2]
OURS = sorted([*ROOT.glob("minibert/**/*.py"), *ROOT.glob("scripts/*.py")])
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
# What a check has to run: our own source, a student's lines in it, an instructor's file.
EXERCISES = {
    f"minibert/learn/{name}.py" for name in ("checker/answer", "checker/trial", "course/puzzles", "course/registry", "stubs/splice")
}


class Bomb:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "run")


@pytest.fixture
def trapped(files, tmp_path):
    """A checkpoint that asks for code, for files elsewhere and for a pickle, in every way that a reader might fall for."""
    folder, outside = tmp_path / "checkpoint", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (outside / name).write_bytes(content)
    config = json.loads(files["config.json"]) | {
        "auto_map": {"AutoConfig": "trap.Trap", "AutoModelForSequenceClassification": "trap.Trap"},
        "custom_pipelines": {"sentiment-analysis": {"impl": "trap.Trap"}},
        "transformers_weights": "../outside/model.safetensors",
        "_name_or_path": str(outside),
        "torch_dtype": "__import__('os').system('true')",
    }
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"tokenizer_class": "Trap", "auto_map": {"AutoTokenizer": ["trap.Trap", None]}, "vocab_file": "../outside/vocab.txt"}
    (folder / "tokenizer_config.json").write_text(json.dumps(json.loads(files["tokenizer_config.json"]) | settings))
    for name in ("trap.py", "modeling_trap.py", "__init__.py", "sitecustomize.py"):
        (folder / name).write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).write_text('run')\n")
    for name in ("pytorch_model.bin", "model.pt", "training_args.bin", "vocab.pkl"):
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"classifier.weight": "../outside/model.safetensors"}}')
    return folder


READ = """
import json, sys
import minibert, safetensors.torch, tokenizers, tokenizers.models
seen = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        seen.append(["open", str(args[0])])
    elif event in ("exec", "compile") and sys.argv[2] in str(args):
        seen.append([event, str(args)])
    elif event.startswith(("pickle", "subprocess", "os.system", "os.exec", "os.spawn", "socket.connect", "ctypes.dlopen")):
        seen.append([event, str(args)])
pipeline = minibert.pipeline
sys.addaudithook(hook)
try:
    print(pipeline(model=sys.argv[1], device="cpu")("word7"))
except minibert.CheckpointError as error:
    print(error)
print(json.dumps(seen))
"""


def read(folder: Path, home: Path) -> tuple[str, set[str]]:
    """What is said in a process of its own, and which of the files under `home` it opened; anything worse fails here."""
    command = [*served(), "-c", READ, str(folder), str(home)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(home), timeout=60, cwd=home)
    assert done.returncode == 0, done.stderr
    said, events = done.stdout.splitlines()
    assert [event for event in json.loads(events) if event[0] != "open"] == []
    opened = {Path(name).resolve() for event, name in json.loads(events) if not name.isdecimal()}
    return said, {str(path.relative_to(home)) for path in opened if path.is_relative_to(home)}


def test_nothing_of_a_checkpoint_is_run_and_no_other_file_is_opened(trapped, tmp_path):
    said, opened = read(trapped, tmp_path)
    assert "'label':" in said
    assert opened == {f"checkpoint/{name}" for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json")}
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_not_opened_where_there_is_nothing_else(trapped, tmp_path):
    (trapped / "model.safetensors").unlink()
    said, opened = read(trapped, tmp_path)
    assert "names '../outside/model.safetensors'; expected a safetensors file of the same folder" in said
    assert not [name for name in opened if name.startswith("outside")]
    (trapped / "model.safetensors.index.json").unlink()
    said, opened = read(trapped, tmp_path)
    assert "minibert reads no pickles" in said
    assert not [name for name in opened if name.endswith((".bin", ".pt", ".pkl"))] and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_of_ours_runs_text_or_reads_a_pickle(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if str(path.relative_to(ROOT)) not in EXERCISES:
        assert not {call.func.id for call in calls if isinstance(call.func, ast.Name)} & RUNS_CODE
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not modules & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
    for call in calls:
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "torch.load":
            assert "weights_only=True" in ast.unparse(call)
