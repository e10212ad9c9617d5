"""The living listing: the model's own source, with the tensors of one sentence beside each line.

    explanation = explain("I hate this so much!")
    print(explanation)              # for the terminal, 80 columns; .listing(3) shows block 3
    explanation.save("page.html")   # one file, opens from disk
    explanation                     # in a notebook, the page
"""

import html
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from ... import text_classification
from ...storage.files import write_atomically
from ...text_classification import TextClassificationPipeline, pipeline
from ...tokenizer import check_text
from ..trace.source import Source, Span
from ..trace.tape import Record, Tape
from .data import ExplanationData, Part, Shown
from .page import page
from .terminal import text


class Explanation(ExplanationData):
    """A sentence on its way from text to label, shown as text, as a page or in a notebook; its fields are ExplanationData's."""

    def listing(self, block: int = 0, encoding: str = "utf-8") -> str:
        """The listing in lines of at most 80 columns, as terminal.text makes it."""
        return text(self, block, encoding)

    def html(self) -> str:
        """The listing as one page."""
        return page(self)

    def save(self, path: str | Path) -> None:
        """Writes the page; raises OSError, in one sentence, where it cannot be written."""
        write_atomically(path, self.html().encode())

    def __str__(self) -> str:
        return self.listing()

    def __repr__(self) -> str:
        label, _, probability = max(self.labels, key=lambda one: one[1])
        text = self.text if len(self.text) <= 60 else self.text[:59] + "…"
        return f"<Explanation of {text!r}: {label} {probability:.4f}, {self.model}>"

    def _repr_html_(self) -> str:
        """For a notebook: a frame of its own, so that neither page's style or script reaches into the other's."""
        style = "width: 100%; height: 44em; border: 1px solid #888"
        srcdoc = html.escape(self.html())
        return f'<iframe title="minibert explain" sandbox="allow-scripts" style="{style}" srcdoc="{srcdoc}"></iframe>'


def explain(
    text: str,
    model: str | Path | TextClassificationPipeline | None = None,
    *,
    revision: str | None = None,
    label: str | None = None,
) -> Explanation:
    """Runs `pipeline` on one text and keeps the tensor of every source line.

    model, revision   as in `pipeline`, on the CPU; or a pipeline that is loaded already
    label             the right answer, from which the loss is computed; None takes the model's own answer for right

    Raises TypeError for what is not a text, ValueError for an unknown label, CheckpointError where no checkpoint can be had.
    """
    check_text(text, "text")
    classifier = model
    if not isinstance(classifier, TextClassificationPipeline):
        classifier = pipeline(model=model, revision=revision, device="cpu")  # type: ignore[arg-type]
    plain = TextClassificationPipeline(classifier.model, classifier.tokenizer)  # it may have been made fast, and model.py is shown
    config = classifier.model.config
    if label is not None and label not in config.label2id:
        raise ValueError(f"label is {label!r}; this model knows {', '.join(config.label2id)}.")

    with Tape(classifier.model, also=[TextClassificationPipeline._scores]) as tape:
        [best] = plain([text])
    right = best["label"] if label is None else label
    made = {record.variable: record.tensor for record in tape.records if record.call.path == ""}
    records = tape.records + _loss(classifier.model, made, tape.records, config.label2id[right])

    ids = made["input_ids"][0].tolist()
    logits, probabilities = made["logits"][0].tolist(), made["probabilities"][0].tolist()
    return Explanation(
        text=text,
        model=classifier.name,
        tokens=tuple(zip(classifier.tokenizer.convert_ids_to_tokens(ids), ids, strict=True)),
        left_out=len(classifier.tokenizer(text)["input_ids"]) - len(ids),
        parts=tuple(parts_of(records, config.n_layers)),
        labels=tuple((config.id2label[i], logits[i], probabilities[i]) for i in range(config.num_labels)),
        right=right,
        n_blocks=config.n_layers,
        records=tuple(records),
    )


def _loss(model: torch.nn.Module, made: dict[str | None, torch.Tensor], records: list[Record], label: int) -> list[Record]:
    """What a run with labels makes beyond a run without: the lines of the loss, which classifying never reaches."""
    known = {(record.span, record.expression) for record in records}
    ids = made["input_ids"]
    with torch.inference_mode(), Tape(model) as tape:
        model(input_ids=ids, attention_mask=made["attention_mask"], labels=torch.tensor([label], device=ids.device))
    return [r for r in tape.records if r.call.parent is None and (r.span, r.expression) not in known]


def parts_of(records: list[Record], n_blocks: int) -> Iterator[Part]:
    """The records by class, in the order in which each class first finished its work: so the data flows."""
    times = Counter(map(_place, records))
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        name = record.call.function.replace(".<locals>", "")
        function = Source.of(record.file).definition(name)
        if function is None or not function.returns:  # such as check_inputs: it looks and hands nothing on
            continue
        whole_class = record.file != text_classification.__file__ and "." in name
        groups.setdefault((record.file, name.rpartition(".")[0] if whole_class else name), []).append(record)

    def finished(group: list[Record]) -> int:
        return max(records.index(record) for record in group if record.call is group[0].call)

    for (file, name), group in sorted(groups.items(), key=lambda item: finished(item[1])):
        source = Source.of(file)
        functions = {record.call.function.replace(".<locals>", ""): None for record in group}
        here = source.definition(name)
        bodies = [found for function in functions if (found := source.definition(function))]
        shown = []
        for record in group:
            often = times[_place(record)]
            turn = record.call.block
            if turn is None and often == n_blocks > 1:
                turn, often = record.occurrence, 1
            elif record.occurrence:
                continue
            shown.append(Shown(record, turn, often))
        if here is not None:
            yield Part(name, source, here.line, here.end_line, tuple((b.line, b.end_line) for b in bodies), tuple(shown))


def _place(record: Record) -> tuple[int, Span, str]:
    return record.call.number, record.span, record.expression
