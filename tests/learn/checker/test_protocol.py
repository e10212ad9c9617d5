"""What goes between the process of an answer and the one that judges it: data, as it was, and nothing that could be run."""

import enum
import json
import math
import mmap
import multiprocessing
from dataclasses import dataclass
from typing import NamedTuple

from minibert.learn.checker.check import STAGES
from minibert.learn.checker.exceptions import CheckFailed
from minibert.learn.checker.protocol import ROOM, Channel, Remote
from minibert.learn.checker.trial import Run
from minibert.learn.course.registry import course
from minibert.learn.trace.tape import leaves

import pytest
import torch


class Pair(NamedTuple):
    one: int
    other: str


class Colour(enum.IntEnum):
    RED = 3


@dataclass
class Output:
    logits: torch.Tensor
    loss: None = None


@pytest.fixture(params=["through the pipe", "in memory that both see"])
def sent(request):
    """Sends a value, and says what arrives."""
    room = mmap.mmap(-1, ROOM) if "memory" in request.param else None

    def through(value):
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs:
            Channel(theirs, (), room).send(value)
            return Channel(ours, (), room).receive()

    return through


PLAIN = [
    None, True, 0, 10**40, -0.5, math.inf, "ż\n\ud800", [], [1, [2.0, None]], (), (1, ("a",)), {}, {(1, 2): [3], "a": None, 4: 5},
    {1, 2}, frozenset({"a"}),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_arrive_as_they_were(sent, value):
    arrived = sent(value)
    assert arrived == value and type(arrived) is type(value)


TENSORS = {
    "float64": torch.tensor([[1.5, math.nan], [-math.inf, 0]], dtype=torch.float64),
    "bfloat16": torch.tensor([1.5, -2], dtype=torch.bfloat16),
    "bool": torch.tensor([True, False]),
    "a number": torch.tensor(3),
    "empty": torch.empty(0, 4),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "expanded": torch.ones(1).expand(5),
    "complex": torch.tensor([1 + 2j]).conj(),
    "a parameter": torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_tensors_arrive_with_shape_type_and_numbers(sent, tensor):
    (_, arrived), (_, second) = leaves(sent({"one": (tensor, "between"), "other": torch.arange(4)}))
    assert (arrived.shape, arrived.dtype) == (tensor.shape, tensor.dtype)
    torch.testing.assert_close(arrived, tensor.detach(), rtol=0, atol=0, equal_nan=True)
    assert second.tolist() == [0, 1, 2, 3]


def test_types_that_are_no_data_arrive_by_name(sent):
    """Messages name them; and what they hold can be compared."""
    pair, colour, made = sent(Pair(1, "a")), sent(Colour.RED), sent(Output(torch.ones(2)))
    assert (type(pair).__name__, tuple(pair)) == ("Pair", (1, "a"))
    assert (type(colour).__name__, int(colour)) == ("Colour", 3)
    assert type(made).__name__ == "Output" and [name for name, _ in leaves(made)] == [".logits"] and made.loss is None
    other = sent(torch.float64)
    assert (type(other).__name__, repr(other)) == ("dtype", "torch.float64")
    assert other == torch.float64 and torch.float64 == other and other != torch.float32


def test_a_run_arrives_with_what_it_raised(sent):
    run = sent(Run({"a": torch.ones(1)}, CheckFailed("does not run", "why"), ("x",)))
    assert (run.values["a"].item(), run.error.stage, run.error.text, run.changed) == (1, "does not run", "why", ("x",))


def test_what_cannot_be_told_or_is_too_large_is_refused_before_anything_is_sent(sent):
    endless = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        sent(endless)
    with pytest.raises(ValueError, match=r"more than 1\.1 GB of numbers"):
        sent([torch.empty(2**27 + 1, dtype=torch.float64)])
    with pytest.raises(ValueError, match="without the tensors"):
        sent("x" * 2**24)


FORGED = {
    "nothing": b"",
    "no JSON": b"{",
    "a pickle": b"\x80\x04N.",
    "a mark": json.dumps({"finding": [STAGES[-1], "right"]}).encode(),
    "a stage that there is not": b'{"finding": ["right", ""]}',
    "a run of another kind": b'{"run": [[], null, []]}',
    "a run that raised something else": b'{"run": [{"type": "dict", "base": "dict", "of": []}, 5, []]}',
    "numbers that are not there": b'{"tensor": "float64", "shape": [3], "at": -8}',
    "too many numbers": b'{"tensor": "float64", "shape": [1000000000000]}',
    "fewer than none": b'{"tensor": "float64", "shape": [-1, 3]}',
    "numbers of no type": b'{"tensor": "load", "shape": [3]}',
    "a type without a name": b'{"type": null, "words": "a"}',
    "what is made of nothing": b'{"type": "eval", "base": "eval", "of": "1"}',
    "a field that is not a name": b'{"type": "A", "fields": {"a b": 1}}',
    "a report": b'{"exercise": "gelu", "stage": "passed", "text": "right", "mistake": ""}',
    "a deep nest": b"[" * 100_000,
}


@pytest.mark.parametrize("message", FORGED.values(), ids=FORGED)
def test_a_forged_message_ends_in_a_sentence(message):
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, pytest.raises(CheckFailed) as found:
        theirs.send_bytes(message)
        Remote(ours, course().find("mild-mask"), mmap.mmap(-1, 64)).names()
    assert (found.value.stage, found.value.text) == (
        "does not answer", "What came in place of your lines' results cannot be read.",
    )  # fmt: skip


def test_a_judge_is_told_what_it_cannot_hand_over():
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, pytest.raises(TypeError, match="an answer cannot be given Linear; expected tensors"):
        Remote(ours, course().find("mild-mask"), None).call("scores", torch.nn.Linear(1, 1))
