"""The tape shows which tensor each line made, for any model in plain PyTorch, and the run is the same as without it."""

import ast
import cProfile
import importlib.util
import inspect
import itertools
import linecache
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import minibert.model
from minibert import DistilBertConfig, DistilBertForSequenceClassification
from minibert.learn.trace.tape import Tape

import pytest
import torch
import transformers
from torch import nn

HEADER = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
NUMBER = itertools.count()


def load(folder, text, header=HEADER):
    """A module made of this text, after three lines of imports."""
    file = folder / f"written_{next(NUMBER)}.py"
    file.write_text(header + text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # where a dataclass looks for its own module
    spec.loader.exec_module(module)
    return module


def taped(model, *inputs, **named):
    with Tape(model) as tape:
        model(*inputs, **named)
    return tape


@pytest.fixture
def rows(tmp_path):
    """Runs a forward, given as its lines, on the vector (1, 2, 3); returns (line in the forward, name, numbers)."""

    def run(body, before="", x=(1.0, 2.0, 3.0)):
        text = f"{before}class Net(nn.Module):\n    def forward(self, x):\n"
        first = (HEADER + text).count("\n")
        text += "".join(f"        {line}\n" for line in body.splitlines())
        run.tape = taped(load(tmp_path, text).Net(), torch.tensor(x))
        return [(r.line - first, r.name, r.tensor.tolist()) for r in run.tape.records if not r.argument]

    return run


# What a line shows

FORWARDS = {
    "nested expressions": ("y = (x * 2 + 1).sum()", [(1, "x * 2", [2, 4, 6]), (1, "x * 2 + 1", [3, 5, 7]), (1, "y", 15)]),
    "added in place": ("y = x * 1\ny += 1\nz = y * 10", [(1, "y", [1, 2, 3]), (2, "y", [2, 3, 4]), (3, "z", [20, 30, 40])]),
    "a method in place": ("y = x * 1\ny.add_(1)", [(1, "y", [1, 2, 3]), (2, "y.add_(1)", [2, 3, 4])]),
    "an item in place": ("y = x * 1\ny[0] = 9", [(1, "y", [1, 2, 3]), (2, "y", [9, 2, 3])]),
    "an item changed in place": (
        "y = x * 1\ny[0] += 8",
        [(1, "y", [1, 2, 3]), (2, "y[0]", 1), (2, "y[0] += 8", 9), (2, "y", [9, 2, 3])],
    ),
    "an item of an attribute": ("self.y = x * 1\nself.y[1:] = 0", [(1, "self.y", [1, 2, 3]), (2, "self.y", [1, 0, 0])]),
    "a value put into an item": (
        "y = x * 1\ny[:2] = x[1:] * 2",
        [(1, "y", [1, 2, 3]), (2, "x[1:]", [2, 3]), (2, "x[1:] * 2", [4, 6]), (2, "y", [4, 6, 3])],
    ),
    "a number that becomes a tensor": ("y = 0\ny += x", [(2, "y", [1, 2, 3])]),
    "a loop": ("for i in range(3):\n    x = x + i", [(2, "x", [1, 2, 3]), (2, "x", [2, 3, 4]), (2, "x", [4, 5, 6])]),
    "a list comprehension": (
        "ys = [x * i for i in (2, 3)]",
        [(1, "x * i", [2, 4, 6]), (1, "x * i", [3, 6, 9]), (1, "ys[0]", [2, 4, 6]), (1, "ys[1]", [3, 6, 9])],
    ),
    "a dict comprehension": ("ys = {i: x * i for i in (2,)}", [(1, "x * i", [2, 4, 6]), (1, "ys[2]", [2, 4, 6])]),
    "an item of a comprehension": ("y = [x * i for i in (2,)][-1]", [(1, "x * i", [2, 4, 6]), (1, "y", [2, 4, 6])]),
    "a generator expression": (
        "y = torch.stack(tuple(x * i for i in (2, 3)))",
        [(1, "x * i", [2, 4, 6]), (1, "x * i", [3, 6, 9]), (1, "y", [[2, 4, 6], [3, 6, 9]])],
    ),
    "a generator that makes the value": ("y = max(x.sum() for i in (2,))", [(1, "x.sum()", 6)]),
    "a lambda": ("double = lambda t: t * 2\ny = double(x)", [(1, "t * 2", [2, 4, 6]), (2, "y", [2, 4, 6])]),
    "a method chain over lines": (
        "y = (\n    x\n    .view(3, 1)\n    .add(\n        1\n    )\n)",
        [(1, "view(3, 1)", [[1], [2], [3]]), (1, "y", [[2], [3], [4]])],
    ),
    "a call over lines": ("y = torch.add(\n    x,\n    x * 2,\n)", [(1, "x * 2", [2, 4, 6]), (1, "y", [3, 6, 9])]),
    "a conditional expression": ("y = x + 1 if x.dim() else x - 1", [(1, "y", [2, 3, 4])]),
    "the other side of one": ("y = x + 1 if x.dim() > 1 else x - 1", [(1, "y", [0, 1, 2])]),
    "unpacked": ("a, b = x.split([1, 2])", [(1, "a", [1]), (1, "b", [2, 3])]),
    "unpacked one by one": ("a, b = x + 1, x + 2", [(1, "a", [2, 3, 4]), (1, "b", [3, 4, 5])]),
    "swapped": (
        "a, b = x + 1, x + 2\na, b = b * 1, a * 1",
        [(1, "a", [2, 3, 4]), (1, "b", [3, 4, 5]), (2, "a", [3, 4, 5]), (2, "b", [2, 3, 4])],
    ),
    "unpacked with a star": ("a, *b = x.split(1)", [(1, "a", [1]), (1, "b[0]", [2]), (1, "b[1]", [3])]),
    "unpacked in parentheses": (
        "(a, b), c = x[:2].split(1), x[2:] * 1",
        [(1, "x[:2]", [1, 2]), (1, "a", [1]), (1, "b", [2]), (1, "x[2:]", [3]), (1, "c", [3])],
    ),
    "a tensor unpacked": ("a, b, c = x", [(1, "a", 1), (1, "b", 2), (1, "c", 3)]),
    "a loop over a tensor": ("y = 0\nfor item in x[1:]:\n    y = y * 10 + item", [
        (2, "x[1:]", [2, 3]),
        (3, "y", 2), (3, "y * 10", 20), (3, "y", 23),
    ]),
    "an item of a tuple": ("y = x.split(1)[1]", [(1, "y", [2]), (1, "x.split(1)[0]", [1]), (1, "x.split(1)[2]", [3])]),
    "the last of a tuple": ("y = x.split([1, 2])[-1]", [(1, "y", [2, 3]), (1, "x.split([1, 2])[0]", [1])]),
    "an attribute of a named tuple": ("y = x.max(dim=0).values", [(1, "y", 3), (1, "x.max(dim=0)[1]", 2)]),
    "an item of a tensor": ("y = (x * 2)[1]", [(1, "x * 2", [2, 4, 6]), (1, "y", 4)]),
    "an attribute of a tensor": (
        "y = (x[None] * 2).mT",
        [(1, "x[None]", [[1, 2, 3]]), (1, "x[None] * 2", [[2, 4, 6]]), (1, "y", [[2], [4], [6]])],
    ),
    "a walrus": (
        "if (y := x * 2).sum() > 11:\n    z = y + 1",
        [(1, "y", [2, 4, 6]), (1, "(y := x * 2).sum()", 12), (1, "(y := x * 2).sum() > 11", True), (2, "z", [3, 5, 7])],
    ),
    "several statements on a line": ("y = x + 1; z = y * 2", [(1, "y", [2, 3, 4]), (1, "z", [4, 6, 8])]),
    "a condition and its body on a line": ("if True: y = x + 1", [(1, "y", [2, 3, 4])]),
    "letters of several bytes": ("é, π = 'größer ✓', x * 3; ü = π + 1", [(1, "π", [3, 6, 9]), (1, "ü", [4, 7, 10])]),
    "a function that returns one tensor twice": ("a, b = (lambda t: (t, t))(x)", [(1, "a", [1, 2, 3]), (1, "b", [1, 2, 3])]),
    "an annotation": ("y: torch.Tensor = x * 2", [(1, "y", [2, 4, 6])]),
    "what is returned": ("return x * 2", [(1, "x * 2", [2, 4, 6])]),
    "a given output": (
        "y = torch.zeros(3)\ntorch.add(x, 1, out=y)",
        [(1, "y", [0, 0, 0]), (2, "torch.add(x, 1, out=y)", [2, 3, 4])],
    ),
    "without gradients": ("with torch.no_grad():\n    y = x * 2", [(2, "y", [2, 4, 6])]),
    "inference mode inside": (
        "with torch.inference_mode():\n    y = x * 2\n    y += 1",
        [(2, "y", [2, 4, 6]), (3, "y", [3, 5, 7])],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), FORWARDS.values(), ids=FORWARDS)
def test_each_line_shows_the_tensors_that_it_made(rows, body, expected):
    assert rows(body) == expected


DATACLASS = """from dataclasses import dataclass
@dataclass
class Pair:
    one: object
    two: object = None
def pair(t):
    return Pair(t * 2)
"""
HIDES = """def plus_one(f):
    def wrapper(*t):
        return f(*t) + 1
    return wrapper
@plus_one
def twice(t):
    return t * 2
"""
WITH_HELPERS = {
    "a helper function": (
        "def half(t):\n    return t / 2\n",
        "y = half(x)",
        [("half", "t / 2", [0.5, 1, 1.5]), ("Net.forward", "y", [0.5, 1, 1.5])],
    ),
    "a returned dataclass": (
        DATACLASS,
        "p = pair(x)\ny = pair(x).one",
        [
            ("pair", "t * 2", [2, 4, 6]), ("Net.forward", "p.one", [2, 4, 6]),
            ("pair", "t * 2", [2, 4, 6]), ("Net.forward", "y", [2, 4, 6]),
        ],
    ),
    "a returned dict": (
        "def pair(t):\n    return {'items': t * 2, 3: t}\n",
        "p = pair(x)\ny = pair(x)['items']",
        [
            ("pair", "t * 2", [2, 4, 6]), ("Net.forward", "p['items']", [2, 4, 6]), ("Net.forward", "p[3]", [1, 2, 3]),
            ("pair", "t * 2", [2, 4, 6]), ("Net.forward", "y", [2, 4, 6]), ("Net.forward", "pair(x)[3]", [1, 2, 3]),
        ],
    ),
    "a generator function": (
        "def twice(t):\n    yield t * 2\n    yield t * 3\n",
        "y = torch.stack(list(twice(x)))",
        [("twice", "t * 2", [2, 4, 6]), ("twice", "t * 3", [3, 6, 9]), ("Net.forward", "y", [[2, 4, 6], [3, 6, 9]])],
    ),
    "a decorator that hides the function": (
        HIDES,
        "y = twice(x)",
        [
            ("twice", "t * 2", [2, 4, 6]), ("plus_one.<locals>.wrapper", "f(*t)", [2, 4, 6]),
            ("plus_one.<locals>.wrapper", "f(*t) + 1", [3, 5, 7]), ("Net.forward", "y", [3, 5, 7]),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("helper", "body", "expected"), WITH_HELPERS.values(), ids=WITH_HELPERS)
def test_functions_in_the_same_file_are_followed(rows, helper, body, expected):
    rows(body, before=helper)
    assert [(r.call.function, r.name, r.tensor.tolist()) for r in rows.tape.records if not r.argument] == expected


def test_what_a_later_line_changes_does_not_change_what_an_earlier_line_showed(rows):
    found = rows("y = x * 1\nv = y[:2]\nv += 1\ny.zero_()\ny[0] = 5\nx.mul_(2)")
    assert found == [(1, "y", [1, 2, 3]), (2, "v", [1, 2]), (3, "v", [2, 3]), (4, "y.zero_()", [0, 0, 0]), (5, "y", [5, 0, 0]),
                     (6, "x.mul_(2)", [2, 4, 6])]  # fmt: skip
    [argument] = [r for r in rows.tape.records if r.argument]
    assert argument.name == "x" and argument.tensor.tolist() == [1, 2, 3]


STACK = """
class Inner(nn.Module):
    def forward(self, x):
        for i in range(2):
            x = x + i
        return x

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Inner(), Inner()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return torch.add(x,
                         1)
"""


def test_occurrences_count_the_turns_of_a_loop_and_begin_again_in_each_call(tmp_path):
    tape = taped(load(tmp_path, STACK).Net(), torch.zeros(1))
    found = [(r.call.path, r.call.block, r.occurrence) for r in tape.records if r.variable == "x" and not r.argument]
    assert found == [("layers.0", 0, 0), ("layers.0", 0, 1), ("", None, 0), ("layers.1", 1, 0), ("layers.1", 1, 1), ("", None, 1)]


def test_a_record_says_file_line_span_and_call(tmp_path):
    module = load(tmp_path, STACK)
    records = taped(module.Net(), torch.zeros(1)).records
    outer, inner, added, last = records[0], records[1], records[2], records[-1]
    assert {r.file for r in records} == {module.__file__}
    assert (outer.argument, outer.line, outer.call.function, outer.call.path) == (True, 16, "Net.forward", "")
    assert outer.call.parent is None and outer.call.line is None
    assert (inner.argument, inner.line, inner.call.function, inner.call.path) == (True, 6, "Inner.forward", "layers.0")
    assert inner.call.parent is outer.call and inner.call.line == 18 and added.call is inner.call
    assert (added.span, added.variable, added.expression) == ((8, 8, 16, 21), "x", "x + i")
    assert last.call is outer.call and last.variable is None and last.name == "torch.add(x, 1)"
    assert (last.line, last.statement.end_line, last.span) == (19, 20, (19, 20, 15, 27))


def test_arguments_are_what_came_in_by_any_road_and_no_closure_is_one(tmp_path):
    module = load(tmp_path, """
class Net(nn.Module):
    def forward(self, a, *more, key, **others):
        inner = lambda t: t + a
        return [inner(t) for t in more]
""")  # fmt: skip
    one, two, three, four, five = (torch.full((1,), float(i)) for i in range(5))
    tape = taped(module.Net(), one, two, key={"x": three, "y": [four]}, other=five)
    found = [(r.call.function, r.name, r.tensor.item()) for r in tape.records if r.argument]
    forward = [("a", 0), ("key['x']", 2), ("key['y'][0]", 3), ("more[0]", 1), ("others['other']", 4)]
    assert found == [("Net.forward", *row) for row in forward] + [("Net.forward.<locals>.<lambda>", "t", 1)]


def test_a_decorated_forward_of_a_class_in_a_function_is_recorded_with_its_axes(tmp_path):
    module = load(tmp_path, '''
import functools
def plain(f):
    @functools.wraps(f)
    def wrapper(self, x):
        return f(self, x)
    return wrapper

def make():
    class Net(nn.Module):
        """Doubles.

        x  (batch, dim)
        """

        @torch.no_grad()
        @plain
        def forward(self, x):
            y = x * 2  # (batch, dim)
            return y
    return Net()
''')  # fmt: skip
    records = taped(module.make(), torch.zeros(2, 3)).records
    found = [(r.call.function, r.name, r.axes, r.argument) for r in records if r.call.function.endswith("forward")]
    net = "make.<locals>.Net.forward"
    assert found == [(net, "x", ("batch", "dim"), True), (net, "y", ("batch", "dim"), False)]


def test_the_axes_of_a_whole_are_not_those_of_its_parts(rows):
    rows("xs = x.split(1)  # (three)")
    assert [(r.name, r.axes) for r in rows.tape.records[-3:]] == [("xs[0]", None), ("xs[1]", None), ("xs[2]", None)]


def test_a_helper_function_belongs_to_the_module_that_called_it(tmp_path):
    text = STACK.replace("x = x + i", "x = helper(x)") + "\n\ndef helper(t):\n    return t + 1\n"
    records = taped(load(tmp_path, text).Net(), torch.zeros(1)).records
    paths = [r.call.path for r in records if r.name == "t + 1"]
    assert paths == ["layers.0", "layers.0", "layers.1", "layers.1"]


def test_a_tape_keeps_nothing_of_a_finished_call_alive_but_its_copies(tmp_path):
    net = load(tmp_path, "import weakref\n" + NET.format("self.seen = weakref.ref(y); z = y + 1")).Net()
    with Tape(net) as tape:
        net(torch.ones(1))
        assert net.seen() is None
    assert [r.tensor.item() for r in tape.records] == [1, 2, 3]


def test_a_module_under_two_names_is_recorded_once_a_call_under_its_first_name(tmp_path):
    module = load(tmp_path, """
class Inner(nn.Module):
    def forward(self, x):
        return x + 1

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = self.two = Inner()

    def forward(self, x):
        return self.two(self.one(x))
""")  # fmt: skip
    inner = [r for r in taped(module.Net(), torch.zeros(1)).records if r.name == "x + 1"]
    assert [(r.call.path, r.tensor.item()) for r in inner] == [("one", 1), ("one", 2)]
    assert inner[0].call is not inner[1].call


def test_parameters_that_are_read_are_not_recorded_but_what_is_made_of_them_is(tmp_path):
    module = load(tmp_path, """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.several = nn.ParameterList([nn.Parameter(torch.ones(1))])
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        weight = self.weight
        y = F.relu(x * weight * self.several[0]) * self.scale
        with torch.no_grad():
            self.weight.add_(1)
        return y
""")  # fmt: skip
    names = [r.name for r in taped(module.Net(), torch.ones(1)).records]
    assert names == ["x", "x * weight", "x * weight * self.several[0]", "F.relu(x * weight * self.several[0])", "y",
                     "self.weight.add_(1)"]  # fmt: skip


def test_a_function_that_lies_elsewhere_is_watched_if_asked_for(tmp_path):
    elsewhere = load(tmp_path, "def double(t):\n    y = t * 2\n    return y\ndef other(t):\n    return t * 3\n")
    net = load(tmp_path, "class Net(nn.Module):\n    def forward(self, x):\n        return self.f(x) + self.g(x)\n").Net()
    net.f, net.g = elsewhere.double, elsewhere.other
    with Tape(net, also=[elsewhere.double]) as tape:
        net(torch.ones(1))
    assert [r.name for r in tape.records] == ["x", "t", "y", "self.f(x)", "self.g(x)", "self.f(x) + self.g(x)"]


def test_like_code_at_other_columns_is_not_mixed_up(tmp_path):
    nets = [load(tmp_path, f"class Net(nn.Module):\n    def forward(self, x):\n        {line}\n").Net()
            for line in ("y    =    x  *  2", "y=x*2")]  # fmt: skip
    for net, column in zip(nets, (18, 10), strict=True):
        record = taped(net, torch.ones(1)).records[-1]
        assert record.name == "y" and record.span[2] == column


# The run is the same

TINY = {"vocab_size": 60, "max_position_embeddings": 20, "n_layers": 2, "n_heads": 3, "dim": 12, "hidden_dim": 17}
NET = "class Net(nn.Module):\n    def forward(self, x):\n        y = x * 2\n        {}\n        return y\n"


def classifier(dtype=torch.float32, labels=2, **changes):
    torch.manual_seed(0)
    labels = {i: f"label {i}" for i in range(labels)}
    model = DistilBertForSequenceClassification(DistilBertConfig(**TINY | changes, id2label=labels)).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def padded(lengths=(7, 3), labels=2):
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, 60, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(len(lengths)) % labels}


def everything(model, batch):
    """Logits, loss, hidden states, attention maps, gradients, and the random state afterwards."""
    torch.manual_seed(3)
    model.zero_grad()
    out = model(**batch, output_hidden_states=True, output_attentions=True)
    out.loss.backward()
    found = [out.logits, out.loss, *out.hidden_states, *out.attentions, *(p.grad for p in model.parameters())]
    return [t.detach().clone() for t in found] + [torch.get_rng_state()]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_logits_with_and_without_a_tape_are_bit_equal(dtype, training):
    model, batch = classifier(dtype).train(training), padded()
    without = everything(model, batch)
    with Tape(model) as tape:
        found = everything(model, batch)
    assert tape.records and len(without) == len(found) > 40
    assert all(torch.equal(one, other) for one, other in zip(without, found, strict=True))


def test_the_records_are_copies_outside_the_graph(tmp_path):
    net = load(tmp_path, NET.format("pass")).Net()
    x = torch.ones(2, requires_grad=True)
    with Tape(net) as tape:
        y = net(x)
    kept = tape.records[-1].tensor
    assert not kept.requires_grad and kept.data_ptr() != y.data_ptr() and y.grad_fn is not None
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_the_recorders_own_copies_are_not_recorded(tmp_path):
    tape = taped(load(tmp_path, NET.format("pass")).Net(), torch.ones(1))
    assert [(r.name, r.call.function) for r in tape.records] == [("x", "Net.forward"), ("y", "Net.forward")]


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda f: f.__name__)
def test_gradient_modes_around_the_run_stay_as_they_are(tmp_path, outside):
    net, x = load(tmp_path, NET.format("y += 1")).Net(), torch.ones(1, requires_grad=True)
    with outside():
        plain = net(x)
        with Tape(net) as inside:
            y = net(x)
    assert (y.requires_grad, y.is_inference()) == (plain.requires_grad, plain.is_inference())
    with Tape(net) as around, outside():
        net(x)
    for tape in (inside, around):
        assert [r.tensor.item() for r in tape.records] == [1, 2, 3]


@pytest.mark.parametrize("line", ["raise ValueError('half-way')", "y[9] = 1", "z = y @ self.wrong", "z = self.missing"])
def test_a_run_that_raises_keeps_the_tape_up_to_that_line(tmp_path, line):
    net, before = load(tmp_path, NET.format(line)).Net(), sys.getprofile()
    net.register_buffer("wrong", torch.ones(2))
    with pytest.raises(Exception) as plain:
        net(torch.ones(3))
    with pytest.raises(plain.type) as seen, Tape(net) as tape:
        net(torch.ones(3))
    assert str(seen.value) == str(plain.value)
    assert [r.name for r in tape.records] == ["x", "y"]
    assert sys.getprofile() is before
    assert torch.overrides._get_current_function_mode() is None


def test_another_profiler_is_restored(tmp_path):
    net, calls = load(tmp_path, NET.format("pass")).Net(), []

    def profiler(frame, event, value):
        calls.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        with Tape(net) as tape:
            net(torch.ones(1))
        assert sys.getprofile() is profiler
        during = calls.copy()
        net(torch.ones(1))
    finally:
        sys.setprofile(before)
    assert "forward" not in during and "forward" in calls
    assert [r.name for r in tape.records] == ["x", "y"]


def test_cprofile_goes_on_after_a_tape(tmp_path):
    net, before, profile = load(tmp_path, NET.format("pass")).Net(), sys.getprofile(), cProfile.Profile()
    profile.enable()
    try:
        with Tape(net) as tape:
            net(torch.ones(1))
        net(torch.ones(1))
    finally:
        profile.disable()
        sys.setprofile(before)
    calls = {entry.code.co_name: entry.callcount for entry in profile.getstats() if not isinstance(entry.code, str)}
    assert calls["forward"] >= 1
    assert [r.name for r in tape.records] == ["x", "y"]


def test_another_threads_run_is_not_recorded_and_not_hurt(tmp_path):
    net, found = load(tmp_path, NET.format("pass")).Net(), []
    with Tape(net) as tape:
        thread = threading.Thread(target=lambda: found.append(net(torch.ones(1)).item()))
        thread.start()
        thread.join()
        assert tape.records == [] and found == [2]
        net(torch.full((1,), 5.0))
    assert [r.tensor.item() for r in tape.records] == [5, 10]


def test_tapes_one_after_the_other_and_one_in_the_other(tmp_path):
    net, before = load(tmp_path, NET.format("pass")).Net(), sys.getprofile()
    with Tape(net) as outer:
        net(torch.full((1,), 1.0))
        with Tape(net) as inner:  # while it runs, it alone records
            net(torch.full((1,), 2.0))
        net(torch.full((1,), 3.0))
    with Tape(net) as later:
        net(torch.full((1,), 4.0))
    net(torch.ones(1))
    assert sys.getprofile() is before
    numbers = [[r.tensor.item() for r in tape.records] for tape in (outer, inner, later)]
    assert numbers == [[1, 2, 3, 6], [2, 4], [4, 8]]


def test_generators_from_before_and_kept_until_after_do_no_harm(tmp_path):
    net = load(tmp_path, """
class Net(nn.Module):
    def forward(self, x):
        self.kept = (x * i for i in (2, 3))
        return next(self.kept)
""").Net()  # fmt: skip
    net(torch.ones(1))
    old = net.kept
    with Tape(net) as tape:
        net(torch.ones(1))
        assert next(old).item() == 3
    kept = len(tape.records)
    assert next(net.kept).item() == 3 and len(tape.records) == kept
    assert [(r.name, r.tensor.item()) for r in tape.records if r.call.function == "Net.forward"] == [("x", 1), ("x * i", 2)]


def test_a_model_without_source_is_refused_in_one_sentence():
    space, before = {"nn": nn, "__name__": "nowhere"}, sys.getprofile()
    exec(compile(NET.format("pass"), "<typed at a prompt>", "exec"), space)
    with pytest.raises(OSError, match="<typed at a prompt> has no source to read; expected a model that is written in a file"):
        Tape(space["Net"]())
    assert sys.getprofile() is before


def test_a_model_in_a_notebooks_cell_is_recorded():
    text, name, space = NET.format("pass"), "<cell 7>", {"nn": nn, "__name__": "cell"}
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # as a notebook registers its cells
    exec(compile(text, name, "exec"), space)
    assert [(r.line, r.name) for r in taped(space["Net"](), torch.ones(1)).records] == [(2, "x"), (3, "y")]


def test_a_file_that_was_edited_and_loaded_again_is_read_again(tmp_path):
    file, names = tmp_path / "edited.py", []
    for line in ("pass", "doubled = x * 2; more = 1 + doubled"):
        file.write_text(NET.format(line))
        space = {"nn": nn, "__name__": "edited"}
        exec(compile(file.read_text(), str(file), "exec"), space)
        names.append([r.name for r in taped(space["Net"](), torch.ones(1)).records])
    assert names == [["x", "y"], ["x", "y", "doubled", "more"]]


def test_without_columns_the_lines_are_still_right(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\n" + NET.format("z = y + x * 3"))
    script = (
        "import torch, net\nfrom minibert.learn.trace.tape import Tape\n"
        "with Tape(net.Net()) as tape: net.Net()(torch.ones(1))\n"
        "print([(r.line, r.tensor.item(), r.span[2]) for r in tape.records])\n"
    )
    environment = os.environ | {"PYTHONNODEBUGRANGES": "1", "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == [(3, 1, None), (4, 2, None), (5, 3, None), (5, 5, None)]


# minibert's own model

MODEL = inspect.getsource(minibert.model)
NO_TENSOR = {"batch, tokens, dim", "per_head", "all_hidden_states", "all_attentions", "loss = None"}


def tensor_making_statements(text):
    """{line: targets} of every assignment in a forward, but for those named above."""
    found = {}
    for forward in ast.walk(ast.parse(text)):
        for node in ast.walk(forward) if getattr(forward, "name", "") == "forward" else ():
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                targets = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target).strip("()")
                if targets not in NO_TENSOR and ast.unparse(node) not in NO_TENSOR:
                    found[node.lineno] = targets.split(", ")
    return found


@pytest.fixture(scope="module")
def own_run():
    """minibert's classifier on a padded batch in which every axis has another size, and what hooks saw of it."""
    model, outputs = classifier(torch.float64, labels=5), {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList):
            module.register_forward_hook(lambda module, args, out, name=name: outputs.setdefault(name, out))
    with Tape(model) as tape:
        out = model(**padded(labels=5), output_hidden_states=True, output_attentions=True)
    return tape, outputs, out


def test_every_tensor_making_statement_of_the_model_is_on_the_tape(own_run):
    expected = tensor_making_statements(MODEL)
    shown = Counter((r.line, r.variable) for r in own_run[0].records if not r.argument)
    fields = {"base": "base.last_hidden_state", "output": "output.last_hidden_state"}  # these two are dataclasses
    missing = []
    for line, targets in expected.items():
        for target in targets:
            dataclass = "distilbert(" in MODEL.splitlines()[line - 1] or "self.transformer(" in MODEL.splitlines()[line - 1]
            if not shown[line, fields[target] if dataclass else target]:
                missing.append((line, target))
    assert missing == []
    assert len(expected) == 40  # counted by eye, class by class: 6 + 16 + 4 + 4 + 1 + 2 + 7


def variables(tape, path):
    """{variable: its tensors in the order of the run} of the forward of one module."""
    found = {}
    for r in tape.records:
        if r.call.path == path and r.variable and r.call.function.endswith("forward") and not r.argument:
            found.setdefault(r.variable, []).append(r.tensor)
    return found


def same(one, other):
    assert one.shape == other.shape
    assert torch.allclose(one, other, rtol=0, atol=1e-11)  # float64: rounding alone


def test_the_tensors_on_the_tape_are_the_modules_outputs(own_run):
    tape, outputs, out = own_run
    top, embeddings = variables(tape, ""), variables(tape, "distilbert.embeddings")
    assert embeddings["positions"][0].tolist() == list(range(7))
    same(embeddings["word_vectors"][0], outputs["distilbert.embeddings.word_embeddings"])
    same(embeddings["position_vectors"][0], outputs["distilbert.embeddings.position_embeddings"])
    same(embeddings["embeddings"][0], embeddings["word_vectors"][0] + embeddings["position_vectors"][0])
    same(embeddings["embeddings"][1], outputs["distilbert.embeddings.LayerNorm"])
    same(embeddings["embeddings"][2], outputs["distilbert.embeddings"])
    same(top["base.last_hidden_state"][0], out.hidden_states[-1])
    same(top["first"][0], out.hidden_states[-1][:, 0])
    same(top["pooled"][0], outputs["pre_classifier"])
    same(top["pooled"][1], outputs["pre_classifier"].clamp(min=0))
    same(top["logits"][0], outputs["classifier"])
    same(top["loss"][0], -outputs["classifier"].log_softmax(-1)[[0, 1], [0, 1]].mean())
    stack = variables(tape, "distilbert.transformer")
    for i in range(2):
        same(stack["hidden_states"][i], out.hidden_states[i + 1])
        same(stack["attention"][i], out.attentions[i])


@pytest.mark.parametrize("block", [0, 1])
def test_the_tensors_inside_a_block_are_what_the_formulas_give(own_run, block):
    tape, outputs, out = own_run
    path = f"distilbert.transformer.layer.{block}"
    inside, attention, ffn = variables(tape, path), variables(tape, f"{path}.attention"), variables(tape, f"{path}.ffn")
    for name, module in (("queries", "q_lin"), ("keys", "k_lin"), ("values", "v_lin")):
        whole, heads = attention[name]
        same(whole, outputs[f"{path}.attention.{module}"])
        for head in range(3):
            same(heads[:, head], whole[:, :, 4 * head : 4 * head + 4])
    same(attention["scores"][0], torch.einsum("bhqd,bhkd->bhqk", attention["queries"][1], attention["keys"][1]))
    same(attention["scores"][1], attention["scores"][0] / 2)  # the root of head_dim, 4
    padding = padded()["attention_mask"] == 0
    assert attention["padding"][0][:, 0, 0].equal(padding)
    before, after = (scores.permute(0, 3, 1, 2) for scores in attention["scores"][1:])
    assert (after[padding] == torch.finfo(torch.float64).min).all() and after[~padding].equal(before[~padding])
    same(attention["attention"][0], out.attentions[block])
    same(attention["attention"][1], out.attentions[block])
    weighted = torch.einsum("bhqk,bhkd->bqhd", out.attentions[block], attention["values"][1])
    same(attention["context"][0], weighted.transpose(1, 2))
    same(attention["context"][1], weighted)
    same(attention["context"][2], weighted.flatten(2))
    same(attention["output"][0], outputs[f"{path}.attention.out_lin"])
    same(inside["attn_output"][0], outputs[f"{path}.attention.out_lin"])
    same(inside["attention"][0], out.attentions[block])
    same(inside["sa_output"][0], outputs[f"{path}.sa_layer_norm"])
    same(ffn["hidden"][0], outputs[f"{path}.ffn.lin1"])
    same(ffn["hidden"][1], ffn["hidden"][0] * (1 + torch.erf(ffn["hidden"][0] / 2**0.5)) / 2)
    same(ffn["output"][0], outputs[f"{path}.ffn.lin2"])
    same(inside["ffn_output"][0], outputs[f"{path}.ffn"])
    same(inside["output"][0], out.hidden_states[block + 1])


# Shape comments are promises


def test_every_tensor_making_statement_of_the_model_promises_its_axes(own_run):
    promised = {(r.line, r.variable) for r in own_run[0].records if r.axes is not None and not r.argument}
    expected = {(line, target) for line, targets in tensor_making_statements(MODEL).items() for target in targets}
    lines = MODEL.splitlines()
    silent = [lines[line - 1].strip().split("(")[0] for line, _ in sorted(expected - promised)]
    # two hand over a dataclass, whose fields have their comments where the class is
    assert silent == ["output: BaseModelOutput = self.transformer", "base = self.distilbert"]
    assert len(expected & promised) == 40 - 2 + 2  # two statements unpack two tensors each


@pytest.fixture(scope="module")
def six_labels():
    return classifier(labels=6)


@pytest.mark.parametrize("lengths", [(7, 3), (1,), (2, 19, 8, 1, 9), (5, 5)], ids=str)
def test_no_shape_comment_of_the_model_is_contradicted(six_labels, lengths):
    batch = padded(lengths, labels=6)
    alone = batch["input_ids"]
    for tape in (taped(six_labels, **batch), taped(six_labels, alone), taped(six_labels.distilbert, alone)):
        assert len(tape.records) > 50 and tape.contradictions() == []


def test_each_axis_of_the_model_stands_for_its_own_size(own_run):
    sizes = {}
    for r in own_run[0].records:
        if r.axes is not None:
            for axis, size in zip(r.axes, r.tensor.shape, strict=True):
                sizes.setdefault(axis, set()).add(size)
    expected = {"batch": 2, "tokens": 7, "query": 7, "key": 7, "heads": 3, "head_dim": 4, "dim": 12, "hidden_dim": 17, "labels": 5}
    assert sizes == {axis: {size} for axis, size in expected.items()} | {"1": {1}}


def mutated(tmp_path, old, new):
    """The model's source with one place changed, as a module, and the line of the change."""
    assert MODEL.count(old) == 1
    module = load(tmp_path, MODEL.replace(old, new).replace("from .config", "from minibert.config"), header="")
    return module, MODEL[: MODEL.index(old)].count("\n") + 1


WRONG = {
    "two axes swapped": ("(batch, heads, query, head_dim)  weighted", "(batch, heads, head_dim, query)  weighted", "context"),
    "the first line of all": ("(tokens)  0, 1, 2 ...", "(batch)  0, 1, 2 ...", "positions"),
    "an axis too few": ("(tokens, dim)  the same", "(dim)  the same", "position_vectors"),
    "an axis too many": ("(batch, dim)  the vector", "(batch, 1, dim)  the vector", "first"),
    "1 where the size is not 1": ("(batch, 1, 1, key)", "(batch, 1, 1, 1)", "padding"),
    "another name": ("(batch, labels)\n\n", "(batch, dim)\n\n", "logits"),
    "a scalar for a matrix": ("(batch, labels)\n\n", "()\n\n", "logits"),
    "a matrix for a scalar": ("()  mean", "(batch)  mean", "loss"),
    "the second of two": (
        "(batch, heads, query, key)\n        sa_output", "(batch, query, heads, key)\n        sa_output", "attention"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "name"), WRONG.values(), ids=WRONG)
def test_a_wrong_shape_comment_is_found_and_named_and_no_other(tmp_path, old, new, name):
    module, line = mutated(tmp_path, old, new)
    model = module.DistilBertForSequenceClassification(DistilBertConfig(**TINY, id2label={i: f"label {i}" for i in range(5)}))
    found = taped(model, **padded(labels=5)).contradictions()
    assert found and all(one.startswith(f"{module.__name__}.py, line {line}, {name} promises (") for one in found)
    assert len(found) <= 2  # not once for each block


def test_a_wrong_row_of_a_docstring_is_found_and_named(tmp_path):
    module, _ = mutated(tmp_path, "input_ids  (batch, tokens)         integers", "input_ids  (tokens, batch)         integers")
    line = MODEL[: MODEL.index("def forward(self, input_ids: Tensor)")].count("\n") + 1
    found = taped(module.DistilBertForSequenceClassification(DistilBertConfig(**TINY)), padded()["input_ids"]).contradictions()
    assert len(found) == 2
    assert all(one.startswith(f"{module.__name__}.py, line {line}, input_ids promises (tokens, batch)") for one in found)


# transformers' DistilBERT

REFERENCE = inspect.getsourcefile(transformers.DistilBertModel)


# assigned or returned, but not a tensor that the statement makes: numbers, shapes, functions; dataclasses built of what is there
REFERENCE_NO_TENSOR = ("seq_length =", "input_shape =", "hidden_shape =", "attention_interface:", "loss = None", "loss_fct =",
                       "return BaseModelOutput(", "return SequenceClassifierOutput(")  # fmt: skip


def lines_run(file, function):
    """The lines of a file that a call reaches, by the interpreter's own line tracing."""
    lines, before = set(), sys.gettrace()

    def trace(frame, event, value):
        if frame.f_code.co_filename == file:
            lines.add(frame.f_lineno)
            return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


def test_every_tensor_making_statement_of_the_reference_that_runs_is_on_the_tape():
    config = DistilBertConfig(**TINY).to_dict("DistilBertForSequenceClassification")
    config = transformers.DistilBertConfig(**config, attn_implementation="eager")
    torch.manual_seed(0)
    model, batch = transformers.DistilBertForSequenceClassification(config).eval(), padded()
    plain, reached = model(**batch), lines_run(REFERENCE, lambda: model(**batch))
    with Tape(model) as tape:
        out = model(**batch)
    assert torch.equal(plain.logits, out.logits) and torch.equal(plain.loss, out.loss)

    expected = {}
    for node in ast.walk(ast.parse(Path(REFERENCE).read_text(encoding="utf-8"))):
        makes = isinstance(node, (ast.Assign, ast.AnnAssign)) or (isinstance(node, ast.Return) and isinstance(node.value, ast.Call))
        if makes and node.lineno in reached and not ast.unparse(node).startswith(REFERENCE_NO_TENSOR):
            expected[node.lineno] = ast.unparse(node)
    shown = {r.line for r in tape.records if r.file == REFERENCE and not r.argument}
    assert len(expected) >= 33  # as many as the base model had where this was first tried; the head and the loss come on top
    assert {line: text for line, text in expected.items() if line not in shown} == {}
    by_name = {r.variable: r.tensor for r in tape.records if r.call.function == "DistilBertForSequenceClassification.forward"}
    assert by_name["logits"].equal(plain.logits) and by_name["loss"].equal(plain.loss)
    assert by_name["pooled_output"].equal(model.pre_classifier(by_name["hidden_state"][:, 0]).relu())
