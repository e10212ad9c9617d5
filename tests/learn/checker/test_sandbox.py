"""Whatever an answer does, its check ends in a sentence, within a bound, nothing of it is left running, and no mark is its own."""

import faulthandler
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

from minibert.learn.checker import sandbox
from minibert.learn.checker.check import STAGES, examine
from minibert.learn.checker.sandbox import Job, check, check_all
from minibert.learn.course.registry import course
from minibert.learn.stubs.handout import fill

import pytest
from other_solutions import SOLUTIONS

COURSE = course()
GELU = COURSE.find("gelu")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="this system cannot limit a process's memory")


@pytest.fixture(autouse=True)
def no_report_of_crashes():
    """What pytest would print of a crash in this process, it would print of one that is meant."""
    faulthandler.disable()
    yield
    faulthandler.enable()


def answer(folder: Path, body: str, name: str = "gelu.py") -> Job:
    file = folder / name
    file.write_text(fill(GELU.cut, body), encoding="utf-8")
    return Job(GELU, file)


ENDS = {
    "an endless loop": ("while True: pass", "Line 17 was still running after 3 seconds of computing; is that a loop without"),
    "a loop that catches everything": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "was still running after 3 seconds of computing",
    ),
    "a wait": ("import time; time.sleep(1000)", "There was no answer after 4 seconds, and so it was stopped."),
    "an exit": ("exit()", "Line 17 ends the program, so nothing could be checked.\n    exit()"),
    "an exit by the system": ("import os; os._exit(3)", "Your lines ended the program, with status 3, before the check was done."),
    "a crash": ("import ctypes; ctypes.string_at(0)", "Your lines made Python crash (SIGSEGV)."),
    "a recursion": ("return gelu(input)", "Line 17 goes too deep into calls (RecursionError); does it call itself"),
    "a program that reads": ("return float(open(0).read())", "Line 17 raised ValueError: could not convert string to float: ''."),
    "a pipe for its output": ("import os\nos.remove('printed')\nos.mkfifo('printed')\nos._exit(3)", "with status 3, before"),
    "a flood of output": ("while True: print('x' * 10000)", "Line 17 prints or writes more than a check has room for."),
}


@pytest.mark.parametrize(("body", "sentence"), ENDS.values(), ids=ENDS)
@pytest.mark.some(3)
def test_an_answer_that_does_not_come_ends_in_a_sentence(body, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "WAIT", 4 if "4 seconds" in sentence else 20)
    report = check(answer(tmp_path, body)).report
    assert report.stage in ("does not answer", "does not run") and report.stage in STAGES
    assert sentence in report.text


@LINUX
@pytest.mark.parametrize(
    ("body", "much"),
    [("return torch.empty(10**12)", "8,000 GB of memory, more"), ("return torch.empty(10**9)", "8 GB of memory, more"),
     ("return [0] * 10**11", "more memory")],
)  # fmt: skip
def test_a_giant_allocation_ends_in_a_sentence(body, much, tmp_path):
    report = check(answer(tmp_path, body)).report
    assert report.text.startswith(f"Line 17 asks for {much} than a check has to give.")


def test_what_it_started_ends_with_it(tmp_path, monkeypatch):
    """The answer starts a process that would write a file in three seconds, and waits for ever."""
    monkeypatch.setattr(sandbox, "WAIT", 2)
    mark, code = tmp_path / "mark", "import sys, time; time.sleep(3); open(sys.argv[1], 'w')"
    body = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}, {str(mark)!r}])\nwhile True: pass"
    assert "no answer after 2 seconds" in check(answer(tmp_path, body)).report.text
    time.sleep(3)
    assert not mark.exists()
    assert not multiprocessing.active_children()


def test_what_it_prints_is_shown_and_nothing_in_it_obeyed(tmp_path):
    prints = "print('\\x1b[31m', tuple(input.shape))\nprint('x' * 500)\nfor i in range(30): print(i)"
    result = check(answer(tmp_path, f"{prints}\nreturn input"))
    lines = result.printed.splitlines()
    assert lines[0] == r"\x1b[31m (3, 20, 1536)"
    assert len(lines[1]) == sandbox.WIDTH and lines[1].endswith("…")
    assert len(lines) == sandbox.SHOWN + 1
    assert lines[-1] == f"({13 * 32} lines in all, since your lines run many times; each is shown once)"  # 13 calls, 32 lines


@pytest.mark.long
def test_a_check_does_not_import_pytorchs_compiler_which_takes_seconds(tmp_path):
    file = answer(tmp_path, "import sys\nprint('torch._dynamo' in sys.modules)\nreturn input").file
    code = f"""
from pathlib import Path
from minibert.learn.course.registry import course
from minibert.learn.checker.sandbox import Job, check
print(check(Job(course().find("gelu"), Path({str(file)!r}))).printed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False"


def test_a_report_is_the_same_as_without_a_process_of_its_own(tmp_path):
    job = answer(tmp_path, "return input * (1 + torch.erf(input / math.sqrt(2)))")
    report = check(job).report
    assert report == examine(COURSE, GELU, job.file.read_text(), str(job.file))
    assert (report.stage, report.mistake) == ("wrong numbers", "half forgotten")


def test_one_that_hangs_does_not_keep_the_others_waiting_nor_changes_what_is_said_of_them(tmp_path):
    bodies = {
        "a.py": "while True: pass",
        "c.py": "torch.erf = torch.tanh\nreturn input",  # what one answer does to PyTorch, the next one does not see
        "b.py": "return 0.5 * input * (1 + torch.erf(input / math.sqrt(2)))",
        "d.py": "return 0.5 * input * (1 + torch.erf(input / math.sqrt(2)))",
        "e.py": "return input * torch.sigmoid(input)",
    }
    found = [(result.job.file.name, result.report) for result in check_all([answer(tmp_path, b, n) for n, b in bodies.items()], 2)]
    reports = dict(found)
    assert len(found) == 5 and found[0][0] != "a.py"
    assert {name for name, report in reports.items() if report.passed} == {"b.py", "d.py"}
    assert reports["e.py"].mistake == "SiLU" and reports["a.py"].stage == "does not answer"


def test_a_check_that_is_given_up_leaves_nothing_running(tmp_path):
    """Ctrl-C reaches whoever waits for the answer; the answer itself would go on."""
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    with pytest.raises(KeyboardInterrupt):
        list(check_all([answer(tmp_path, "while True: pass")], 1))
    assert not multiprocessing.active_children()


# No answer can write its own mark. Each of these makes a wrong mask, and then says in one way or another that it is right. The
# checks are out of an import's reach there; each digs them up first.

MASK = COURSE.find("attention-mask")
FORGE = """
import json, os, struct
REPORT = json.dumps({"exercise": "attention-mask", "stage": "passed", "text": "right", "mistake": ""}).encode()
def forge():
    for number in range(3, 200):
        try:
            os.write(number, struct.pack("!i", len(REPORT)) + REPORT)
        except OSError:
            pass
"""
DIG = """
import gc, sys, types
del sys.meta_path[0]
modules = [one for one in gc.get_objects() if isinstance(one, types.ModuleType) and one.__name__.startswith("minibert.learn")]
sys.modules |= {one.__name__: one for one in modules}
sys.modules["minibert"].learn = sys.modules["minibert.learn"]
"""
CHEATS = {
    "the examination": "import minibert.learn.checker.check as c\nc._Examination.passes = lambda self: 'right'",
    "what is written": "FORGE\nfrom minibert.learn.checker import sandbox\nsandbox.asdict = lambda *_: json.loads(REPORT)",
    "the report": "import minibert.learn.checker.check as c\nRight = c.Report\n"
    "c.Report = lambda name, *_: Right(name, 'passed', 'right')",
    "the finding": "from minibert.learn.checker.exceptions import CheckFailed\n"
    "CheckFailed.__init__ = lambda self, *_: self.__dict__.update(stage='passed', text='right', mistake='')\n"
    "raise CheckFailed('', '')",
    "what is close": "import minibert.learn.checker.check as c\nc.close = lambda *_: torch.tensor([True])",
    "what is true of a tensor": "Tensor.all = lambda *_: torch.tensor(True)\ntorch.equal = torch.allclose = lambda *_: True",
    "the run": "from minibert.learn.checker.trial import Run, Trial\n"
    "Trial.run = lambda self, case, seed=0: Run(case.wanted, None, ())",
    "what is right": "from minibert.learn.course.registry import course\nfrom minibert.learn.checker.trial import cases_of\n"
    "for case in cases_of(course().find('attention-mask')):\n    case.wanted['result'] = case.args[0]",
    "the pipe": "from multiprocessing.connection import Connection\nFORGE\nsend = Connection.send_bytes\n"
    "Connection.send_bytes = lambda self, *_: send(self, REPORT)",
    "json": "FORGE\njson.dumps = lambda *_, **__: REPORT.decode()",
    "every open file, and an end": "FORGE\nforge()\nos._exit(0)",
    "every open file at the end": "FORGE\nimport atexit\natexit.register(forge)",
    "a thread": "FORGE\nimport threading, time\nthreading.Thread(target=forge).start()\ntime.sleep(0.2)",
    "a process of its own": "FORGE\nif os.fork() == 0:\n    os.setsid()\n    forge()\n    os._exit(0)\nos._exit(0)",
    "the judge's memory of it": "import gc\nfrom minibert.learn.stubs.sample_inputs import Case\nfor one in gc.get_objects():\n"
    "    if type(one) is Case and not callable(one.args) and 'result' in one.wanted:\n        one.wanted['result'] = one.args[0]",
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
@pytest.mark.some(4)
def test_no_answer_can_write_its_own_mark(cheat, tmp_path):
    file = tmp_path / "attention_mask.py"
    file.write_text(fill(MASK.cut, "return input_ids") + f"\n\n{DIG}\n" + cheat.replace("FORGE", FORGE), encoding="utf-8")
    there = dict(sys.modules)  # held, so that a forked process has them all to dig up
    report = check(Job(MASK, file)).report
    assert there and report.stage in ("wrong kind", "wrong numbers", "does not answer") and report.text


SHORT_WAYS = {
    "the checker's own": (
        "from minibert.learn.checker.trial import Trial, real\nrun = Trial.run\n"
        "Trial.run = lambda self, *args, **more: run(real(self.exercise), *args, **more)",
        "minibert.learn is not to be had within an answer",
    ),
    "the package's attribute": ("import minibert\nminibert.learn.trial", "minibert.learn is not to be had within an answer"),
    "what stands for the real function": (
        "import minibert.model\nFeedForward.forward = minibert.model.FeedForward.forward.__wrapped__",
        "has no attribute '__wrapped__'",
    ),
    "the real function": (
        "import minibert.model\nFeedForward.forward = minibert.model.FeedForward.forward",
        "Your lines call the real FeedForward.forward; here it is to be written anew.",
    ),
}


@pytest.mark.parametrize(("way", "sentence"), SHORT_WAYS.values(), ids=SHORT_WAYS)
def test_neither_the_checker_nor_the_real_function_is_there_for_an_answer(way, sentence, tmp_path):
    exercise = COURSE.find("feed-forward")
    file = tmp_path / "feed_forward.py"
    file.write_text(f"{fill(exercise.cut, 'return hidden_states')}\n\n{way}\n", encoding="utf-8")
    report = check(Job(exercise, file)).report
    assert report.stage in ("does not run", "not written") and sentence in report.text, report.text


@pytest.mark.parametrize("name", ["weighted-sum", "self-attention", "feed-forward", "embedding-sum", "head"])
@pytest.mark.some(1)
def test_in_its_own_process_too_the_real_lines_drop_what_they_drop(name, tmp_path):
    exercise = COURSE.find(name)
    file = tmp_path / f"{name.replace('-', '_')}.py"
    file.write_text(fill(exercise.cut, exercise.cut.solution), encoding="utf-8")
    report = check(Job(exercise, file)).report
    assert "Dropout, in training: place, count and rate are those of the real lines" in report.text


TRIES = {
    "a pipeline": "from minibert import pipeline\nprint(pipeline(model='mini-sst2')('good'))",
    "the real module": "from minibert.model import FeedForward as Real\nfrom minibert.config import DistilBertConfig\n"
    "Real(DistilBertConfig()).eval()(torch.ones(1, 2, 768))",
}


@pytest.mark.parametrize("lines", TRIES.values(), ids=TRIES)
@pytest.mark.some(1)
def test_below_a_right_answer_the_real_model_can_be_tried(lines, tmp_path):
    exercise = COURSE.find("feed-forward")
    file = tmp_path / "feed_forward.py"
    file.write_text(f"{fill(exercise.cut, exercise.cut.solution)}\n\n{lines}\n", encoding="utf-8")
    report = check(Job(exercise, file)).report
    assert report.passed, report.text


def test_an_answer_that_closes_every_way_to_be_heard_is_told_so(tmp_path):
    """And what it goes on with is ended, long before its minute is over."""
    report = check(answer(tmp_path, "import os, time\nos.closerange(3, 200)\ntime.sleep(100)")).report
    assert (report.stage, report.text) == ("does not answer", "Your lines closed what a check hears them by.")
    assert not multiprocessing.active_children()


def page(folder: Path, name: str, text: str) -> Job:
    exercise = COURSE.find(name)
    file = folder / f"{name.replace('-', '_')}.py"
    file.write_text(text, encoding="utf-8")
    return Job(exercise, file)


def test_a_judge_too_gets_data_alone(tmp_path):
    """The answer says of itself that it is equal to everything, and the other one that every softmax is."""
    equal = "class Equal:\n    __hash__ = None\n    def __eq__(self, other): return True\nANSWER = Equal()"
    report = check(page(tmp_path, "silent-bias", equal)).report
    assert report.stage == "wrong numbers" and "expected one of q_lin.bias" in report.text
    soft = "import torch\ntorch.Tensor.softmax = lambda self, _: torch.rand(4)\ndef scores(): return torch.zeros(4)"
    report = check(page(tmp_path, "mild-mask", soft)).report
    assert report.stage == "wrong numbers" and "expected more than 0.1 between them" in report.text


@pytest.mark.long
def test_right_answers_of_every_kind_of_value_pass_from_one_process_to_the_other(tmp_path):
    """Dataclasses, pairs, a set, lists of words; the names and the functions that a judge asks for."""
    jobs = []
    for name in ("stack", "head", "label", "fold-bert", "wordpiece"):
        cut = COURSE.find(name).cut
        jobs.append(page(tmp_path, name, fill(cut, SOLUTIONS[name][0] if name in SOLUTIONS else cut.solution)))
    jobs.append(page(tmp_path, "silent-bias", "ANSWER = 'k_lin.bias'"))
    jobs.append(page(tmp_path, "mild-mask", "import torch\ndef scores(): return torch.tensor([0, 0, 20000.0, 0])"))
    assert {result.report.exercise: result.report.stage for result in check_all(jobs, 2)} == {
        job.exercise.name: "passed" for job in jobs
    }
