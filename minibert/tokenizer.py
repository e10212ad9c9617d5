"""Text to token ids and back: BERT's WordPiece tokenizer, over the `tokenizers` library.

    "I hate this so much!"
      clean and lowercase    i hate this so much!
      split at spaces, marks i | hate | this | so | much | !
      WordPiece              the longest piece of the vocabulary first; what follows inside a word starts with ##
      add special tokens     [CLS] i hate this so much ! [SEP]
      look up                101 1045 5223 2023 2061 2172 999 102

Sources: Wu et al. 2016 (arXiv 1609.08144) for WordPiece, Devlin et al. 2018 (arXiv 1810.04805) for the rest.
"""

import json
import operator
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .long_text import Beginning, beginning, splits
from .storage.files import write_together
from .storage.vocabulary import NO_LIMIT, SPECIAL_TOKENS, build, read_settings, read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Encoding

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
TRUNCATIONS = (True, False, "longest_first", "only_first", "only_second")

Pair = tuple[str, str | None]


class BatchEncoding(dict[str, Any]):
    """The model's input, ready for `model(**inputs)`: a dict whose entries can be read as attributes too.

    input_ids, attention_mask   (batch, tokens) int64 tensors with return_tensors="pt"; otherwise lists of lists,
                                or flat lists for a single text
    left_out                    tuple of int, one a text: how many tokens truncation cut (not an entry of the dict)
    """

    left_out: tuple[int, ...] = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the tokenizer's output has {', '.join(self)}; it has no {name!r}.") from None

    def to(self, device: str | int | torch.device) -> "BatchEncoding":
        """The same tensors on another device."""
        if not all(isinstance(value, torch.Tensor) for value in self.values()):
            raise TypeError('.to() moves tensors, and these are lists; pass return_tensors="pt" to the tokenizer.')
        moved = BatchEncoding({name: tensor.to(device) for name, tensor in self.items()})
        moved.left_out = self.left_out
        return moved


class DistilBertTokenizer:
    """WordPiece as distilbert-base-uncased was trained with it.

    `tokenizer(texts, padding=…, truncation=…, max_length=…, return_tensors="pt")` gives a BatchEncoding.
    Sharing one between threads is safe: a call changes nothing in it.

    `token_type_ids` are not returned, since DistilBERT has no use for them; this is what the reference's
    DistilBertTokenizer does, and differs from its AutoTokenizer of 2026, which makes a BertTokenizer.
    """

    def __init__(self, vocabulary: dict[str, int], settings: dict[str, Any]):
        self._core = build(vocabulary, settings)
        self._split = splits(self._core)
        self._settings = settings
        self.vocab = vocabulary
        self.vocab_size = len(vocabulary)
        self.model_max_length: int = settings["model_max_length"]
        self.pad_token_id = vocabulary["[PAD]"]
        self.all_special_ids = [vocabulary[token] for token in SPECIAL_TOKENS]

    @classmethod
    def from_folder(cls, folder: str | Path) -> "DistilBertTokenizer":
        """Reads `vocab.txt` (or `tokenizer.json` where a folder has it) and `tokenizer_config.json`.

        Raises OSError where a file cannot be read, ValueError in one sentence where it does not hold what it should.
        """
        return cls(read_vocabulary(Path(folder)), read_settings(Path(folder)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `vocab.txt` and `tokenizer_config.json`, from which minibert and transformers make this tokenizer.

        A `tokenizer.json` that was there would be read in their place, and files that add tokens beside them; they are removed.
        """
        write_together(Path(folder), self.contents())

    def contents(self) -> dict[str, bytes | None]:
        """The files that save_pretrained writes, and None for what it removes, as write_together wants them.

        The settings come last: without a vocabulary nobody reads them, so they never meet another one's.
        """
        lines = [token + "\n" for token in sorted(self.vocab, key=self.vocab.__getitem__)]
        settings = json.dumps(self._settings) + "\n"
        others = dict.fromkeys(("tokenizer.json", "added_tokens.json", "special_tokens_map.json"))
        return {"vocab.txt": "".join(lines).encode(), **others, "tokenizer_config.json": settings.encode()}

    def __call__(
        self,
        text: str | Sequence[str] | Sequence[tuple[str, str]],
        text_pair: str | Sequence[str] | None = None,
        *,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Encodes one text, or a list of texts or of (text, second text) pairs.

        padding         True or "longest": fill up to the longest of the batch; "max_length": up to max_length
        truncation      True or "longest_first": cut to max_length tokens, a pair at its longer side;
                        "only_first", "only_second": cut that side alone
        max_length      in tokens, special tokens included; by default the model's own limit
        return_tensors  "pt" for tensors, None for lists

        Raises TypeError for what is not a text, ValueError for what cannot be encoded as asked.
        """
        if padding not in (True, False, "longest", "max_length"):
            raise ValueError(f'padding is {padding!r}; expected True, False, "longest" or "max_length".')
        if truncation not in TRUNCATIONS:
            raise ValueError(f'truncation is {truncation!r}; expected True, False, "longest_first", "only_first" or "only_second".')
        if return_tensors not in (None, "pt"):
            raise ValueError(f'return_tensors is {return_tensors!r}; expected "pt" or None.')
        if max_length is None:
            max_length = self.model_max_length
        elif type(max_length) is not int or max_length < 1:
            raise ValueError(f"max_length is {max_length!r}; expected a positive number of tokens.")
        elif not truncation and padding != "max_length":
            raise ValueError(f"max_length={max_length} says nothing on its own; pass truncation=True with it.")

        if padding == "max_length" and max_length >= NO_LIMIT:
            raise ValueError('padding="max_length" needs a max_length; this tokenizer has no limit of its own.')

        pairs = list(_pairs_of(text, text_pair))
        encodings, left_out = [], []
        for first, second in self._encode(pairs):
            excess = self._excess(first, second, max_length) if truncation else 0
            if excess:
                self._truncate(first, second, excess, truncation)
            left_out.append(excess)
            encodings.append(self._core.post_process(first, second))

        length = max(len(encoding) for encoding in encodings)
        if padding == "max_length":
            length = max_length
        for encoding in encodings:
            if padding:
                encoding.pad(length, pad_id=self.pad_token_id, pad_token="[PAD]")
        ids, masks = [e.ids for e in encodings], [e.attention_mask for e in encodings]
        if return_tensors is None:
            single = isinstance(text, str)
            output = BatchEncoding(input_ids=ids[0] if single else ids, attention_mask=masks[0] if single else masks)
        elif len(lengths := {len(row) for row in ids}) > 1:
            remedy = f"pass truncation=True to cut to max_length={max_length}" if padding else "pass padding=True"
            raise ValueError(f"the texts have {min(lengths)} to {max(lengths)} tokens and a tensor needs one length; {remedy}.")
        else:
            output = BatchEncoding(input_ids=torch.tensor(ids), attention_mask=torch.tensor(masks))
        output.left_out = tuple(left_out)
        return output

    def beginning(self, text: str, max_length: int) -> Beginning:
        """The beginning of a text that has its first tokens, as many as max_length has room for, the special tokens among them.

        What it gives is exact: `tokenizer(beginning.text, truncation=True, max_length=max_length)` has the ids of the whole.
        """
        return beginning(self._core, self._split, text, max_length - self._core.num_special_tokens_to_add(False))

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text, without [CLS] and [SEP]: "transformers!" -> ["transformers", "!"]."""
        check_text(text, "text")
        [(first, _)] = self._encode([(text, None)])
        tokens: list[str] = first.tokens
        return tokens

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int]:
        """Ids of tokens as `tokenize` gives them; a token that the vocabulary lacks has the id of [UNK]."""
        if isinstance(tokens, str):
            raise TypeError("tokens is a str; expected a list of tokens, such as tokenize() gives.")
        return [self.vocab.get(token, self.vocab["[UNK]"]) for token in tokens]

    def convert_ids_to_tokens(self, ids: Sequence[int] | torch.Tensor) -> list[str]:
        """Tokens of one sentence's ids: [101, 1045, 102] -> ["[CLS]", "i", "[SEP]"]. Raises ValueError for an unknown id."""
        return [str(self._core.id_to_token(index)) for index in self._checked_ids(ids)]

    def decode(self, ids: Sequence[int] | torch.Tensor, skip_special_tokens: bool = False) -> str:
        """One sentence's ids to text again; case, accents and the spaces around marks are gone for good."""
        text: str = self._core.decode(self._checked_ids(ids), skip_special_tokens=skip_special_tokens)
        return text

    def _checked_ids(self, ids: Sequence[int] | torch.Tensor) -> list[int]:
        try:
            numbers = [operator.index(index) for index in (ids.tolist() if isinstance(ids, torch.Tensor) else ids)]
        except TypeError as error:
            raise TypeError(f"ids is not a list of whole numbers ({error}); expected the ids of one sentence.") from error
        for index in numbers:
            if not 0 <= index < self.vocab_size:
                raise ValueError(f"{index} is not an id of this vocabulary; its ids are 0 to {self.vocab_size - 1}.")
        return numbers

    def _encode(self, pairs: list[Pair]) -> Iterator[tuple["Encoding", "Encoding | None"]]:
        """Encodes both sides without special tokens, in one call of the library, which uses all cores."""
        texts = [text for pair in pairs for text in pair if text is not None]
        encoded = iter(self._core.encode_batch(texts, add_special_tokens=False))
        for _, second in pairs:
            yield next(encoded), None if second is None else next(encoded)

    def _excess(self, first: "Encoding", second: "Encoding | None", max_length: int) -> int:
        """How many tokens are too many once the special tokens have their place."""
        special = self._core.num_special_tokens_to_add(second is not None)
        if max_length < special:
            raise ValueError(f"max_length={max_length} leaves no room: [CLS] and [SEP] alone take {special} tokens.")
        return max(0, len(first) + (len(second) if second is not None else 0) + special - max_length)

    def _truncate(self, first: "Encoding", second: "Encoding | None", excess: int, strategy: bool | str) -> None:
        """Cuts `excess` tokens off the ends, in place."""
        keep_first, keep_second = len(first), 0 if second is None else len(second)
        if strategy == "only_second" and second is None:
            raise ValueError("truncation='only_second', but there is no second text; pass truncation=True.")
        if strategy == "only_second":
            keep_second -= excess
        elif strategy == "only_first" or second is None:
            keep_first -= excess
        else:  # off the longer side until both are alike, then off both
            room = keep_first + keep_second - excess
            shorter = min(keep_first, keep_second, room // 2)
            first_is_shorter = keep_first <= keep_second
            keep_first, keep_second = (shorter, room - shorter) if first_is_shorter else (room - shorter, shorter)
        if keep_first < 0 or keep_second < 0:
            raise ValueError(
                f"truncation={strategy!r} cannot cut {excess} tokens off a side that has fewer; pass truncation=True to cut both."
            )
        first.truncate(keep_first)
        if second is not None:
            second.truncate(keep_second)


def _pairs_of(text: Any, text_pair: Any) -> Iterator[Pair]:
    """Every accepted form of input as (text, second text or None); everything else is refused by name and place."""
    if isinstance(text, str):
        if text_pair is not None and not isinstance(text_pair, str):
            raise TypeError(f"text is a str and text_pair a {type(text_pair).__name__}; expected two of a kind.")
        text, text_pair = [text], None if text_pair is None else [text_pair]
    if not isinstance(text, Sequence) or isinstance(text, (bytes, bytearray)):
        raise TypeError(f"text is a {type(text).__name__}; expected a str or a list of str.")
    if not text:
        raise ValueError("text is an empty list; expected at least one text.")
    if text_pair is not None:
        if not isinstance(text_pair, Sequence) or isinstance(text_pair, (str, bytes, bytearray)):
            raise TypeError(f"text is a list and text_pair a {type(text_pair).__name__}; expected two lists.")
        if len(text) != len(text_pair):
            raise ValueError(f"text has {len(text)} entries and text_pair {len(text_pair)}; expected as many.")
        text = list(zip(text, text_pair, strict=True))
    for number, entry in enumerate(text):
        pair = (entry, None) if isinstance(entry, str) else entry
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"text {number} is a {type(entry).__name__}; expected a str, or a pair of str.")
        check_text(pair[0], f"text {number}")
        if not isinstance(entry, str):
            check_text(pair[1], f"the second text of pair {number}")
        yield pair[0], pair[1]


def check_text(text: Any, name: str) -> None:
    """Raises TypeError for what is not a str, ValueError for a str that is not a text; `name` says which one it is."""
    if not isinstance(text, str):
        kind = type(text).__name__
        if text is None or kind in ("NAType", "NaTType") or (isinstance(text, float) and text != text):  # pandas' own among them
            raise TypeError(f'{name} is a {kind}, a missing value ({text}); expected a str. Leave it out, or put "" in its place.')
        if isinstance(text, (bytes, bytearray, memoryview)):
            raise TypeError(f'{name} is a {kind}; expected a str. Decode it, such as with .decode(), or open its file without "b".')
        raise TypeError(f"{name} is a {kind}; expected a str.")
    if found := LONE_SURROGATE.search(text):
        raise ValueError(
            f"{name} holds the lone surrogate {found[0]!r} at character {found.start()}, which is half a character; "
            'decode the text properly, or replace it: text.encode("utf-8", "replace").decode().'
        )


