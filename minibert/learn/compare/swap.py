"""Somebody's own module in the model's place: the same weights, another way to compute, and perhaps parameters of its own.

    variant = swap(model, "MultiHeadSelfAttention", load_class("my_attention.py:EinsumAttention"))
"""

import copy
import importlib.util
import sys
from pathlib import Path

from torch import nn

from ... import model as architecture
from ...config import DistilBertConfig
from ...model import DistilBertForSequenceClassification


def parse(options: list[str]) -> dict[str, type[nn.Module]]:
    """Reads options such as "MultiHeadSelfAttention=my_attention.py:EinsumAttention".

    return   model.py's class and the class for its place, the outer modules before those within them

    Raises ValueError or OSError in one sentence.
    """
    names = [
        key for key, found in vars(architecture).items()
        if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == architecture.__name__
    ]
    swaps: dict[str, type[nn.Module]] = {}
    for option in options:
        name, equals, where = option.partition("=")
        if not equals or ":" not in where:
            raise ValueError(f"--swap is {option!r}; expected Class=file.py:Class, such as FeedForward=mine.py:MyFeedForward.")
        if name not in names:
            raise ValueError(f"--swap: model.py has no class {name}; it has {', '.join(names)}.")
        if name in swaps:
            raise ValueError(f"--swap names {name} twice; expected one class in its place.")
        swaps[name] = load_class(where)
    return {name: swaps[name] for name in reversed(names) if name in swaps}  # model.py has the inner ones first


def load_class(where: str) -> type[nn.Module]:
    """The module class at "file.py:Class". Raises ValueError or OSError in one sentence."""
    file, _, name = where.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{file} is not there; expected a Python file with the class {name}.")
    specification = importlib.util.spec_from_file_location(f"swapped_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ValueError(f"{file} is not a Python file; expected a name that ends in .py.")
    module = sys.modules[specification.name] = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(path.parent))  # so that the file may import its neighbours, as when it is run
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{file} has no class {name} that is an nn.Module.")
    return found


def swap(
    model: DistilBertForSequenceClassification, name: str, other: type[nn.Module]
) -> DistilBertForSequenceClassification:
    """A copy of the model in which every module of model.py's class `name` is one of `other`, with the same weights.

    other   takes a DistilBertConfig, has the original's parameters by name and shape, and returns what the original returns;
            parameters that the original has not, such as an adapter's, keep what the class itself gives them

    Raises ValueError where it cannot be made, lacks a parameter or has it in another shape, or there is no such module.
    """
    whole = nn.ModuleDict({"model": copy.deepcopy(model)})  # so that the classifier itself has a place too
    places = [path for path, module in whole.named_modules() if type(module) is getattr(architecture, name)]
    if not places:
        raise ValueError(f"the model has no {name} that could be swapped; another swap has put something else in its place.")
    for path in places:
        parent, _, attribute = path.rpartition(".")
        setattr(whole.get_submodule(parent), attribute, _like(whole.get_submodule(path), other, model.config))
    return whole["model"].eval()  # type: ignore[return-value]


def _like(module: nn.Module, other: type[nn.Module], config: DistilBertConfig) -> nn.Module:
    """One of `other` with the weights of a module; what it has beyond them stays as it was made."""
    try:
        made = other(config)
    except Exception as error:
        raise ValueError(
            f"{other.__name__}(config) raised {type(error).__name__}: {error}; expected a module that takes a DistilBertConfig."
        ) from error
    wanted, has = module.state_dict(), made.state_dict()
    for key in sorted(wanted):
        if key not in has or has[key].shape != wanted[key].shape:
            one, two = (f"{key} {tuple(state[key].shape)}" if key in state else f"no {key}" for state in (has, wanted))
            raise ValueError(f"{other.__name__} has {one}, and {type(module).__name__} has {two}; expected the same parameters.")
    made.to(next(iter(wanted.values())).dtype).load_state_dict(has | wanted)
    return made
