"""A student's file in the process in which its lines run. Whatever they raise is put into words here, beside the traceback.

    check.py, which judges  -- run(case) -->  answer.py: Answer, or Page  -->  the student's lines
                            <--  data   --

Nothing here says that an answer is right: an examination asks by method and compares what comes back. So it does not matter to it
whether the answer is in its own process, or in another one (protocol.py).
"""

import contextlib
import importlib.abc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..course.exercise import Exercise
from ..stubs.sample_inputs import Case, sample_model
from ..stubs.splice import BEHIND, graft
from ..trace.functions import resolve
from ..trace.tape import Tape, leaves
from .by_hand import Guard, forbidden
from .exceptions import SECONDS, CheckFailed, describe_exception, own_frame, time_limit
from .trial import Run, Trial, shown
from .wrong_kind import other_sizes, quoted

JUDGING = 15  # seconds of computing for a judge, who may run whole models


def load(exercise: Exercise, text: str, file: str) -> "Answer | Page":
    """What a file holds. Raises CheckFailed where it cannot be used.

    text   of the file
    file   where it stands
    """
    return Page(text, file) if exercise.judge else Answer(exercise, text, file)


def hide(exercise: Exercise) -> Callable[[], None]:
    """Takes this package's checks out of reach, since an answer could pass by them. For its own process.

    return   what takes the real function away too: while its file is loaded, an answer may still try the real model
    """
    sys.meta_path.insert(0, _NotHere())
    for name in [name for name in sys.modules if _NotHere.hides(name)]:
        del sys.modules[name]
    vars(sys.modules["minibert"]).pop("learn", None)
    gone: list[bool] = []
    if not exercise.stub and not exercise.judge:
        _, owner, name = resolve(exercise.target)
        real = getattr(owner, name)

        def until_then(*args: Any, **kwargs: Any) -> Any:
            if gone:
                told = f"Your lines call the real {exercise.cut.qualname}; here it is to be written anew."
                raise CheckFailed("not written", told)
            return real(*args, **kwargs)

        setattr(owner, name, until_then)  # and no __wrapped__, which would lead to the real one
    return lambda: gone.append(True)


class _NotHere(importlib.abc.MetaPathFinder):
    @staticmethod
    def hides(name: str) -> bool:
        return f"{name}.".startswith("minibert.learn.")

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if self.hides(name):
            raise ImportError(f"{name} is not to be had within an answer")


class Answer:
    """Lines in the place of the real ones. Has Trial's methods; all of them raise CheckFailed where the lines raise."""

    def __init__(self, exercise: Exercise, text: str, file: str):
        self.exercise, self.text, self.file = exercise, text, file
        with in_words(file, text):
            self.trial = Trial(exercise, graft(exercise.cut, text, file), shown(exercise))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.trial, name)

        def asked(*args: Any, **kwargs: Any) -> Any:
            with in_words(self.file, self.text, next((one for one in args if isinstance(one, Case)), None)):
                return method(*args, **kwargs)

        return asked

    def run(self, case: Case, seed: int = 0) -> Run:
        """As Trial's. What the source behind the gap raises comes as the error, a CheckFailed, since the values may tell more."""
        with in_words(self.file, self.text, case), Guard(forbidden(self.exercise), self.file) as guard:
            run = self.trial.run(case, seed)
        if guard.found:
            who = f"Line {guard.line} calls" if guard.line else "Your lines call"
            line = f"\n    {self.text.splitlines()[guard.line - 1].strip()}" if guard.line else ""
            raise CheckFailed("not written", f"{who} PyTorch's {guard.found}; here it is to be written by hand.{line}")
        for name, value in run.values.items():
            for part, tensor in leaves(value):
                if tensor.device.type != "cpu":
                    text = f"{quoted(name + part)} is on {tensor.device}; expected it on cpu, where its input is."
                    raise CheckFailed("wrong kind", text)
        return run if run.error is None else replace(run, error=self._raised(run.error, case))

    def _raised(self, error: Exception, case: Case) -> CheckFailed:
        """Raises what the lines themselves raised, or did not make; returns what the source could not go on with."""
        place = own_frame(error, self.file)
        if place is not None and place[1] < BEHIND:
            raise _trouble(error, self.file, self.text, case) from error
        cut, made = self.exercise.cut, self.trial.graft.made
        lost = [name for name in cut.makes if made and name not in made[-1]]
        if lost:
            raise CheckFailed("does not run", f"Your lines make no variable `{lost[0]}`, and the source goes on with it.")
        where = f"Line {place[1] - BEHIND} of {cut.module.__name__}, which goes on with what you made," if place else "It"
        return CheckFailed("does not run", f"{where} raised {type(error).__name__}: {error}.")

    def arises(self, case: Case, nan: bool) -> str:
        """The first line that makes NaN, or, if that is not what came out, something infinite; and a row that has no softmax."""
        is_odd = Tensor.isnan if nan else Tensor.isinf
        with in_words(self.file, self.text, case), Tape(nn.Identity(), also=[self.trial.graft.function]) as tape:
            self.trial.run(case)
        text, rows = "", ""
        for record in tape.records:
            if record.line >= BEHIND or text:
                break
            if record.tensor.dim() and record.tensor.shape[-1] > 1 and (record.tensor == -torch.inf).all(-1).any() and nan:
                rows = f"\nA row of `{record.name}` is -inf throughout. It has no softmax: exp(-inf) is 0, and 0 / 0 is NaN."
            if not record.argument and is_odd(record.tensor).any():
                line = self.text.splitlines()[record.line - 1].strip()
                which_one = "NaN" if nan else "infinite number"
                text = f"\nThe first {which_one} is made in line {record.line}, with `{record.name}`:\n    {line}"
        return text + rows


class Page:
    """A file with an answer in place of code, for an exercise that brings a judge of its own."""

    def __init__(self, text: str, file: str):
        self.text, self.file = text, file
        self.namespace: dict[str, Any] = {"__name__": "exercise", "__file__": file}
        with in_words(file, text):
            exec(compile(text, file, "exec"), self.namespace)

    def names(self) -> tuple[dict[str, Any], list[str]]:
        """What the file defines, and the names of what of it can be called."""
        defined = {name: value for name, value in self.namespace.items() if not name.startswith("__")}
        functions = [name for name, value in defined.items() if callable(value)]
        return {name: value for name, value in defined.items() if name not in functions}, functions

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Calls one of them."""
        with in_words(self.file, self.text, seconds=JUDGING):
            return self.namespace[name](*args, **kwargs)


@contextlib.contextmanager
def in_words(file: str, text: str, case: Case | None = None, seconds: int = SECONDS) -> Iterator[None]:
    """Whatever is raised within becomes a CheckFailed, and so does what takes too long."""
    try:
        with time_limit(seconds):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _trouble(error, file, text, case) from error


def _trouble(error: BaseException, file: str, text: str, case: Case | None) -> CheckFailed:
    found = describe_exception(error, file, text, sample_model().axis_of(case.batch if case else None))
    return CheckFailed(found.stage, found.text + (other_sizes(case) if case else ""), found.mistake)
