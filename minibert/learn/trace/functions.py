"""A function found by its full name, "minibert.model.FeedForward.forward", and for a while replaced by another."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def resolve(target: str) -> tuple[ModuleType, Any, str]:
    """A target's module, the class or module that holds it, and its name there. Raises LookupError in one sentence."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        owner: Any = module
        for name in parts[length:-1]:
            owner = getattr(owner, name, None)
        if not hasattr(owner, parts[-1]):
            raise LookupError(f"{module.__name__} has no {'.'.join(parts[length:])}; expected the target of an exercise.")
        return module, owner, parts[-1]
    raise LookupError(f"there is no {target}; expected the target of an exercise, such as minibert.model.FeedForward.forward.")


@contextmanager
def replaced(target: str, function: Callable[..., Any], helpers: dict[str, Any] | None = None) -> Iterator[None]:
    """While this is open, a function stands in its target's place, and its helpers beside it."""
    _, owner, name = resolve(target)
    before = getattr(owner, name)
    setattr(owner, name, function)
    for key, value in (helpers or {}).items():
        setattr(owner, key, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
        for key in helpers or {}:
            delattr(owner, key)
