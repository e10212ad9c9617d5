"""A source file is read as the interpreter reads it: statements, what they assign, what their comments promise."""

import linecache

from minibert.learn.trace.shape_comments import SHAPE_COMMENT, contradictions
from minibert.learn.trace.source import Source

import pytest


@pytest.fixture
def source(tmp_path):
    def read(text, name="read.py"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return Source.of(str(tmp_path / name))

    return read


COMMENTS = {
    "x = f()  # (batch, tokens)": (("batch", "tokens"),),
    "x = f()  # (batch, 1)  why": (("batch", "1"),),
    "x = f()  # ()": ((),),
    "x = f()  # (B, nh, T)": (("B", "nh", "T"),),
    "x, y = f()  # (batch), (batch, dim)  both": (("batch",), ("batch", "dim")),
    "x = f()  # (see above)": (),
    "x = f()  # two (batch, dim)": (),
    "x = f()  # (batch, dim) of the other": (),
    "x = '# (batch)'": (),
    "x = f()": (),
}


@pytest.mark.parametrize(("text", "axes"), COMMENTS.items(), ids=COMMENTS)
def test_a_shape_comment_is_read_and_prose_is_not(source, text, axes):
    assert source(text).statement_at(1).axes == axes


def test_a_shape_comment_stands_at_the_end_of_its_statement(source):
    found = source("x = f(\n    1,  # (no)\n    2,\n)  # (batch)\ny = 1\n# (dim)\nz = 2\n")
    assert [found.statement_at(line).axes for line in range(1, 8)] == [(("batch",),)] * 4 + [(), (), ()]


def test_of_several_statements_on_a_line_the_comment_means_the_last(source):
    found = source("a = f(); b = g(a)  # (batch, dim)\nif a: c = f()  # (dim)\n")
    assert [use.axes for use in found.uses((1, 1, 4, 7))] == [None]
    assert [use.axes for use in found.uses((1, 1, 13, 17))] == [("batch", "dim")]
    assert [(use.variable, use.axes) for use in found.uses((2, 2, 10, 13))] == [("c", ("dim",))]


def test_a_returned_value_has_the_axes_of_its_comment(source):
    found = source("def f():\n    return g()  # (batch)\ndef h():\n    return g(), i()  # (batch), (dim)\n")
    assert [(use.variable, use.axes) for use in found.uses((2, 2, 11, 14))] == [(None, ("batch",))]
    assert [(use.variable, use.axes) for use in found.uses((4, 4, 16, 19))] == [(None, ("dim",))]


TARGETS = {
    "x = 1": ("x",),
    "x: int = 1": ("x",),
    "x += 1": ("x",),
    "x[0] = 1": ("x",),
    "self.x[0] += 1": ("self.x",),
    "a, self.b = f()": ("a", "self.b"),
    "f()": (),
    "return f()": (),
}


@pytest.mark.parametrize(("text", "targets"), TARGETS.items(), ids=TARGETS)
def test_targets_are_what_a_statement_assigns(source, text, targets):
    assert source(f"def outer():\n    {text}\n").statement_at(2).targets == targets


def test_the_statement_at_a_line_is_the_innermost_and_a_body_is_not_its_heads(source):
    head = "@decorate(\n    1\n)\ndef f(\n    x\n):\n"
    found = source(head + "    'Says.'\n    if (\n        x\n    ):\n        y = 1\n\n    return y\n")
    lines = [(s.line, s.end_line) for s in map(found.statement_at, (1, 4, 6, 7, 8, 10, 11, 13))]
    assert lines == [(4, 6), (4, 6), (4, 6), (7, 7), (8, 10), (8, 10), (11, 11), (13, 13)]
    assert (found.statement_at(99).line, found.statement_at(99).targets) == (99, ())


def test_the_text_of_an_expression_counts_columns_in_bytes(source):
    found = source("é = 'ü'; y = f(\n    é, 'ö'\n)\n")
    assert found.text((1, 3, 15, 1)) == "f( é, 'ö' )"
    assert found.text((1, 1, 0, 2)) == "é"
    assert found.text((2, 2, None, None)) == "é, 'ö'"
    assert found.text((9, 9, 1, 2)) == ""  # a place beyond the file, as after an edit


def test_definitions_have_their_full_names_and_lines(source):
    inside = "    def f(self):\n        def g():\n            return 1\n    class B:\n        pass\n"
    found = source(f"@deco\nclass A:\n    'Doc.'\n{inside}for x[0] in y: pass\n")
    rows = [(d.name, d.line, d.end_line, d.docstring, d.returns) for d in found.definitions]
    assert [row for row in rows if row[0] != "A"] == [("A.f", 4, 6, "", True), ("A.f.g", 5, 6, "", True), ("A.B", 7, 8, "", False)]
    assert [row[:4] for row in rows if row[0] == "A"] == [("A", 1, 8, "Doc.")]
    assert found.definition("A.f.<locals>.g").line == 5
    assert found.definition("missing") is None


def test_axes_of_arguments_come_from_the_docstring_of_the_class_and_the_functions_own_first(source):
    found = source('''
class Net:
    """Net.

    x, y    (batch, tokens)   integers
    z       (batch, dim) or None
    w (Tensor): in another style
    v       four numbers
    """

    def forward(self, x, y, z, w, v):
        """Runs.

        y  (batch)
        """
''')
    expected = {"x": ("batch", "tokens"), "y": ("batch",), "z": ("batch", "dim")}
    assert found.argument_axes("Net.forward") == expected
    assert found.argument_axes("missing") == {}


def test_a_file_is_read_once_and_again_when_it_has_changed(source):
    one = source("x = 1\n")
    assert source("x = 1\n") is one
    other = source("yy = 1\n")
    assert other is not one and other.statement_at(1).targets == ("yy",)


def test_what_has_no_source_is_refused_in_one_sentence():
    linecache.cache.pop("<nothing>", None)
    with pytest.raises(OSError, match="<nothing> has no source to read; expected a model that is written in a file"):
        Source.of("<nothing>")


def test_kept_promises_are_no_contradictions():
    assert contradictions([]) == []
    assert contradictions([("a", ("batch", "1"), (2, 1)), ("b", (), ()), ("c", ("dim", "batch"), (5, 2))]) == []


BROKEN = {
    "too few axes": ([("a", ("batch",), (2, 3))], ["a promises (batch) and has the shape (2, 3): 2 axes, not 1."]),
    "a number": ([("a", ("1", "dim"), (2, 3))], ["a promises (1, dim) and has the shape (2, 3): 2 where 1 is written."]),
    "a number that is wrong more often than right": (
        [("a", ("1",), (2,)), ("b", ("1",), (2,)), ("c", ("1",), (1,))],
        ["a promises (1) and has the shape (2,): 2 where 1 is written.",
         "b promises (1) and has the shape (2,): 2 where 1 is written."],
    ),
    "two sizes": (
        [("a", ("dim",), (3,)), ("b", ("dim",), (4,)), ("c", ("dim",), (3,))],
        ["b promises (dim) and has the shape (4,): dim is 4 here and 3 at a."],
    ),
    "the first is the odd one": (
        [("a", ("dim",), (4,)), ("b", ("dim",), (3,)), ("c", ("dim",), (3,))],
        ["a promises (dim) and has the shape (4,): dim is 4 here and 3 at b."],
    ),
    "one against one": (
        [("a", ("dim",), (4,)), ("b", ("dim",), (3,))],
        ["b promises (dim) and has the shape (3,): dim is 3 here and 4 at a."],
    ),
    "twice in one shape": ([("a", ("n", "n"), (2, 3))], ["a promises (n, n) and has the shape (2, 3): n is 3 here and 2 at a."]),
    "once however often it ran": (
        [("a", ("1",), (2,)), ("a", ("1",), (2,))], ["a promises (1) and has the shape (2,): 2 where 1 is written."]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "sentences"), BROKEN.values(), ids=BROKEN)
def test_a_broken_promise_is_told_in_one_sentence(found, sentences):
    assert contradictions(found) == sentences


def test_the_shape_comment_of_a_listing_is_found_in_a_line_of_code():
    assert SHAPE_COMMENT.search("x = f(a)  # (batch, dim)  why")[1] == "(batch, dim)"
