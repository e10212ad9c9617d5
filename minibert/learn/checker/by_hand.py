"""What an answer may not let PyTorch do for it, where an operation is to be written by hand.

An operation of PyTorch has many names, F.softmax, x.softmax, torch.special.softmax, nn.Softmax, torch.ops.aten.softmax, and one
operator beneath, _softmax. The guard looks at the operators that run. It looks at the functions that are called too, since one
such as F.cross_entropy of probabilities is made of other operators. It does not see what another thread calls, nor Python code that
writes the operation out as a student would, such as torch._refs.
"""

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..course.exercise import Exercise
from .trial import cases_of, real


class Guard(contextlib.ExitStack):
    """While it is open, notes the first operation that is called and forbidden.

    names   of what is forbidden: "softmax" stands for _softmax and _log_softmax too
    file    of the answer

    found   the operation's name, or ""
    line    from which line of the file it was called; 0 where that cannot be told
    """

    def __init__(self, names: frozenset[str], file: str):
        super().__init__()
        self.names, self.file = names, file
        self.found, self.line = "", 0

    def __enter__(self) -> "Guard":
        if self.names:
            self.enter_context(_Operators(self.note))
            self.enter_context(_Functions(self.note))
        return self

    def note(self, name: str) -> None:
        """Whether a name is, word by word, one that is forbidden, or has it within."""
        if not self.found and any(f"_{one}_" in f"_{name}_" for one in self.names):
            frame = sys._getframe(1)
            while frame.f_code.co_filename != self.file and frame.f_back is not None:
                frame = frame.f_back
            self.found, self.line = name, frame.f_lineno if frame.f_code.co_filename == self.file else 0


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, note: Callable[[str], None]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and torch._dynamo, which would be told to stay away, takes seconds to import."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    def __init__(self, note: Callable[[str], None]):
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@functools.cache
def forbidden(exercise: Exercise) -> frozenset[str]:
    """The names of the operations that an answer may not call.

    By default, where there is a stub for a function of PyTorch's, these are its own name and the operators that run beneath it;
    but its name alone where it is made of arithmetic, that is of operators that tensors have as methods, such as add and exp.
    """
    if exercise.by_hand or not exercise.stub or exercise.cut.module.__name__.partition(".")[0] != "torch":
        return frozenset(exercise.by_hand)
    case, name, beneath = cases_of(exercise)[0], exercise.target.rpartition(".")[2], set[str]()
    with _Operators(beneath.add):
        run = real(exercise).run(case)
    if run.error is not None:  # it takes other arguments than the stub does: the cases alone know what is right
        return frozenset()
    return frozenset({name} if any(hasattr(Tensor, one) for one in beneath - {name}) else {name, *beneath})
