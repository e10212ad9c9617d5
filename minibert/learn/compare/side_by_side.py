"""The listing of one sentence with two models' tensors side by side."""

from dataclasses import replace

from torch import Tensor

from ...config import DistilBertConfig
from ..listing.data import OtherModelTensor, Shown
from ..listing.explanation import Explanation, parts_of
from ..trace.shape_comments import Axes
from .alignment import pair_up
from .divergence import Comparison
from .tolerance import close, differences


def side_by_side(
    comparison: Comparison, sentence: int, text: str, tokens: list[tuple[str, int]], config: DistilBertConfig,
    names: tuple[str, str],
) -> Explanation:
    """The listing of one sentence of the batch, with the other model's tensor beside each of ours, both in float64.

    sentence, text, tokens   its row in the batch, the text, and its tokens with ids, padding included
    names                    what to call our model and the other
    """
    def row(tensor: Tensor, axes: Axes | None) -> Tensor:
        """The sentence's part of a tensor; of one without a batch axis, such as the positions, all."""
        batched = tensor.dim() > 0 and tensor.shape[0] == size and (not axes or axes[0] == "batch")
        return tensor[sentence : sentence + 1] if batched else tensor

    size = comparison.ours[0].tensor.shape[0]
    pairs = pair_up(comparison.ours, comparison.theirs)
    records, beside = [], {}
    for number, record in enumerate(comparison.ours):
        mine = replace(record, tensor=row(record.tensor, record.axes))
        records.append(mine)
        if number in pairs:
            other = row(pairs[number], record.axes)
            apart = differences(mine.tensor, other)
            largest = apart.max().item() if apart.numel() else 0.0  # the front door picks what is out of range: nothing
            beside[mine] = OtherModelTensor(other, largest, bool(close(mine.tensor, other).all()))
    logits = next(record.tensor[0] for record in records if record.variable == "logits")
    labels = zip(config.id2label.values(), logits.tolist(), logits.softmax(-1).tolist(), strict=True)
    parts = [
        replace(part, shown=tuple(Shown(one.record, one.turn, one.times, beside.get(one.record)) for one in part.shown))
        for part in parts_of(records, config.n_layers)
    ]
    best = config.id2label[int(logits.argmax())]
    return Explanation(
        text, names[0], tuple(tokens), 0, tuple(parts), tuple(labels), best, config.n_layers, tuple(records), names[1]
    )
