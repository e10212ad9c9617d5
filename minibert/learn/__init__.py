"""What teaches: the source beside its tensors, two models compared, exercises made of the source and checked.

The rooms, from bottom to top. Each imports only those above it in this list, the textbook and storage/:

    trace/       which tensor each source line produced
    listing/     a trace as text for the terminal and as one HTML page
    compare/     where two models differ, and which line or weight causes it
    stubs/       a piece of the source taken out, handed out, and put back with a student's lines
    course/      the exercises and the known mistakes
    checker/     what is wrong with an answer, in words; every check runs in processes of its own
    classroom/   a student's folder, an instructor's own exercises, a class graded
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .course.exercise import Exercise
    from .course.mistakes_in_source import Mistake
    from .listing.explanation import Explanation, explain
    from .trace.tape import Tape

__all__ = ["Exercise", "Explanation", "Mistake", "Tape", "explain"]

HOMES = {"Exercise": "course.exercise", "Mistake": "course.mistakes_in_source", "Tape": "trace.tape"}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: a check needs no page, and the page no exercises."""
    if name in __all__:
        return getattr(import_module(f".{HOMES.get(name, 'listing.explanation')}", __name__), name)
    raise AttributeError(f"minibert.learn has no {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
