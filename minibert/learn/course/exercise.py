"""What an exercise is, and where the course and an instructor's own are found.

    Exercise(
        "pooled", "minibert.model.DistilBertForSequenceClassification.forward",
        first="pooled = self.pre_classifier(first)", last="pooled = F.relu(pooled)",
        question="What does the classifier read of [CLS]?",
    )

The course itself is in course.py, the mistakes that a check knows are in mistakes_in_source.py and mistakes_in_stubs.py.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..stubs.gap import Cut
from ..stubs.sample_inputs import Case
from ..stubs.splice import arguments

NAME = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Exercise:
    """A piece of the real source that a student writes anew.

    name          as on the command line, "scaled-scores"; the student's file is scaled_scores.py
    target        full name of the function: of minibert's own, or of PyTorch's (or another library's) with a stub for it
    question      what to do and what to think about; paragraphs
    first, last   how the first and the last line of the gap begin; without them the whole body is the gap
    title, teaches, difficulty, needs     for the list: a line each, 1 to 3, the names of exercises that come before it
    hints         one is given at a time; the last hint, what the real lines call, is made from the source
    shows         what is compared at the end of the gap, as expressions in its variables, such as "scores.softmax(-1)";
                  by default the variables that the source goes on with
    stub          signature and docstring, for a target that has no lines here to be cut from
    by_hand       operations of PyTorch that an answer may not call under any of their names; see by_hand.forbidden for the default
    cases         calls to try it on, beside those that the model makes of the target; `wanted` of a Case may be left out
    in_model      whether the model calls the target
    answer        what `solution` says where there are no real lines to show; or a function that says it of a student's file
    page, judge   instead of a gap: what stands in the file below the question, and who says what is wrong with the names that
                  the file defines and its text: a sentence, or None. The judge gets data, and functions that take and return
                  data, since the file runs in another process; of other objects, only the type's name and the repr
    body          right lines, for `try` alone, where the source has none to be cut out: for a stub's gap; or lines that, at the
                  end of the page, give its answer
    """

    name: str
    target: str
    question: str
    first: str = ""
    last: str = ""
    title: str = ""
    teaches: str = ""
    difficulty: int = 1
    needs: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    stub: str = ""
    by_hand: tuple[str, ...] = ()
    cases: Callable[[], list[Case]] | None = None
    in_model: bool = True
    answer: str | Callable[[str], str] = ""
    page: Callable[[], str] | None = None
    judge: Callable[[dict[str, Any], str], str | None] | None = None
    body: str = ""

    @functools.cached_property
    def cut(self) -> Cut:
        return Cut(self.target, self.first, self.last, self.stub)

    def has_the_gap_of(self, other: "Exercise") -> bool:
        """Whether the same lines fit both, as those of an exercise and its copy under another name do."""
        if self.judge or other.judge or (self.target, bool(self.stub)) != (other.target, bool(other.stub)):
            return False
        if self.stub:
            return arguments(self.cut.function) == arguments(other.cut.function)
        return self.cut.solution == other.cut.solution
