"""A checkpoint's vocabulary and its settings, and the five steps that the `tokenizers` library makes of them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import path_inside, read_json, read_small
from .messages import short

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROLES = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
NO_LIMIT = 10**30  # what transformers writes as model_max_length where there is none
SETTINGS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "model_max_length": 512}


def read_settings(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`: the settings that change ids, the rest is for other programs; BERT's own where it is absent.

    Raises OSError where the file cannot be read, ValueError in one sentence where it makes no sense.
    """
    path = path_inside(folder, "tokenizer_config.json")
    values = _read_object(path) if path.exists() else {}
    settings = SETTINGS | {name: values[name] for name in SETTINGS if name in values}
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if type(settings[name]) is not bool and not (name == "strip_accents" and settings[name] is None):
            raise ValueError(f"{path}: {name} is {short.repr(settings[name])}; expected true or false.")
    length = settings["model_max_length"]
    if type(length) is float and 1e9 < length < math.inf:  # 1e30, as JSON may spell "no limit"
        length = settings["model_max_length"] = int(length)
    if type(length) is not int or length < 3:
        raise ValueError(f"{path}: model_max_length is {short.repr(length)}; expected a number of tokens.")
    return settings


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Token -> id, from `tokenizer.json` where there is one, else from `vocab.txt`, where a token's id is its line from 0.

    Only the vocabulary of a tokenizer.json is read, as transformers does: the steps are the same for every BERT.
    Raises OSError where the file cannot be read, ValueError in one sentence where it holds no whole vocabulary, or a file
    beside it adds tokens.
    """
    path = path_inside(folder, "tokenizer.json")
    if path.exists():
        vocabulary = _of_json(path)
    else:
        path = path_inside(folder, "vocab.txt")
        if not path.exists():
            raise FileNotFoundError(f"{folder} has no vocab.txt and no tokenizer.json; a checkpoint needs one of them.")
        try:
            words = read_small(path).decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error}); fetch it again.") from error
        vocabulary = {word: index for index, word in enumerate(words)}
        if len(vocabulary) < len(words):
            twice = next(word for index, word in enumerate(words) if vocabulary[word] != index)
            raise ValueError(f"{path} has {short.repr(twice)} twice; a vocabulary has each token once. Fetch it again.")
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise ValueError(f"{path} has no {missing[0]}; a DistilBERT vocabulary has {', '.join(SPECIAL_TOKENS)}.")
    _check_additions(folder, vocabulary)
    return vocabulary


def check_vectors(vocabulary: dict[str, int], vectors: int) -> None:
    """Raises ValueError where a model with that many word vectors was not made for this vocabulary.

    An id means the same word to both only where both are of one checkpoint, and the number gives most others away.
    """
    words = len(vocabulary)
    if words != vectors:
        trouble = "the last words have no vector" if words > vectors else "words that are missing would be read as others"
        raise ValueError(
            f"the vocabulary has {words:,} words and the model {vectors:,} word vectors, so {trouble}; take vocab.txt from "
            "the model's own checkpoint or, where its vectors are padded, add lines such as [unused0] at the end."
        )


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


def _of_json(path: Path) -> dict[str, int]:
    """The vocabulary of a tokenizer.json."""
    values = _read_object(path)
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise ValueError(f"{path} holds no WordPiece vocabulary; expected a BERT's tokenizer.")
    vocabulary: dict[str, int] = model["vocab"]
    if not all(type(index) is int for index in vocabulary.values()):
        raise ValueError(f"{path} numbers its tokens with something else than whole numbers; fetch it again.")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError(f"{path} numbers its {len(vocabulary)} tokens with gaps; expected the ids 0 to {len(vocabulary) - 1}.")
    try:
        "".join(vocabulary).encode()
    except UnicodeEncodeError as error:  # JSON can spell half a character, UTF-8 cannot
        raise ValueError(f"{path} has a token with half a character in it ({error}); fetch it again.") from error
    added = values.get("added_tokens") or []
    for token in added if isinstance(added, list) else [added]:
        _check_token(path, token, vocabulary, token.get("id") if isinstance(token, dict) else None)
    return vocabulary


def _check_additions(folder: Path, vocabulary: dict[str, int]) -> None:
    """Raises ValueError where a file beside the vocabulary adds a token to it, or gives a special token another name.

    The reference then looks for that token before it splits a text into words, and finds other ids.
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = path_inside(folder, name)
        values = _read_object(path) if path.exists() else {}
        decoder = values.get("added_tokens_decoder") or {}
        for index, token in decoder.items() if isinstance(decoder, dict) else [(None, decoder)]:
            _check_token(path, token, vocabulary, index)
        for key in ("additional_special_tokens", "extra_special_tokens"):
            further = values.get(key) or []
            tokens = further.values() if isinstance(further, dict) else further if isinstance(further, list) else [further]
            for token in tokens:
                _check_token(path, token, vocabulary)
        for role, standard in ROLES.items():
            if values.get(role) is not None and _content(values[role]) != standard:
                raise ValueError(f"{path}: {role} is {short.repr(values[role])}; minibert knows {standard} alone.")
        if values.get("split_special_tokens"):
            raise ValueError(f"{path}: split_special_tokens is set; minibert never cuts a special token into pieces.")
    path = path_inside(folder, "added_tokens.json")
    for token, index in (_read_object(path) if path.exists() else {}).items():
        _check_token(path, token, vocabulary, index)


def _check_token(path: Path, token: Any, vocabulary: dict[str, int], index: Any = None) -> None:
    """Raises ValueError unless the token is one of the special ones, with its own id."""
    content = _content(token)
    if content not in SPECIAL_TOKENS or (index is not None and str(index) != str(vocabulary.get(content))):
        raise ValueError(
            f"{path} adds {short.repr(token)} to its vocabulary, which changes the ids of a text; minibert reads the vocabulary "
            f"alone, with {', '.join(SPECIAL_TOKENS)}. Use transformers for this checkpoint."
        )


def _content(token: Any) -> str | None:
    """The text of a token that is given as a string or as an object; None where the object asks for another kind of search."""
    if isinstance(token, dict) and not token.get("normalized") and not token.get("single_word"):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; expected an object.")
    return values
