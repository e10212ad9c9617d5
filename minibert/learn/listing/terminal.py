"""The listing in a terminal: at most 80 columns, no colour, the same when it is piped.

    119     scores = scores / math.sqrt(self.head_dim)
                # without this, softmax picks one winner
      │ scores  (batch 1, heads 12, query 8, key 8)  float32
      │   [0, 0, 0]  2.35  -0.241  0.718  0.445  0.0797  0.0685  -0.263  2.54
      │   -10.3 ▁▁▁▁▁▁▁▂▇▇▃▁▁▁▁▁▁▁▁▁▁▁ 27.2   mean 1.01, std 3.28
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...storage.messages import printable
from ..trace.shape_comments import SHAPE_COMMENT
from .columns import COLUMNS, cells, knows, shortened, wrapped
from .data import ExplanationData, Part, Shown

CHARACTERS = 400  # of the text
TOKENS = 40
VALUES = 8
BINS = 22
LABELS = 20
GUTTER = 5  # columns for the line's number
DRAWN = ("▁▂▃▅▇", "─", "│", "…")  # bars from low to high, rule of a heading, edge beside tensors, what is left out
TYPED = (".:+*#", "-", "|", "~")  # the same where the encoding has no more than ASCII


def text(explanation: ExplanationData, block: int = 0, encoding: str = "utf-8") -> str:
    """The whole listing, with the tensors of one block.

    block     counted from 0, as in the checkpoint's names
    encoding  what it is written to; characters that are not in it are spelt out

    Raises ValueError for a block that the model does not have.
    """
    if not 0 <= block < explanation.n_blocks:
        raise ValueError(f"block is {block}; this model has the blocks 0 to {explanation.n_blocks - 1}.")
    return "\n".join(_Listing(explanation, block, encoding).lines())


class _Listing:
    def __init__(self, explanation: ExplanationData, block: int, encoding: str):
        self.explanation = explanation
        self.block = block
        self.encoding = encoding
        self.bars, self.rule, self.edge, self.dots = DRAWN if knows(encoding, "".join(DRAWN)) else TYPED

    def lines(self) -> Iterator[str]:
        yield from self.opening()
        yield from self.tokens()
        inside = False
        for part in self.explanation.parts:
            if inside and not _in_block(part):
                yield from self.folded()
            if _in_block(part) and not inside:
                yield from self.block_begins()
            inside = _in_block(part)
            yield from self.part(part)
        yield from self.answer()

    def spelt(self, written: str) -> str:
        """Text from outside: invisible characters spelt out, and those that the encoding does not have."""
        return printable(written).encode(self.encoding, "backslashreplace").decode(self.encoding)

    def heading(self, left: str, right: str) -> Iterator[str]:
        left, right = f"{2 * self.rule} {self.spelt(left)} ", f" {self.spelt(right)}" if right else ""
        yield ""
        yield from wrapped(left + (COLUMNS - cells(left + right)) * self.rule + right)

    def opening(self) -> Iterator[str]:
        told = self.explanation
        written = f'"{self.spelt(told.text[:CHARACTERS])}"'
        if len(told.text) > CHARACTERS:
            written += f" {self.dots} and {len(told.text) - CHARACTERS:,} more characters"
        label, _, probability = max(told.labels, key=lambda one: one[1])
        yield from wrapped(written, "text   ", "       ")
        yield from wrapped(f"{self.spelt(label)}, with probability {probability:.4f}", "label  ", "       ")
        yield from wrapped(self.spelt(told.model), "model  ", "       ")
        if told.against is not None:
            yield from wrapped(self.spelt(told.against), "beside ", "       ")
        yield ""
        yield from wrapped(
            "The model's own source, each part before what puts the parts together. Below a line stand the tensors that it "
            "made: axes with their sizes, and the type; a few of the values, behind the index that picks them; and how all "
            "values spread from the lowest to the highest."
        )

    def tokens(self) -> Iterator[str]:
        """One a line, the token last: whatever its script and width, nothing stands behind it to be pushed aside."""
        told = self.explanation
        yield from self.heading("Text to tokens to ids", "minibert/tokenizer.py")
        yield "position      id  token"
        for position, (token, index) in enumerate(told.tokens[:TOKENS]):
            yield from wrapped(self.spelt(token), f"{position:8} {index:7}  ", 18 * " ")
        if len(told.tokens) > TOKENS:
            yield f"       {self.dots} and {len(told.tokens) - TOKENS:,} more"
        if "[UNK]" in dict(told.tokens):
            yield "[UNK] stands for what the vocabulary does not have."
        if told.left_out > 0:
            yield from wrapped(
                f"The text is longer than the model can read: {told.left_out:,} more tokens were cut off at its end."
            )

    def part(self, part: Part) -> Iterator[str]:
        here, source = part.source.definition(part.name), part.source
        file, name = Path(source.file), part.name
        if _in_block(part):
            name += f", block {self.block}"
        yield from self.heading(name, f"{file.parent.name}/{file.name}, line {part.line}")
        path = next((one.record.call.path for one in part.shown if one.turn in (None, self.block)), "")
        if path:
            yield from wrapped(self.spelt(path), "module ", "       ")
        if here is not None and here.docstring:
            yield from wrapped(self.spelt(here.docstring.split("\n")[0]))
        end = 0
        for first, last in sorted(part.bodies):
            if first <= end:  # a function within the one before
                continue
            end = last
            yield ""
            outside = len(source.lines[first - 1]) - len(source.lines[first - 1].lstrip())
            below: dict[int, list[Shown]] = {}
            for line in range(first, last + 1):
                for one in part.at(line, self.block):
                    below.setdefault(one.record.statement.end_line, []).append(one)
            for line in range(first, last + 1):
                yield from self.source_line(source.lines[line - 1], line, outside, below.get(line, []))
                for one in below.get(line, []):
                    yield from self.tensor(one)

    def source_line(self, line: str, number: int, outside: int, shown: list[Shown]) -> Iterator[str]:
        """The line, broken where it is too long. The axes in its comment stand below, with sizes: here only the rest."""
        line = self.spelt(line.expandtabs())
        code = line.lstrip()
        if not code:
            yield ""
            return
        indent = max(0, len(line) - len(code) - outside) * " "
        remark = ""
        if any(one.record.statement.axes for one in shown) and (comment := SHAPE_COMMENT.search(code)):
            code, remark = code[: comment.start()].rstrip(), code[comment.end() :].strip()
        first, rest = f"{number:{GUTTER - 1}} {indent}", GUTTER * " " + indent
        if remark and cells(f"{first}{code}  # {remark}") <= COLUMNS:
            code, remark = f"{code}  # {remark}", ""
        prose = code.startswith("# ")
        yield from wrapped(code, first, rest + ("# " if prose else "    "), code=not prose)
        if remark:
            yield from wrapped(remark, rest + "    # ", rest + "    # ")

    def tensor(self, one: Shown) -> Iterator[str]:
        """A variable in three lines, an argument in two, a part of a statement in one."""
        record, tensor = one.record, one.record.tensor
        named = zip(record.labels, map(str, tensor.shape), strict=True)
        sizes = [size if axis in ("", size) else f"{axis} {size}" for axis, size in named]
        name = self.spelt(shortened(record.name, self.dots))
        head = f"{name}  ({', '.join(sizes)})  {str(tensor.dtype).removeprefix('torch.')}"
        if one.turn is not None and record.call.block is None:
            head += f"  block {one.turn}"
        if one.times > 1:
            head += f"  first of {one.times} times"
        edge = f"{self.edge:>{GUTTER - 1}} "
        below = edge + "  "
        yield from wrapped(head, edge, below)
        if record.variable is not None:
            yield below + self.values(tensor, COLUMNS - len(below))
            if not record.argument and tensor.numel() > 1:
                yield from wrapped(self.spread(tensor), below, below)
        if one.beside is not None and not one.beside.agrees:
            yield from wrapped(f"the other model's differs, by {_number(one.beside.difference)} at most", below, below)

    def values(self, tensor: Tensor, width: int) -> str:
        """As many values of its first row as find a place, headed by the index that gives them in Python."""
        if tensor.numel() == 0:
            return "no values"
        row = tensor[(0,) * (tensor.dim() - 1)] if tensor.dim() else tensor[None]
        shown = [_value(value, tensor.dtype) for value in row[:VALUES].tolist()]
        while True:
            index = ["0"] * (tensor.dim() - 1) + ([f":{len(shown)}"] if len(shown) < len(row) else [])
            line = (f"[{', '.join(index)}]  " if index else "") + "  ".join(shown)
            if len(shown) == 1 or len(line) <= width:
                return line
            shown.pop()

    def spread(self, tensor: Tensor) -> str:
        """The histogram of all values; masked ones and what is not a number are counted, not drawn."""
        if tensor.dtype == torch.bool:
            true = int(tensor.sum())
            return f"False {tensor.numel() - true} times, True {true} times"
        numbers = tensor.double().flatten()
        masked = numbers == _lowest(tensor.dtype)
        drawn = numbers[numbers.isfinite() & ~masked]
        notes = [f"{int(masked.sum())} masked"] if masked.any() else []
        if odd := tensor.numel() - len(drawn) - int(masked.sum()):
            notes.append(f"{odd} infinite or no number")
        if not len(drawn):
            return ", ".join(notes)
        low, high = drawn.min().item(), drawn.max().item()
        if low == high:
            return ", ".join([f"{'the others are' if notes else 'all'} {_value(low, tensor.dtype)}", *notes])
        counts = torch.histc(drawn, bins=min(BINS, len(drawn)), min=low, max=high)
        bars = "".join(self.bars[int((n * len(self.bars) - 1) // counts.max())] if n else " " for n in counts)
        if tensor.dtype.is_floating_point and tensor.numel() > VALUES:
            notes = [f"mean {_number(drawn.mean().item())}", f"std {_number(drawn.std().item())}", *notes]
        return f"{_value(low, tensor.dtype)} {bars} {_value(high, tensor.dtype)}   {', '.join(notes)}".rstrip()

    def block_begins(self) -> Iterator[str]:
        reads = f"what block {self.block - 1} made, which is folded" if self.block else "the embeddings"
        yield ""
        yield from wrapped(f"Here is block {self.block}, its parts before the class that joins them. It reads {reads}.")

    def folded(self) -> Iterator[str]:
        count = self.explanation.n_blocks
        if count > 1:
            yield ""
            yield from wrapped(
                f"This was block {self.block} of 0 to {count - 1}. The others are folded: each does the same, with weights of its "
                "own, to what the one before it made. --block N shows block N (in Python, .listing(N))."
            )

    def answer(self) -> Iterator[str]:
        told = self.explanation
        yield from self.heading("Logits to label", "")
        ranked = sorted(told.labels, key=lambda one: -one[1])
        yield "class      logit  probability  label"
        for one in ranked[:LABELS]:
            label, logit, probability = one
            columns = f"{told.labels.index(one):5}  {_number(logit):>9} {probability:12.4f}  "
            yield from wrapped(self.spelt(label), columns, len(columns) * " ")
        if len(ranked) > LABELS:
            yield f"       {self.dots} and {len(ranked) - LABELS:,} more"
        yield ""
        own = ", the model's own answer," if told.right == ranked[0][0] else ""
        yield from wrapped(
            f"The lines of the loss come from a second run, which was given {self.spelt(told.right)}{own} as the right label; "
            "--label NAME gives another (in Python, label=NAME)."
        )


def _in_block(part: Part) -> bool:
    return any(one.record.call.block is not None for one in part.shown)


def _lowest(dtype: torch.dtype) -> float:
    """What a masked score is set to; NaN, which equals nothing, where a type has no such thing."""
    return torch.finfo(dtype).min if dtype.is_floating_point else float("nan")


def _value(value: float, dtype: torch.dtype) -> str:
    if not dtype.is_floating_point:
        return str(value if dtype == torch.bool else int(value))
    return "masked" if value == _lowest(dtype) else _number(value)


def _number(value: float) -> str:
    return f"{value:.3g}"
