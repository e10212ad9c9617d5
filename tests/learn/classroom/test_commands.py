"""`minibert exercise` through a real process: a student's way from list to solution, an instructor's own exercise, a class."""

import io
import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

from minibert.command.cli import main
from minibert.learn.checker.check import Report
from minibert.learn.classroom.grade import _print
from minibert.learn.course.registry import course
from minibert.learn.stubs.handout import fill

import pytest
from helpers import environment

COURSE = course()
GUIDE = Path(__file__).parents[3] / "minibert" / "learn" / "README.md"
GELU = "return 0.5 * input * (1 + torch.erf(input / math.sqrt(2)))"


@pytest.fixture
def exercise(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder; in this process, since a new one takes a second to import PyTorch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(["exercise", *arguments])
        printed = capsys.readouterr()
        code, said = ended.value.code, printed.err
        if isinstance(code, str):  # which Python prints, and ends with 1
            code, said = 1, said + code + "\n"
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=said)

    call.folder = tmp_path
    return call


@pytest.mark.long
def test_it_works_in_a_process_of_its_own_without_colour_hub_or_transformers(tmp_path):
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "transformers.py").write_text("raise ImportError('blocked')")
    env = environment(tmp_path) | {"PYTHONPATH": str(tmp_path / "blocked"), "TERM": "dumb", "PYTHONIOENCODING": "ascii"}
    write(tmp_path, "weighted-sum", "attention = scores.softmax(-2)\ncontext = attention @ values")
    begun = time.monotonic()
    command = [sys.executable, "-m", "minibert", "exercise", "check", "weighted-sum"]
    done = subprocess.run(command, capture_output=True, env=env, cwd=tmp_path, timeout=120)
    print(f"a check took {time.monotonic() - begun:.1f} s")
    assert done.returncode == 1 and done.stderr == b"" and b"\x1b" not in done.stdout
    assert b"weighted-sum: wrong numbers\n" in done.stdout and b"'softmax over queries'" in done.stdout


def write(folder: Path, name: str, body: str) -> Path:
    file = folder / (name.replace("-", "_") + ".py")
    file.write_text(fill(COURSE.find(name).cut, body), encoding="utf-8")
    return file


def test_a_student_goes_from_start_to_done(exercise):
    done = exercise("start", "gelu")
    file = exercise.folder / "gelu.py"
    assert done.returncode == 0 and "gelu.py is ready. Edit it, then: minibert exercise check gelu" in done.stdout
    text = file.read_text()
    assert text.startswith('"""gelu: GELU\n') and text.endswith("# minibert exercise check gelu\n")

    done = exercise("check", "gelu")
    line = text.splitlines().index("    raise NotImplementedError") + 1
    assert done.returncode == 1 and done.stdout.splitlines()[0] == "gelu: not written"
    assert f"line {line} still says" in done.stdout

    file.write_text(text.replace("raise NotImplementedError", "return input * torch.sigmoid(1.702 * input)"))
    done = exercise("check", "gelu")
    assert done.returncode == 1 and "a known mistake, 'sigmoid approximation'" in " ".join(done.stdout.split())

    file.write_text(text.replace("raise NotImplementedError", GELU))
    done = exercise("check", "gelu")
    assert done.returncode == 0 and done.stdout.startswith("gelu: right\n") and done.stdout.endswith("start feed-forward\n")

    listed = exercise("list").stdout
    assert re.search(r"^13  gelu .* done$", listed, re.MULTILINE) and f"1 of {len(COURSE.exercises)} done in " in listed
    assert listed.endswith("Next: minibert exercise start wordpiece\n")
    assert max(map(len, listed.splitlines()[:-3])) <= 80
    file.write_text(file.read_text() + "\n")
    assert re.search(r"^13  gelu .* done, changed since$", exercise("list").stdout, re.MULTILINE)


def test_start_leaves_alone_what_is_there_and_reset_keeps_it_under_another_name(exercise):
    file = exercise.folder / "deep" / "gelu.py"
    assert exercise("start", "gelu", "--to", "deep").returncode == 0
    untouched = file.read_text()
    assert untouched.endswith("# minibert exercise check gelu --in deep\n")
    for number in (1, 2):
        file.write_text(f"work {number}")
        done = exercise("start", "gelu", "--to", "deep")
        assert done.returncode == 1 and file.read_text() == f"work {number}"
        assert done.stderr == (
            "minibert: deep/gelu.py is there already and stays as it is; `minibert exercise reset gelu --in deep` starts anew.\n"
        )
        done = exercise("reset", "gelu", "--in", "deep")
        assert f"What was there is now deep/gelu.old{number}.py." in done.stdout
        assert (file.parent / f"gelu.old{number}.py").read_text() == f"work {number}" and file.read_text() == untouched


def test_each_hint_is_another_one_and_the_solution_is_shown_with_yes(exercise):
    hints = [exercise("hint", "splitting-heads").stdout for _ in range(4)]
    assert [hint[:11] for hint in hints] == ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "Hint 3 of 3"]
    assert "The real lines call transpose, view." in hints[2]
    assert "`minibert exercise solution splitting-heads --yes` shows the solution." in " ".join(hints[2].split())
    done = exercise("solution", "splitting-heads", "--yes")
    assert done.returncode == 0 and COURSE.find("splitting-heads").cut.solution in done.stdout
    assert done.stdout.startswith("minibert/model.py, lines ")
    assert "PyTorch has it: torch.nn.functional.gelu." in exercise("solution", "gelu", "--yes").stdout


class NeverRead(io.StringIO):
    """Standard input of a notebook, in which a question waits for ever: nobody can type there."""

    def readline(self, *_):
        raise AssertionError("it waits for an answer")

    def isatty(self):
        return True


def test_solution_and_reset_never_wait_for_an_answer(exercise, monkeypatch):
    """In a notebook, `!minibert ...` has a terminal of its own, at which nobody sits."""
    monkeypatch.setattr(io, "StringIO", lambda _: NeverRead())
    done = exercise("solution", "gelu")
    assert (done.returncode, done.stdout) == (1, "") and done.stderr == (
        "minibert: the solution is shown with --yes alone: `minibert exercise solution gelu --yes`; "
        "`minibert exercise hint gelu` gives one more hint.\n"
    )
    assert exercise("reset", "gelu").returncode == 0 and exercise("reset", "gelu").returncode == 0


def test_a_failed_check_names_the_command_for_a_hint(exercise):
    write(exercise.folder, "softmax", "return input")
    done = exercise("check", "softmax")
    assert done.returncode == 1 and done.stdout.endswith("If you are stuck: minibert exercise hint softmax\n")


def nobody_can_write(folder: Path) -> None:
    """The notes' file leads into a folder that is not there: it can be looked for and not be written, by the superuser too."""
    (folder / ".minibert-exercises.json").symlink_to(folder / "absent" / "notes.json")


def test_a_right_answer_is_right_where_nothing_can_be_noted(exercise):
    write(exercise.folder, "gelu", GELU)
    nobody_can_write(exercise.folder)
    done = exercise("check", "gelu")
    assert done.returncode == 0 and done.stdout.startswith("gelu: right\n")
    assert done.stderr.startswith("minibert: a remark: that it passed is not noted. ") and "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("notes", ['{"gelu": ', "[]", '{"gelu": 3}', '{"gelu": {"hints": "two"}}'])
@pytest.mark.some(1)
def test_a_right_answer_is_right_where_the_notes_are_damaged_and_they_stay_as_they_are(exercise, notes):
    write(exercise.folder, "gelu", GELU)
    (exercise.folder / ".minibert-exercises.json").write_text(notes)
    done = exercise("check", "gelu")
    assert done.returncode == 0 and done.stdout.startswith("gelu: right\n")
    assert "that it passed is not noted. .minibert-exercises.json is damaged (" in done.stderr
    assert (exercise.folder / ".minibert-exercises.json").read_text() == notes


def test_a_hint_is_given_where_it_cannot_be_noted(exercise):
    nobody_can_write(exercise.folder)
    done = exercise("hint", "gelu")
    assert done.returncode == 0 and done.stdout.startswith("Hint 1 of ")
    assert done.stderr.startswith("minibert: a remark: which hints were given is not noted. ")


def test_a_reset_that_fails_on_a_full_disk_leaves_the_answer_where_it_was(exercise):
    resource = pytest.importorskip("resource", reason="only here can the size of a file be limited")
    file = write(exercise.folder, "gelu", GELU)
    before = file.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        done = exercise("reset", "gelu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 1 and "gelu.py' cannot be written" in done.stderr
    assert file.read_text() == before and [one.name for one in exercise.folder.iterdir()] == ["gelu.py"]


def test_the_file_will_do_for_the_name(exercise):
    write(exercise.folder, "softmax", "while True: pass")
    done = exercise("check", "softmax.py")
    assert done.returncode == 1 and done.stdout.startswith("softmax: does not answer\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("start", "gelo"), "there is no exercise 'gelo'; did you mean gelu?"),
        (("start", "xyz"), "there is no exercise 'xyz'; `minibert exercise list` has them all."),
        (("check", "gelu"), "there is no gelu.py; `minibert exercise start gelu` writes it."),
        (("check", "gelu", "--in", "absent"), "there is no absent/gelu.py; `minibert exercise start gelu --to absent` writes it."),
        (("list", "--course", "absent.py"), "absent.py cannot be read (No such file or directory); expected a Python file."),
        (("grade", "absent"), "there is no folder absent; expected one with a folder of exercise files for each student."),
        (
            ("grade", "."),
            ". has no folder with an exercise's file in it, such as ada/scaled_scores.py. "
            "For exercises of your own, give --course FILE.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_sentence(exercise, arguments, sentence):
    done = exercise(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"minibert: {sentence}\n")


def test_a_folder_in_the_place_of_an_answer_is_called_so(exercise):
    (exercise.folder / "gelu.py").mkdir()
    done = exercise("check", "gelu")
    sentence = "minibert: gelu.py is a folder, a pipe or a device; expected the file of your answer.\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_a_place_that_cannot_be_used_is_one_sentence(exercise):
    done = exercise("start", "gelu", "--to", 300 * "x")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "cannot be used (File name too long); give another place" in done.stderr


def test_notes_that_are_damaged_are_named_and_nothing_is_lost(exercise):
    (exercise.folder / ".minibert-exercises.json").write_text('{"gelu": ')
    done = exercise("hint", "gelu")
    assert done.returncode == 0 and done.stdout.startswith("Hint 1 of ") and done.stderr.count("\n") == 1
    assert ".minibert-exercises.json is damaged" in done.stderr
    (exercise.folder / "gelu.py").write_text("")
    done = exercise("list")  # which says what is done, and cannot
    assert (done.returncode, done.stdout) == (1, "") and ".minibert-exercises.json is damaged" in done.stderr
    assert (exercise.folder / ".minibert-exercises.json").read_text() == '{"gelu": '


# For instructors


def snippet() -> str:
    text = GUIDE.read_text(encoding="utf-8")
    [found] = re.findall(r"```python\n(from minibert.learn import Exercise, Mistake.*?)```", text, re.DOTALL)
    return found


def test_the_guides_exercise_with_two_mistakes_has_at_most_ten_lines_and_works(exercise):
    assert len([line for line in snippet().splitlines() if line.strip()]) <= 10
    (exercise.folder / "mine.py").write_text(snippet())
    assert exercise("start", "pooled", "--course", "mine.py").returncode == 0
    file = exercise.folder / "pooled.py"
    text = file.read_text()
    assert text.endswith("# minibert exercise check pooled --course mine.py\n")
    answers = {
        "right": "first = base.last_hidden_state[:, 0]\n        pooled = F.relu(self.pre_classifier(first))",
        "pooled from [SEP]": "pooled = self.pre_classifier(base.last_hidden_state[:, -1]).relu()",
        "pooled with tanh": "pooled = self.pre_classifier(base.last_hidden_state[:, 0]).tanh()",
    }
    for name, answer in answers.items():
        file.write_text(text.replace("raise NotImplementedError", answer))
        done = exercise("check", "pooled", "--course", "mine.py")
        said = " ".join(done.stdout.split())
        if name == "right":
            assert done.returncode == 0, said
        else:
            assert f"numbers of a known mistake, '{name}': " in said and said.count("known mistake") == 1


@pytest.mark.long
def test_try_plants_each_mistake_and_says_what_it_is_called(exercise):
    (exercise.folder / "mine.py").write_text(snippet())
    done = exercise("try", "mine.py")
    rows = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert done.returncode == 0 and done.stdout.endswith("\nThe real lines pass, and each mistake is named as itself.\n")
    assert {"pooled the real lines passed", "pooled pooled from [SEP] wrong numbers, named as itself"} <= rows
    same = 'Mistake("the same again", "As before.", exercise="pooled", body="first = base.last_hidden_state[:, -1]\\n'
    same += 'pooled = F.relu(self.pre_classifier(first))")'
    (exercise.folder / "mine.py").write_text(snippet() + f"MISTAKES.append({same})\n")
    done = exercise("try", "mine.py")
    assert done.returncode == 1 and "named pooled from [SEP]  <- expected otherwise" in done.stdout


STUBBED = '''
import dataclasses
from minibert.learn.course.course import EXERCISES as THEIRS
from minibert.learn.course.exercise import Exercise

course = {{one.name: one for one in THEIRS}}
EXERCISES = [dataclasses.replace(course["gelu"], name="my-gelu", needs=(), body={gelu!r}),
             dataclasses.replace(course["silent-bias"], name="my-bias", needs=(), body={bias!r})]
'''


@pytest.mark.long
def test_try_runs_the_body_of_an_exercise_that_has_no_real_lines_and_the_mistakes_of_the_one_that_it_is_a_copy_of(exercise):
    (exercise.folder / "mine.py").write_text(STUBBED.format(gelu=GELU, bias='ANSWER = "k_lin.bias"'))
    done = exercise("try", "mine.py")
    rows = {" ".join(line.split()) for line in done.stdout.splitlines()}
    theirs = [one.name for one in COURSE.mistakes_in(COURSE.find("gelu"))]
    assert done.returncode == 0, done.stdout
    assert {"my-gelu the real lines passed", "my-bias the real lines passed", "my-bias a mistake not tried: none is known"} <= rows
    assert len(theirs) == 7 and {f"my-gelu {name} wrong numbers, named as itself" for name in theirs} <= rows
    (exercise.folder / "mine.py").write_text(STUBBED.format(gelu="return input", bias='ANSWER = "q_lin.bias"'))
    done = exercise("try", "mine.py")
    assert done.returncode == 1 and done.stdout.count("<- expected otherwise") == 2
    assert done.stdout.endswith("\n2 of these are not as wanted.\n")


def test_try_says_what_it_could_not_try_and_is_not_green_there(exercise):
    (exercise.folder / "mine.py").write_text(STUBBED.format(gelu="", bias=""))
    done = exercise("try", "mine.py")
    rows = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert done.returncode == 1
    said = "the real lines not tried: the source has none <- expected right lines as its `body`"
    assert {f"my-gelu {said}", f"my-bias {said}"} <= rows
    assert done.stdout.endswith("\nThe real lines of my-gelu, my-bias were not tried.\n")


def test_an_instructors_file_is_not_taken_for_a_students(exercise):
    (exercise.folder / "pooled.py").write_text(snippet())
    for verb in ("start", "check", "reset"):
        done = exercise(verb, "pooled", "--course", "pooled.py")
        assert done.returncode == 1 and "pooled.py would be the file of the exercise pooled too" in done.stderr
    assert (exercise.folder / "pooled.py").read_text() == snippet()


def test_the_template_of_new_is_an_exercise_as_it_stands(exercise):
    (exercise.folder / "mine.py").write_text(exercise("new").stdout)
    listed = exercise("list", "--course", "mine.py").stdout
    assert f"{len(COURSE.exercises) + 1}  pooled" in listed
    assert exercise("start", "pooled", "--course", "mine.py").returncode == 0
    assert "raise NotImplementedError" in (exercise.folder / "pooled.py").read_text()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("EXERCISES = [", "mine.py cannot be run: SyntaxError: "),
        ("x = 1", "mine.py has no list EXERCISES (and perhaps MISTAKES)"),
        ("EXERCISES = [1]", "mine.py has the exercise 1; expected an Exercise"),
        (snippet().replace('"pooled", ', '"Pooled one", '), "has the exercise 'Pooled one'; expected an Exercise with a name"),
        (snippet().replace('"pooled", ', '"head", '), "mine.py calls something 'head', and an exercise or a mistake has"),
    ],
)
def test_an_instructors_file_that_cannot_be_used_is_one_sentence(exercise, content, sentence):
    (exercise.folder / "mine.py").write_text(content)
    done = exercise("list", "--course", "mine.py")
    assert done.returncode == 1 and sentence in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.long
def test_a_class_is_graded_each_hand_in_apart(exercise):
    hand_ins = {
        "ada": {"gelu": GELU, "softmax": "return input.softmax(dim)"},
        "grace": {"gelu": "return input.clamp(min=0)", "softmax": "raise NotImplementedError"},
        "loop": {"gelu": "while True: pass"},
        "sœur ☃": {"gelu": "import os; os._exit(1)"},
        "thief": {"gelu": "torch.erf = torch.tanh\nreturn input", "softmax": "x = (input - input.amax(dim, True)).exp()\n"
                                                                             "return x / x.sum(dim, True)"},
        "empty": {},
    }  # fmt: skip
    for student, files in hand_ins.items():
        (exercise.folder / student).mkdir()
        for name, body in files.items():
            write(exercise.folder / student, name, body)
    (exercise.folder / "ada" / "notes.txt").write_text("mine")
    (exercise.folder / "grace" / "wordpiece.py").write_bytes(b"\xff\xfe not utf-8")

    (exercise.folder / "empty" / "gelu (1).py").write_text("")

    done = exercise("grade", ".")
    assert done.returncode == 0
    why = "minibert: not graded, since no exercise has a file of that name"
    assert done.stderr == f"{why}: ada/notes.txt\n{why}: empty/gelu (1).py\n"
    rows = {line[:6].strip(): line[6:].split() for line in done.stdout.split("\n\n")[0].splitlines()}
    assert rows["ada"] == [".", "-", "+", "1", "of", "3"] or rows["ada"] == [".", "o", "+", "1", "of", "3"]
    assert rows["grace"][:3] == ["-", "o", "-"] and rows["loop"][:3] == [".", ".", "-"] and rows["empty"][:3] == [".", ".", "."]
    assert rows["thief"][:3] == [".", "+", "-"] and rows["sœur ☃"][:3] == [".", ".", "-"]
    assert "gelu: 1 of 5 hand-ins passed" in done.stdout and "ReLU (1)" in done.stdout

    lines = [json.loads(line) for line in exercise("grade", ".", "--json").stdout.splitlines()]
    assert len(lines) == sum(map(len, hand_ins.values())) + 1
    found = {(line["student"], line["exercise"]): line for line in lines}
    assert found["grace", "gelu"]["mistake"] == "ReLU" and found["ada", "gelu"]["passed"] is True
    assert "not UTF-8" in found["grace", "wordpiece"]["text"]


def hand_in(folder: Path, name: str, body: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, name, body)


def test_what_was_asked_is_counted_and_not_what_anybody_handed_in(exercise):
    hand_in(exercise.folder / "class" / "ada", "softmax", "raise NotImplementedError")
    hand_in(exercise.folder / "class" / "ada", "residual", "raise NotImplementedError")
    (exercise.folder / "class" / "grace").mkdir()
    done = exercise("grade", "class", "--only", "softmax,masking, gelu")
    rows = [line.split() for line in done.stdout.split("\n\n")[0].splitlines()]
    assert rows == [["1", "2", "3", "passed"], ["ada", ".", "o", ".", "0", "of", "3"], ["grace", ".", ".", ".", "0", "of", "3"]]
    assert "1  masking: 0 of 0 hand-ins passed" in done.stdout and "residual" not in done.stdout and "--only" not in done.stdout
    assert done.stderr == "minibert: not graded, since this exercise was not asked: ada/residual.py\n"
    done = exercise("grade", "class")
    assert "The columns are the exercises of which anybody handed in a file; --only NAME,NAME says" in done.stdout
    done = exercise("grade", "class", "--only", "")
    assert (done.returncode, done.stderr) == (1, "minibert: there is no exercise ''; `minibert exercise list` has them all.\n")


def test_every_file_that_is_not_graded_is_named_with_the_reason(exercise):
    room = exercise.folder / "class"
    hand_in(room / "ada" / "week 1", "softmax", "")
    hand_in(room, "gelu", "")
    (room / "grace" / "softmax.py").mkdir(parents=True)
    (room / "grace" / "__pycache__").mkdir()
    for file in ("hw.zip", "masking.py.txt", ".DS_Store", "__pycache__/softmax.pyc"):
        (room / "grace" / file).write_text("")
    done = exercise("grade", "class")
    *named, last = done.stderr.removesuffix("\n").split("\n")
    assert last.startswith("minibert: class has no folder with an exercise's file in it") and done.returncode == 1
    assert [line.removeprefix("minibert: not graded, since ") for line in named] == [
        "it does not lie right in a student's folder: ada/week 1/softmax.py",
        "it does not lie right in a student's folder: gelu.py",
        "no exercise has a file of that name: grace/hw.zip",
        "no exercise has a file of that name: grace/masking.py.txt",
        "it is not a file: grace/softmax.py",
    ]


def test_mistakes_that_are_as_frequent_come_in_the_order_of_their_names(capsys):
    names = ["tanh", "ReLU", "no scale", "mask", "eps", "bias", "axis", "rows", "eps"]  # a set of them is in chance's order
    _print(["gelu"], {str(number): {"gelu": Report("gelu", "wrong numbers", "", name)} for number, name in enumerate(names)})
    expected = "eps (2), ReLU (1), axis (1), bias (1), mask (1), no scale (1), rows (1), tanh (1)"
    assert capsys.readouterr().out.endswith(f" 1  gelu: 0 of 9 hand-ins passed; {expected}\n")
