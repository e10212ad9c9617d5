"""From text to label and score: tokenizer, model, softmax, id2label.

    classifier = pipeline("sentiment-analysis")
    classifier("I hate this so much!")        -> [{"label": "NEGATIVE", "score": 0.9994558095932007}]
"""

import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from .checkpoint import DEFAULT, FALLBACK, CheckpointError, locate_or_fallback, read_model, read_tokenizer
from .fast import fast as make_fast
from .fast import state_of, unsupported_reason
from .long_text import PIECE
from .model import DistilBertForSequenceClassification
from .storage.vocabulary import check_vectors
from .tokenizer import BatchEncoding, DistilBertTokenizer, check_text

TASKS = ("sentiment-analysis", "text-classification")

FAST_FROM = 8  # texts that a pipeline has been given by the time it packs its weights; measured: two or three make up for it
BATCH_TOKENS = 512  # padding included; measured: from 256 to 1,024 it makes no difference, below and above it does
HALF_BATCH_TOKENS = 2048  # in bfloat16, where the products take so little time that starting them counts: a quarter less
WINDOW_TEXTS, LARGEST_WINDOW = 8, 1024  # a window has 8 texts at first, then twice as many each time
WINDOW_CHARACTERS = 100_000  # ... or no more than this, which bounds memory and the wait where texts are long
WINDOW_SECONDS = 1.0  # ... or what came within this time, where texts come slowly, as from a pipe

Score = dict[str, Any]  # {"label": str, "score": float}
TopK = int | Literal["best"] | None


def _after_fork() -> None:
    """A forked process has none of its parent's threads, and would wait for them for ever: it works with one."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def pipeline(
    task: str = "sentiment-analysis",
    model: str | Path | DistilBertForSequenceClassification | None = None,
    *,
    tokenizer: DistilBertTokenizer | None = None,
    revision: str | None = None,
    device: str | int | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    fast: bool | None = None,
    batch_size: int | None = None,
    top_k: TopK = "best",
) -> "TextClassificationPipeline":
    """Loads everything that turns text into labels.

    task        "sentiment-analysis" or "text-classification", two names of the same thing
    model       a Hub id, a folder or the name of a checkpoint that ships; or a loaded model, with its tokenizer.
                None means the Hub's SST-2 checkpoint. Where that is neither cached nor reachable, mini-sst2, which ships,
                stands in for it, with one warning a process, also where its name is given; the three Auto classes do the
                same, so that tokenizer and weights are of one checkpoint. No other name and no revision is ever replaced.
    revision    branch, tag or commit on the Hub
    device      such as "cpu", "cuda" or 0; None takes a GPU where PyTorch sees one
    dtype       what is computed in; bfloat16 needs about half the time, and scores change in the third decimal
    fast        True: with minibert.fast, the same scores sooner, to rounding; False: model.py as it stands; None: on a CPU, fast
                once enough texts have come to pay for it, unless you passed the model, which might change meanwhile
    batch_size, top_k   as in TextClassificationPipeline

    Raises CheckpointError where the checkpoint cannot be had, ValueError where its vocabulary is not its model's, ValueError or
    TypeError for arguments that make no sense.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; minibert does {' and '.join(map(repr, TASKS))}.")
    if tokenizer is not None and not isinstance(tokenizer, DistilBertTokenizer):
        raise TypeError(f"tokenizer is {tokenizer!r}; expected a loaded one: tokenizer=AutoTokenizer.from_pretrained(…).")
    target = _device(device)
    if isinstance(model, DistilBertForSequenceClassification):
        if tokenizer is None:
            raise ValueError("model is a loaded model; pass its tokenizer too: tokenizer=AutoTokenizer.from_pretrained(…).")
        if revision is not None:
            raise ValueError(f"model is a loaded model, and revision={revision!r} is for the Hub; leave one out.")
        name, loaded = type(model).__name__, model
    elif model is None or isinstance(model, (str, Path)):
        found = locate_or_fallback(DEFAULT if model is None else model, revision, tokenizer=tokenizer is None)
        name = found.name
        if tokenizer is None:
            tokenizer = read_tokenizer(found.folder)
        elif name == FALLBACK != model and tokenizer.contents() != read_tokenizer(found.folder).contents():
            raise CheckpointError(
                f"{FALLBACK} stands in for {model or DEFAULT}, and the tokenizer that you passed is of another checkpoint; "
                "leave it out."
            )
        with torch.inference_mode(False):  # under which PyTorch would not count its parameters' changes
            loaded = read_model(found.folder, DistilBertForSequenceClassification)
    else:
        raise TypeError(f"model is a {type(model).__name__}; expected a Hub id, a folder or a DistilBertForSequenceClassification.")
    if fast is False and dtype != torch.float32:
        raise ValueError(f"fast is False and dtype is {dtype}; without fast, the model computes in float32; leave one out.")
    made = TextClassificationPipeline(loaded.to(target), tokenizer, name=name, batch_size=batch_size, top_k=top_k)
    if fast or dtype != torch.float32:
        made.pack(dtype)
        made.batch_tokens = BATCH_TOKENS if dtype == torch.float32 else HALF_BATCH_TOKENS
    elif fast is None and loaded is not model and target.type == "cpu":
        made.fast_from = FAST_FROM
    return made


class TextClassificationPipeline:
    """Callable: text in, labels with scores out.

    model       set to evaluation mode: with dropout on, the same text would score differently each time
    name        which checkpoint speaks
    batch_size  texts computed together, in the order in which they come. None: a window of up to 1,024 texts is ordered by
                length, so that little padding is computed, and cut into batches of `batch_tokens` at most. Which texts are
                padded together changes scores by rounding alone.
    top_k       "best": one {"label", "score"} a text; a number k: a list of the k best; None: a list of all labels

    batch_tokens  tokens computed together, padding included, where batch_size is None
    quick       what computes the logits where it is not None: the same model, made fast, and made anew where `model` has changed
                since or is another; PyTorch does not count what is written to `parameter.data`. With forward hooks on it, or not
                in float32, `model` itself computes
    fast_from   after how many texts `quick` is made; None: never
    """

    def __init__(
        self,
        model: DistilBertForSequenceClassification,
        tokenizer: DistilBertTokenizer,
        *,
        name: str = "",
        batch_size: int | None = None,
        top_k: TopK = "best",
    ):
        check_vectors(tokenizer.vocab, model.config.vocab_size)
        self.model = model.eval()
        self._dtype: torch.dtype | None = None  # of `quick`
        self._made: tuple[DistilBertForSequenceClassification | None, list[Any]] = None, []  # `quick`, and of which state
        self.fast_from: int | None = None
        self.batch_tokens = BATCH_TOKENS
        self._given = 0
        self.tokenizer = tokenizer
        self.name = name
        self.batch_size = _checked_batch_size(batch_size)
        self.top_k = _checked_top_k(top_k)

    def __call__(
        self, texts: str | Iterable[str], *, top_k: TopK | Literal["as made"] = "as made", batch_size: int | None = None
    ) -> Any:
        """Classifies one text, a list of them, or whatever else yields them.

        texts    str -> list of one dict, best label first if top_k asks for several
                 list or anything else that has a length, such as a Series, an array or a dataset -> list, in the same order
                 generator or other iterable -> lazy iterator; what came before a bad text is still given out
        score    probability of the label, float in [0, 1]: softmax over the labels

        A text longer than the model's positions is cut at its end, with one warning a call. Memory holds no more of its tokens
        than the first PIECE characters have, or as many as it takes to come to a space, a mark or a Chinese character.

        Where the reference is odd, this does what one would expect: an empty list gives an empty list, a tuple is a
        batch, any iterable works, top_k means the same here as in `pipeline`, and a top_k that is not a positive
        number is refused. Raises TypeError for what is not a text, ValueError for a text that cannot be encoded or of which the
        model makes no finite numbers. What has no order of its own, as a set, or several columns, as a table, is refused too.
        """
        k = self.top_k if top_k == "as made" else _checked_top_k(top_k)
        size = self.batch_size if batch_size is None else _checked_batch_size(batch_size)
        if isinstance(texts, str):
            [result] = self._results([texts], 1, k)
            return result if isinstance(result, list) else [result]
        results = self._results(_checked_texts(texts), size, k)
        return list(results) if _is_sized(texts) else results

    def _results(self, texts: Iterable[str], size: int | None, top_k: TopK) -> Iterator[Any]:
        warned = False
        for start, window in _windows(texts, size):
            heads = [self.tokenizer.beginning(text, self.positions).text if len(text) > PIECE else text for text in window]
            encoded = self.tokenizer(heads, truncation=True, max_length=self.positions)
            for row, left_out in enumerate(encoded.left_out):
                if left_out and not warned:
                    warned = True
                    read, length = self.tokenizer.beginning(window[row], self.positions).read, len(window[row])
                    warnings.warn(
                        f"text {start + row} has more than the {self.positions} tokens that this model reads: of its {length:,} "
                        f"characters, those after the first {read:,} are left out. So it is with any other text of that length.",
                        stacklevel=3,
                    )
            self._given += len(window)
            if self.fast_from is not None and self._given >= self.fast_from:
                self.fast_from = None
                self._dtype = torch.float32 if unsupported_reason() is None else None
            lengths = [len(ids) for ids in encoded["input_ids"]]
            scores: dict[int, list[Score]] = {}  # of each text in the window
            for rows in batches(lengths, self.batch_tokens) if size is None else [list(range(len(window)))]:
                scores |= zip(rows, self._scores(_padded(encoded, rows, self.tokenizer.pad_token_id)), strict=True)
            for row in range(len(window)):
                if not all(math.isfinite(score["score"]) for score in scores[row]):
                    raise ValueError(
                        f"text {start + row} has no scores: the model makes no finite numbers of it, so its weights hold NaN or "
                        "infinity; fetch the checkpoint again."
                    )
                ranked = sorted(scores[row], key=lambda score: -score["score"])  # stable: of equals, the lower label first
                yield ranked[0] if top_k == "best" else ranked[:top_k]

    def pack(self, dtype: torch.dtype) -> None:
        """Makes `quick`. Raises as minibert.fast does."""
        state = state_of(self.model)  # before: what changes meanwhile is seen next time
        self._dtype, self._made = dtype, (make_fast(self.model, dtype), state)

    @property
    def quick(self) -> DistilBertForSequenceClassification | None:
        if self._dtype is not None and self._made[1] != (state := state_of(self.model)):
            try:
                self.pack(self._dtype)
            except ValueError:  # hooks, which have to run, or another dtype
                self._made = None, state
        return self._made[0]

    @property
    def positions(self) -> int:
        """How many tokens of a text are read, [CLS] and [SEP] among them."""
        return min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)

    @torch.inference_mode()
    def _scores(self, inputs: BatchEncoding) -> list[list[Score]]:
        model = self.quick or self.model
        logits = model(**inputs.to(self.model.classifier.weight.device)).logits         # (batch, labels)
        probabilities = F.softmax(logits.float(), dim=-1)                               # (batch, labels)
        names = self.model.config.id2label
        return [[{"label": names[i], "score": p} for i, p in enumerate(row)] for row in probabilities.tolist()]


def batches(lengths: Sequence[int], budget: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Cuts texts of these lengths (in tokens) into batches that hold little padding: the number of each text, longest first.

    A batch has at most `budget` tokens, padding included, or one text that is longer.
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:  # all are padded to the first
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(encoded: BatchEncoding, rows: list[int], pad_token_id: int) -> BatchEncoding:
    """Some rows of what the tokenizer gave, as tensors (batch, tokens) filled up to the longest of them."""
    ids, mask = ([torch.tensor(encoded[name][row]) for row in rows] for name in ("input_ids", "attention_mask"))
    return BatchEncoding(
        input_ids=pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
        attention_mask=pad_sequence(mask, batch_first=True, padding_value=0),
    )


def _windows(texts: Iterable[str], size: int | None) -> Iterator[tuple[int, list[str]]]:
    """Lists of texts, each with the number of its first one, taken from the source only as they are needed.

    size   texts in each; None: of a list, as many as there may be; else few at first, so that the first answers come soon, then
           more, so that there is much to order

    Where the source fails or holds what is not a text, what was taken before is given out first.
    """
    start, window, limit = 0, [], size or (LARGEST_WINDOW if _is_sized(texts) else WINDOW_TEXTS)
    characters, since = 0, time.monotonic()
    try:
        for number, text in enumerate(texts):
            check_text(text, f"text {number}")
            window.append(text)
            characters += len(text)
            late = characters >= WINDOW_CHARACTERS or time.monotonic() - since > WINDOW_SECONDS
            if len(window) == limit or (size is None and late):
                yield start, window
                start, window, limit = number + 1, [], size or min(2 * limit, LARGEST_WINDOW)
                characters, since = 0, time.monotonic()
    except Exception:
        if window:
            yield start, window
        raise
    if window:
        yield start, window


def _device(device: str | int | torch.device | None) -> torch.device:
    """The device asked for, tried out; or the best there is."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.zeros(1, device=target).item()
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).split(". ")[0].splitlines()[0][:200]
        raise ValueError(f"device is {device!r}, which this PyTorch cannot use ({reason}); try device='cpu'.") from error
    return target


def _checked_texts(texts: Any) -> Iterable[Any]:
    """What is to be classified, as something to go through; a dataset that only knows its length and its items becomes that."""
    kind = type(texts).__name__
    if isinstance(texts, (set, frozenset)):
        raise TypeError(f"texts is a {kind}, which has no order: nobody knows whose a label is; expected a list: sorted(texts).")
    if isinstance(texts, Mapping):
        raise TypeError(f"texts is a {kind}, whose keys would be read; expected a list of str, such as list(texts.values()).")
    if hasattr(texts, "columns") or hasattr(texts, "column_names"):
        raise TypeError(f'texts is a {kind}, a table with columns; expected the one that holds the texts, such as texts["text"].')
    if not isinstance(texts, (bytes, bytearray, memoryview)) and getattr(texts, "shape", None) != ():
        if isinstance(texts, Iterable):
            return texts
        if hasattr(texts, "__getitem__") and _is_sized(texts):
            return (texts[place] for place in range(len(texts)))
    raise TypeError(f"texts is a {kind}; expected a str, a list of str or a generator of str.")


def _is_sized(texts: Any) -> bool:
    try:
        return len(texts) >= 0
    except TypeError:  # as of a stream, which may have the method all the same
        return False


def _checked_batch_size(batch_size: Any) -> int | None:
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise ValueError(f"batch_size is {batch_size!r}; expected a positive number of texts, or None to batch by length.")
    return batch_size


def _checked_top_k(top_k: Any) -> TopK:
    if top_k != "best" and top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ValueError(f'top_k is {top_k!r}; expected a positive number of labels, None for all, or "best" for the best alone.')
    return top_k  # type: ignore[no-any-return]
