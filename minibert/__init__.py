"""A from-scratch DistilBERT, written to be read. Start with model.py."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .public import *  # noqa: F403

# PyTorch remarks on a missing NumPy as it is imported, and a beginner takes that for a failed installation. minibert works
# without NumPy. Whoever imports torch before minibert still reads the remark.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)


def __getattr__(name: str) -> Any:
    """A file of the package, or a name that public.py lists, when it is first asked for.

    PyTorch comes with them and takes a second. The command line is in this package too, and it has to be there before
    PyTorch, to help at once and to hear Ctrl-C meanwhile.
    """
    file = name if find_spec(f"{__name__}.{name}") else "public"
    module = import_module(f".{file}", __name__)
    return module if file == name else getattr(module, name)


def __dir__() -> list[str]:
    return [*import_module(".public", __name__).__all__, *globals()]
