"""A checkpoint's vocabulary and its settings, and the five steps that the `tokenizers` library makes of them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NO_LIMIT = 10**30  # what transformers writes as model_max_length where there is none
SETTINGS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "model_max_length": 512}


def read_settings(path: Path) -> dict[str, Any]:
    """`tokenizer_config.json`: the settings that change ids, the rest is for other programs; BERT's own where it is absent.

    Raises OSError where the file cannot be read, ValueError in one sentence where it makes no sense.
    """
    values = _read_object(path) if path.exists() else {}
    settings = SETTINGS | {name: values[name] for name in SETTINGS if name in values}
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if type(settings[name]) is not bool and not (name == "strip_accents" and settings[name] is None):
            raise ValueError(f"{path}: {name} is {settings[name]!r}; wanted true or false.")
    length = settings["model_max_length"]
    if type(length) is float and 1e9 < length < math.inf:  # 1e30, as JSON may spell "no limit"
        length = settings["model_max_length"] = int(length)
    if type(length) is not int or length < 3:
        raise ValueError(f"{path}: model_max_length is {length!r}; wanted a number of tokens.")
    return settings


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Token -> id, from `tokenizer.json` where there is one, else from `vocab.txt`, where a token's id is its line from 0.

    Of a tokenizer.json only the vocabulary is taken, as transformers does: the steps are the same for every BERT.
    Raises OSError where the file cannot be read, ValueError in one sentence where it holds no whole vocabulary.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        values = _read_object(path)
        model = values.get("model")
        if not isinstance(model, dict) or model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
            raise ValueError(f"{path} holds no WordPiece vocabulary; wanted a BERT's tokenizer.")
        vocabulary: dict[str, int] = model["vocab"]
        for token in values.get("added_tokens") or []:
            if not isinstance(token, dict) or token.get("content") not in vocabulary:
                raise ValueError(f"{path} adds {token} to its vocabulary; minibert reads the vocabulary alone.")
        if sorted(vocabulary.values(), key=str) != sorted(range(len(vocabulary)), key=str):
            raise ValueError(f"{path} numbers its {len(vocabulary)} tokens with gaps; wanted the ids 0 to {len(vocabulary) - 1}.")
    else:
        path = folder / "vocab.txt"
        try:
            words = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error}); fetch it again.") from error
        vocabulary = {word: index for index, word in enumerate(words)}
        if len(vocabulary) < len(words):
            twice = next(word for index, word in enumerate(words) if vocabulary[word] != index)
            raise ValueError(f"{path} has {twice!r} twice; a vocabulary has each token once. Fetch it again.")
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise ValueError(f"{path} has no {missing[0]}; a DistilBERT vocabulary has {', '.join(SPECIAL_TOKENS)}.")
    return vocabulary


def build(vocabulary: dict[str, int], settings: dict[str, Any]) -> "Tokenizer":
    """Clean, split, WordPiece, special tokens, and the way back."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    core.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings["tokenize_chinese_chars"],
        strip_accents=settings["strip_accents"],
        lowercase=settings["do_lower_case"],
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    core.add_special_tokens(list(SPECIAL_TOKENS))  # in a text, they are not cut into pieces
    return core


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; wanted an object.")
    return values
