"""What an instructor got wrong in an exercise or a mistake is told in one sentence, before a student meets it."""

from minibert.learn.classroom.validate_course import check_file
from minibert.learn.course.exercise import Exercise
from minibert.learn.course.mistakes_in_source import Mistake
from minibert.learn.course.registry import Course, course
from minibert.learn.stubs.sample_inputs import Case

import pytest

HEAD = "minibert.model.DistilBertForSequenceClassification.forward"
STUB = 'def silu(input: Tensor) -> Tensor:\n    """x * sigmoid(x)"""'
SILU = {"target": "torch.nn.functional.silu", "stub": STUB}


def told(exercises, mistakes):
    known = course()
    whole = Course((*known.exercises, *exercises), (*known.mistakes, *mistakes), "mine.py", len(exercises), len(mistakes))
    with pytest.raises(ValueError) as raised:
        check_file(whole, exercises, mistakes)
    assert "\n" not in str(raised.value)
    return str(raised.value)


EXERCISES = {
    "no such module": ({"target": "minibert.absent.f"}, "has no absent.f; expected the target"),
    "no such class": ({"target": "minibert.model.Absent.forward"}, "minibert.model has no Absent.forward"),
    "a class": ({"target": "minibert.model.FeedForward"}, "is not a function that is written in Python"),
    "no such line": ({"first": "absent = "}, "has 0 statements with a line that begins 'absent = '"),
    "two such lines": ({"first": "pooled = "}, "has 3 statements with a line that begins 'pooled = '"),
    "last before first": ({"first": "logits = ", "last": "first = "}, "'first = ' comes before 'logits = '"),
    "hints as one string": ({"hints": "think"}, "hints is 'think'; expected a tuple of strings"),
    "nine stars": ({"difficulty": 9}, "difficulty is 9; expected 1, 2 or 3"),
    "needs what is not there": ({"needs": ("absent",)}, "it needs 'absent', and there is no such exercise"),
    "a stub that is none": ({"target": "torch.nn.functional.gelu", "stub": "gelu"}, "its stub"),
    "a stub with a mistake": ({"target": "torch.nn.functional.gelu", "stub": "def gelu("}, "its stub cannot be used"),
    "never called": (SILU, "the model does not call its target; expected in_model=False"),
    "nothing to try it on": (SILU | {"in_model": False}, "there is nothing to try it on"),
    "cases that are a list": ({"cases": [Case((1,))]}, "cases is a list; expected a function"),
    "cases that raise": ({"cases": lambda: 1 / 0}, "its cases cannot be used (ZeroDivisionError: division by zero)"),
    "a body beside the real lines": ({"body": "pooled = first"}, "it has a body, and the source has its lines already"),
    "a broken body": (
        {"target": "torch.nn.functional.gelu", "stub": "def f(x):\n    'x'", "body": "return ("},
        "its body cannot be used",
    ),
    "a judge without a page": ({"judge": lambda namespace, text: None}, "it has a judge and no page"),
}


@pytest.mark.parametrize(("fields", "sentence"), EXERCISES.values(), ids=EXERCISES)
def test_an_exercise_that_cannot_be_used_is_named_with_the_reason(fields, sentence):
    said = told([Exercise(**({"name": "mine", "target": HEAD, "question": "Which?"} | fields))], [])
    assert said.startswith("exercise mine: ") and sentence in said


MISTAKES = {
    "a text that is not there": ({"edit": ("absent = 1", "absent = 2")}, "'absent = 1' stands 0 times in the source"),
    "a text that stands twice": ({"edit": ("self.dropout(", "F.dropout(")}, "'self.dropout(' stands 4 times in the source"),
    "in nobody's gap": ({"edit": ("LAYER_NORM_EPS = 1e-12", "LAYER_NORM_EPS = 1")}, "it lies in no exercise's gap"),
    "an odd edit": ({"edit": ("logits = self.classifier(pooled)",)}, "its edit has 1 parts; expected pairs"),
    "a broken edit": ({"edit": ("word_vectors + position_vectors", "word_vectors +")}, "its lines cannot be used in embedding-sum"),
    "a broken body": ({"exercise": "gelu", "body": "return ("}, "its lines cannot be used in gelu"),
    "nothing changed": ({"edit": ("+ position_vectors", "+  position_vectors")}, "it changes nothing in embedding-sum"),
    "no such exercise": ({"exercise": "absent", "body": "return input"}, "there is no exercise 'absent'"),
    "a body for nobody": ({"body": "return input"}, "expected an edit, or an exercise with a body"),
    "neither": ({}, "expected an edit, or an exercise with a body"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_that_cannot_be_planted_is_named_with_the_reason(fields, sentence):
    said = told([], [Mistake("mine too", "Wrong.", **fields)])
    assert said.startswith("mistake 'mine too': ") and sentence in said


def test_the_courses_own_can_be_used():
    known = course()
    placed = [one for one in known.mistakes if any(one in known.mistakes_in(exercise) for exercise in known.exercises)]
    check_file(known, known.exercises[::4], placed)  # one in four, for each runs the model
    assert len(placed) >= 100
