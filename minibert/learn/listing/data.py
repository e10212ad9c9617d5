"""What a listing shows: the parts of the source, their tensors and, where two models are compared, the other model's."""

from dataclasses import dataclass

import torch

from ..trace.source import Source
from ..trace.tape import Record


@dataclass(frozen=True)
class OtherModelTensor:
    """The same tensor in the other model, where two are compared.

    tensor       as the other model has it, of the same shape
    difference   the largest absolute difference
    agrees       whether that is rounding
    """

    tensor: torch.Tensor
    difference: float
    agrees: bool


@dataclass(frozen=True)
class Shown:
    """A record and when to show it.

    turn     the block it belongs to, or the turn of the loop over the blocks; None outside of both
    times    how often the line was evaluated in its call: the first time is shown, and the turn of the loop over the blocks
    beside   the other model's tensor; None where there is no other model, or where it makes no such tensor
    """

    record: Record
    turn: int | None
    times: int
    beside: OtherModelTensor | None = None


@dataclass(frozen=True)
class Part:
    """One class (or function) of the source and the tensors its lines made.

    name             "MultiHeadSelfAttention"
    source           the file it is a part of
    line, end_line   where it stands there
    bodies           (first, last) line of each function in it that ran
    shown            in the order in which the tensors were made
    """

    name: str
    source: Source
    line: int
    end_line: int
    bodies: tuple[tuple[int, int], ...]
    shown: tuple[Shown, ...]

    def at(self, line: int, block: int) -> list[Shown]:
        """What to show at a line while a block is looked at: the block's own, and what is in no block."""
        return [one for one in self.shown if one.record.line == line and one.turn in (None, block)]


@dataclass(frozen=True)
class ExplanationData:
    """A sentence on its way from text to label: what an Explanation knows, without the ways to show it.

    text       as it was given
    model      which checkpoint speaks
    tokens     token and id, [CLS] and [SEP] included, as the model saw them
    left_out   how many tokens truncation cut
    parts      the source with its tensors, in the order in which the data flows
    labels     (label, logit, probability), in the order of the classes
    right      the label that the loss takes for the right one
    n_blocks   how many blocks there are to choose from
    records    all of it, as the tape has it
    against    the name of the other model, where two are compared
    """

    text: str
    model: str
    tokens: tuple[tuple[str, int], ...]
    left_out: int
    parts: tuple[Part, ...]
    labels: tuple[tuple[str, float, float], ...]
    right: str
    n_blocks: int
    records: tuple[Record, ...]
    against: str | None = None


def first_to_differ(explanation: ExplanationData) -> Shown | None:
    """The first tensor, in the order of the computation, that differs from the other model's by more than rounding."""
    when = {id(record): number for number, record in enumerate(explanation.records)}
    differs = [one for part in explanation.parts for one in part.shown if one.beside is not None and not one.beside.agrees]
    return min(differs, key=lambda one: when[id(one.record)], default=None)
