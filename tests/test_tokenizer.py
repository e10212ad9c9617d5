"""minibert's tokenizer against transformers', built from the same vocabulary.

Ids are integers and both sides compute them exactly, so every comparison here is for equality.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minibert.long_text import LONGEST_WORD, PIECE, SPLITS, _of_words
from minibert.tokenizer import BatchEncoding, DistilBertTokenizer

import pytest
import torch
import transformers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("weights/mini-sst2", "../shared/data/distilbert-sst2-small-files")

LAB = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]
LAB_IDS = [
    [101, 1045, 1005, 2310, 2042, 3403, 2005, 1037, 17662, 12172, 2607, 2026, 2878, 2166, 1012, 102],
    [101, 1045, 5223, 2023, 2061, 2172, 999, 102],
]
CURIOSITIES = [
    *[" ", "\t", "\n", "\r", "\x00", "\x07", "\x85", "\xa0", "\xad", "\u3000", "\ufffd", "\u200b", "\u200d", "\ufeff", "\ufe0f"],
    *["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]", "[mask]", "[sep]", "[ SEP ]", "[SEP", "[[SEP]]", "##ing", "##", "[unused0]"],
    *["中文", "漢", "日本語", "ひらがな", "한국어", "𠀀", "é", "e\u0301", "\u0301", "\u20dd", "Ç", "ß", "İ", "ı", "ﬁ", "ǅ", "ς"],
    *["😀", "👨\u200d👩\u200d👧", "🇩🇪", "שלום", "مرحبا", "\u202e", "नमस्ते", "ไทย", "½", "²", "٣", "don't", "U.S.", "a_b", "…"],
    *["a" * 100, "a" * 101, "b" * 300, "ä" * 100, "ä" * 101, "unbelievably", "HUGGING", "x1y2", "$5"],
]
# An integer stands for the vocabulary's token of that number; the fixture `spell` puts it in.
MIXED = st.lists(st.sampled_from(CURIOSITIES) | st.integers(0, 30_521) | st.text(max_size=4), min_size=1, max_size=10)
ANY_TEXT = st.text(max_size=30).map(lambda text: [text])  # from all of Unicode; lone surrogates are no text
BATCH = st.lists(ANY_TEXT | MIXED, min_size=20, max_size=20)
fuzz = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
def vocabulary_folder():
    for place in PLACES:
        if (ROOT / place / "vocab.txt").exists():
            return ROOT / place
    pytest.skip(f"the 30,522-word vocab.txt is in neither {' nor '.join(PLACES)}")


@pytest.fixture(scope="module")
def ours(vocabulary_folder):
    return DistilBertTokenizer.from_folder(vocabulary_folder)


@pytest.fixture(scope="module")
def theirs(vocabulary_folder):
    return transformers.DistilBertTokenizer.from_pretrained(vocabulary_folder)


@pytest.fixture(scope="module")
def spell(vocabulary_folder):
    words = (vocabulary_folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return lambda batch: ["".join(words[part] if isinstance(part, int) else part for part in parts) for parts in batch]


def words_of(count, letters):
    """A text of exactly `count` tokens: each letter and each digit is a token."""
    return " ".join((letters * count)[:count])


def refusal(exception, call, *args, **kwargs):
    with pytest.raises(exception) as caught:
        call(*args, **kwargs)
    assert caught.type is exception and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_labs_sentences_have_the_published_ids(ours):
    assert ours(LAB).input_ids == LAB_IDS
    padded = ours(LAB, padding=True, truncation=True, return_tensors="pt")
    assert [(tensor.shape, tensor.dtype) for tensor in padded.values()] == 2 * [((2, 16), torch.int64)]
    assert padded.input_ids.tolist() == [LAB_IDS[0], LAB_IDS[1] + 8 * [0]]
    assert padded.attention_mask.tolist() == [16 * [1], 8 * [1] + 8 * [0]]


@settings(parent=fuzz, max_examples=60)
@given(batch=BATCH)
@example(batch=[[piece] for piece in CURIOSITIES])
def test_ids_and_mask_equal_the_references_on_any_text(ours, theirs, spell, batch):
    texts = spell(batch)
    assert ours(texts) == dict(theirs(texts))
    assert ours(texts[0]) == dict(theirs(texts[0]))  # one text alone gives flat lists


def test_every_character_of_the_first_two_planes_is_read_as_the_reference_reads_it(ours, theirs):
    characters = [chr(point) for point in range(0x20000) if not 0xD800 <= point < 0xE000]
    texts = [" ".join(f"a{c}b {c}" for c in characters[start : start + 256]) for start in range(0, len(characters), 256)]
    assert ours(texts) == dict(theirs(texts))


@fuzz
@given(batch=BATCH)
def test_both_spellings_of_a_pair_equal_the_references(ours, theirs, spell, batch):
    texts = spell(batch)
    pairs = list(zip(texts[:10], texts[10:], strict=True))
    wanted = dict(theirs(pairs))
    assert ours(pairs) == ours([list(pair) for pair in pairs]) == wanted
    assert ours(texts[:10], texts[10:]) == ours(texts[:10], text_pair=tuple(texts[10:])) == wanted
    assert ours(texts[0], texts[10]) == {name: rows[0] for name, rows in wanted.items()}


@pytest.mark.parametrize("padding", [True, "longest", "max_length"])
@settings(parent=fuzz, max_examples=5)
@given(batch=BATCH)
def test_padding_adds_only_pad_tokens(ours, theirs, spell, padding, batch):
    texts = spell(batch)
    for how in ({}, {"truncation": True}, {"truncation": True, "max_length": 24}):
        assert ours(texts, padding=padding, **how) == dict(theirs(texts, padding=padding, **how))
    inputs = ours(texts, padding=padding, truncation=True, return_tensors="pt")
    bare = theirs(texts, truncation=True).input_ids
    assert inputs.input_ids.shape == (20, 512 if padding == "max_length" else max(len(row) for row in bare))
    for row, mask, ids in zip(inputs.input_ids.tolist(), inputs.attention_mask.tolist(), bare, strict=True):
        assert row == ids + (len(row) - len(ids)) * [0]
        assert mask == len(ids) * [1] + (len(row) - len(ids)) * [0]


@pytest.mark.parametrize("truncation", [True, "only_first", "longest_first"])
def test_a_single_text_is_cut_as_the_reference_cuts_it(ours, theirs, truncation):
    texts = [words_of(count, "abcdefg") for count in range(26)]
    for max_length in range(2, 21):
        cut = ours(texts, truncation=truncation, max_length=max_length)
        assert cut == dict(theirs(texts, truncation=truncation, max_length=max_length))
        assert cut.left_out == tuple(max(0, len(row) - max_length) for row in theirs(texts).input_ids)
    assert ours(texts, truncation="only_second") == dict(theirs(texts, truncation="only_second"))  # nothing has to be cut
    long = words_of(600, "abcdefg")  # without max_length, the model's limit counts
    assert ours(long, truncation=truncation) == dict(theirs(long, truncation=truncation))
    assert len(ours(long, truncation=truncation).input_ids) == 512 and len(ours(long).input_ids) == 602


@pytest.mark.parametrize("max_length", range(3, 21))
@pytest.mark.parametrize("truncation", [True, "longest_first", "only_first", "only_second"])
def test_a_pair_is_cut_as_the_reference_cuts_it(ours, theirs, truncation, max_length):
    sizes = (0, 1, 2, 3, 5, 8, 9, 17, 25)
    how = {"truncation": truncation, "max_length": max_length}
    cuttable = []
    for first, second in [(first, second) for first in sizes for second in sizes]:
        pair = (words_of(first, "abcdefg"), words_of(second, "12345"))
        spare = {"only_first": first, "only_second": second}.get(truncation, first + second)  # what may be cut off
        excess = max(0, first + second + 3 - max_length)
        if excess > spare:
            assert f"truncation={truncation!r} cannot cut {excess} tokens" in refusal(ValueError, ours, [pair], **how)
        elif truncation in ("only_first", "only_second") and excess == spare > 0:  # the reference refuses to empty a side
            assert ours([pair], **how) == dict(theirs([("", pair[1]) if truncation == "only_first" else (pair[0], "")]))
        else:
            cuttable.append(pair)
    cut = ours(cuttable, **how)
    assert cut == dict(theirs(cuttable, **how))
    assert cut.left_out == tuple(max(0, len(row) - max_length) for row in theirs(cuttable).input_ids)


SETTINGS = [{"do_lower_case": False}, {"do_lower_case": False, "strip_accents": True}, {"strip_accents": False}]
SETTINGS += [{"tokenize_chinese_chars": False}, {"model_max_length": 7}, {"model_max_length": int(1e30)}]  # "no limit"


@pytest.mark.parametrize("config", SETTINGS)
def test_each_setting_counts_as_in_the_reference_and_is_saved(vocabulary_folder, ours, tmp_path, config):
    cased = "".join(word + "\n" for word in ["Hello", "WORLD", "Ärger", "Arger", "ärger", "Öl", "öl", "##Öl", "中文", "É"])
    (tmp_path / "vocab.txt").write_bytes((vocabulary_folder / "vocab.txt").read_bytes() + cased.encode())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512} | config))
    texts = ["Hello WORLD", "Ärger über Öl", "Arger HELLO hello", "中文 und mehr Worte", "e\u0301 É", words_of(600, "ab")]
    wanted = dict(transformers.DistilBertTokenizer.from_pretrained(tmp_path)(texts, truncation=True))
    mine = DistilBertTokenizer.from_folder(tmp_path)
    assert mine(texts, truncation=True) == wanted != ours(texts, truncation=True)

    mine.save_pretrained(tmp_path / "saved")
    for read in (DistilBertTokenizer.from_folder, transformers.DistilBertTokenizer.from_pretrained):
        assert dict(read(tmp_path / "saved")(texts, truncation=True)) == wanted


@pytest.fixture(scope="module", params=[{}, *SETTINGS[:4]], ids=str)
def both(request, vocabulary_folder, tmp_path_factory):
    """Our tokenizer and the reference's, with each setting that changes how a text is cut up."""
    folder = tmp_path_factory.mktemp("settings")
    (folder / "vocab.txt").write_bytes((vocabulary_folder / "vocab.txt").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512} | request.param))
    return DistilBertTokenizer.from_folder(folder), transformers.DistilBertTokenizer.from_pretrained(folder)


def assert_begins_alike(both, text, max_length):
    """What is left of a text has the first ids that the reference makes of the whole, and tells whether there are more."""
    mine, theirs = both
    found, whole = mine.beginning(text, max_length), theirs(text, return_offsets_mapping=True)
    shorter = len(whole.input_ids) > max_length
    assert mine(found.text, truncation=True, max_length=max_length) == dict(theirs(text, truncation=True, max_length=max_length))
    assert (len(mine(found.text).input_ids) > max_length) == shorter
    last = whole["offset_mapping"][max_length - 2][1] if shorter else len(text)
    assert last <= found.read <= len(text) and (found.read == last or not shorter or len(found.text) < found.read)
    return found


NASTY = ["\u0301" * 250, "]" * 250, "x9" * 200, "中" * 200, "가" * 150, "[SEP]" * 60, "\0" * 200, "é" * 150, "\u302e" * 120]
NASTY += [" " * 200, "a" * 101 + "\u0301", "[SE", "P]", "[MAS", "K]", "\u0345\u0327", "≮", "[" * 130 + "SEP]", "x" * 130 + "[SEP]"]
PARTS = st.sampled_from([*CURIOSITIES, *NASTY, *SPLITS]) | st.text(max_size=4)


@settings(parent=fuzz, max_examples=100)
@given(parts=st.lists(PARTS, max_size=25), piece=st.integers(1, 40), max_length=st.integers(2, 60))
@example(parts=NASTY, piece=1, max_length=20)
@pytest.mark.some(2)
def test_the_beginning_of_any_text_has_the_ids_of_the_whole(both, parts, piece, max_length):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minibert.long_text.PIECE", piece)  # so that short texts are cut up as well
        assert_begins_alike(both, "".join(parts), max_length)


LONG = {
    "words": "unbelievably good, not [SEP]arate! " * 2000,
    "a cut within a word": "x" * (PIECE - 3) + "unbelievably good " * 2000,
    "a cut within a special token": "x" * (PIECE - 3) + "[SEP] good " * 2000,
    "a cut before an accent": "x" * (PIECE - 1) + "e\u0301 good\u0301 " * 2000,
    "a word longer than a piece": "a" * 100_000 + " good" * 600,
    "a word of letters and digits": "aB3" * 100_000 + "é" + " good" * 600,
    "a word that is [UNK] only as a whole": "good" * (PIECE // 4) + "é" * LONGEST_WORD + " bad" * 600,
    "spaces": " " * 100_000 + "good " * 600,
    "spaces in a word's place": "good" + " \n" * 50_000 + "bad " * 600,
    "accents alone": "go" + "\u0301" * 100_000 + "od bad " * 600,
    "zero width": "go" + "\u200b\u200d" * 10_000 + "od bad " * 600,
    "control characters in a special token": "[S" + "\0" * 10_000 + "EP] bad " * 600,
    "special tokens": "[SEP][MASK]" * 3000,
    "half special tokens": "[SE[MAS" * 3000,
    "marks": "!" * 20_000,
    "marks at which no cut is sure": "]" * 20_000,
    "one character of Chinese": "中" * 20_000,
    "Chinese without spaces": "我喜歡這部電影，" * 3000,
    "Korean in one word": "영화" * 10_000 + " good" * 600,
    "Chinese without marks": "我喜歡這部電影" * 3000,
    "Thai in one word": "ไม่เคยดูหนังที่ดีขนาดนี้" * 1000 + " good" * 600,
    "Russian in one word": "хорошо" * 10_000 + " good" * 600,
    "Hindi in one word": "अच्छी" * 10_000 + " good" * 600,
    "accents on every letter": "e\u0301o\u0308\u0323" * 10_000 + " good" * 600,
    "emoji": "\U0001f600" * 20_000 + " good" * 600,
    "too few tokens": " ".join(["a" * 20_000] * 5),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_the_beginning_of_a_long_text_has_the_ids_of_the_whole(ours, theirs, text):
    found = assert_begins_alike((ours, theirs), text, 512)
    assert len(found.text) <= 3 * PIECE + 600 or "\u200b" in text


@pytest.mark.some(1)
def test_more_than_a_hundred_of_any_letters_and_accents_are_one_unknown_word(both):
    """Which is why the rest of them can be left out."""
    mine, theirs = both
    letters, accents = (re.findall(f"[{inside}]", "".join(map(chr, range(0x10000)))) for inside in _of_words(mine._split))
    assert len(letters) > 18_000 and len(accents) > 400
    words = [*((one * LONGEST_WORD + "e") for one in letters), *(f"e{one}" * (LONGEST_WORD + 1) for one in accents)]
    unknown = theirs.convert_tokens_to_ids("[UNK]")
    assert theirs(words, add_special_tokens=False).input_ids == [[unknown]] * len(words)


@pytest.mark.some(1)
def test_a_text_splits_in_front_of_each_character_that_is_said_to(both):
    mine, theirs = both
    chinese = mine._split.match("中") is not None
    # "]" is left out, since it ends [SEP].
    befores = ["ab", "e\u0301", "a\0", "中", "9", "[SE", "[SEP]", "!", " ", "\u302e", "ﾞ", "a" * 99]
    afters = [c + end for c in SPLITS if c != "]" for end in ("", "ab", "\u0301", "\u0338", "P]", "\u302e", "中")]
    ideographs = map(chr, (*range(0x3400, 0x4DC0, 97), 0x4DBF, *range(0x4E00, 0xA000, 97), 0x9FFF))
    afters += [c + end for c in ideographs for end in ("", "ab", "中")] * chinese
    first, second = (theirs(texts, add_special_tokens=False).input_ids for texts in (befores, afters))
    whole = theirs([before + after for before in befores for after in afters], add_special_tokens=False).input_ids
    assert whole == [one + other for one in first for other in second]


def test_tokenizer_json_gives_the_same_ids_and_its_own_settings_have_no_effect(vocabulary_folder, theirs, tmp_path):
    writer = transformers.DistilBertTokenizer.from_pretrained(vocabulary_folder)
    writer(LAB, truncation=True, max_length=5, padding="max_length")
    writer.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert stored["truncation"]["max_length"] == stored["padding"]["strategy"]["Fixed"] == 5
    assert not (tmp_path / "vocab.txt").exists()
    texts = [*LAB, "", *CURIOSITIES]
    assert DistilBertTokenizer.from_folder(tmp_path)(texts) == dict(theirs(texts))


@fuzz
@given(batch=BATCH)
def test_tokens_ids_and_text_are_converted_as_the_reference_does(ours, theirs, spell, batch):
    for text in spell(batch):
        ids, tokens = theirs(text).input_ids, theirs.tokenize(text)
        assert ours.tokenize(text) == tokens
        assert ours.convert_tokens_to_ids([*tokens, "no token"]) == theirs.convert_tokens_to_ids([*tokens, "no token"])
        assert ours.convert_ids_to_tokens(ids) == ours.convert_ids_to_tokens(torch.tensor(ids)) == theirs.convert_ids_to_tokens(ids)
        assert ours.decode(ids) == ours.decode(torch.tensor(ids)) == theirs.decode(ids)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)


def test_the_output_is_a_dict_with_attributes_that_moves_to_a_device(ours):
    inputs = ours(LAB, padding=True, truncation=True, max_length=10, return_tensors="pt")
    assert list(dict(**inputs)) == ["input_ids", "attention_mask"]
    assert inputs.input_ids is inputs["input_ids"] and inputs.attention_mask is inputs["attention_mask"]
    assert inputs.left_out == inputs.to("cpu").left_out == (6, 0)  # of 16 and 8 tokens
    assert isinstance(inputs.to("cpu"), BatchEncoding) and torch.equal(inputs.to("cpu").input_ids, inputs.input_ids)
    assert {tensor.device.type for tensor in inputs.to("meta").values()} == {"meta"}
    assert "has input_ids, attention_mask" in refusal(AttributeError, getattr, inputs, "token_type_ids")


def test_threads_that_share_a_tokenizer_do_not_disturb_each_other(ours, vocabulary_folder):
    texts = [words_of(count, "abcdefg") for count in (30, 3, 12, 0)]
    ways = [{}, {"padding": True}, {"padding": "max_length", "max_length": 60}, {"truncation": True, "max_length": 6}]
    ways += [{"padding": "max_length", "truncation": True, "max_length": size} for size in (2, 4, 9, 20)]
    theirs = transformers.DistilBertTokenizer.from_pretrained(vocabulary_folder)
    wanted = [dict(theirs(texts, **how)) for how in ways]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda how: [dict(ours(texts, **how)) for _ in range(100)], ways))
    assert [many == 100 * [one] for one, many in zip(wanted, answers, strict=True)] == 8 * [True]


def test_what_is_no_id_and_no_token_is_refused_by_name(ours):
    for convert in (ours.convert_ids_to_tokens, ours.decode):
        for ids, found in (([30522], "30522"), ([-1], "-1"), ([2**40], str(2**40))):
            assert f"{found} is not an id of this vocabulary" in refusal(ValueError, convert, ids)
        for ids in (7, ["a"], [[101]], [1.5], None):
            assert "expected the ids of one sentence" in refusal(TypeError, convert, ids)
    assert "expected a list of tokens" in refusal(TypeError, ours.convert_tokens_to_ids, "[CLS]")
    assert 'pass return_tensors="pt"' in refusal(TypeError, ours("a").to, "cpu")


def test_of_a_tokenizer_json_the_vocabulary_alone_is_read_and_saved_again(tmp_path):
    stored = json.loads(tokenizer_json(a=5, b=6)) | {"normalizer": None, "post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    first = DistilBertTokenizer.from_folder(tmp_path)
    assert first("A b c").input_ids == [2, 5, 6, 1, 3]
    first.save_pretrained(tmp_path)
    assert DistilBertTokenizer.from_folder(tmp_path)("A b c").input_ids == [2, 5, 6, 1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer_config.json", "vocab.txt"]


REFUSALS = [
    *[(TypeError, [x], {}, [f"text is a {type(x).__name__}", "expected a str or a"]) for x in (None, 5, 1.5, b"x", {"a": 1})],
    (TypeError, [["a", None]], {}, ["text 1 is a NoneType", "expected a str"]),
    (TypeError, [[("a", None)]], {}, ["second text of pair 0", "NoneType", "expected a str"]),
    (TypeError, [[("a", "b", "c")]], {}, ["text 0 is a tuple", "expected a str, or a pair"]),
    (TypeError, ["a", ["b"]], {}, ["text is a str", "text_pair a list", "two of a kind"]),
    (TypeError, [["a"], "b"], {}, ["text is a list", "text_pair a str", "two lists"]),
    (ValueError, [[]], {}, ["text is an empty list", "at least one text"]),
    (ValueError, [["a", "b"], ["c"]], {}, ["text has 2", "text_pair 1", "expected as many"]),
    (ValueError, [["a", "oh \ud83d no"]], {}, ["text 1", r"lone surrogate '\ud83d'", "character 3", "decode the text properly"]),
    (ValueError, ["a b"], {"truncation": True, "max_length": 1}, ["max_length=1", "no room", "take 2 tokens"]),
    (ValueError, ["a", "b"], {"truncation": True, "max_length": 2}, ["max_length=2", "no room", "take 3 tokens"]),
    *[(ValueError, ["a"], {"max_length": x}, [f"max_length is {x!r}", "positive number"]) for x in (0, -1, "9", 2.0, True)],
    (ValueError, ["a b"], {"truncation": "only_second", "max_length": 3}, ["no second text", "pass truncation=True"]),
    (ValueError, ["a"], {"max_length": 5}, ["max_length=5", "pass truncation=True"]),
    (ValueError, [LAB], {"return_tensors": "pt"}, ["8 to 16 tokens", "pass padding=True"]),
    (ValueError, [LAB], {"return_tensors": "pt", "padding": "max_length", "max_length": 9}, ["9 to 16 tokens", "truncation=True"]),
    (ValueError, ["a"], {"padding": "max_length", "max_length": 10**30}, ["needs a max_length"]),
    (ValueError, ["a"], {"padding": "long"}, ["padding is 'long'", 'expected True, False, "longest" or "max_length"']),
    (ValueError, ["a"], {"truncation": "first"}, ["truncation is 'first'", 'expected True, False, "longest_first", "only_first"']),
    (ValueError, ["a"], {"return_tensors": "np"}, ["return_tensors is 'np'", 'expected "pt" or None']),
]


@pytest.mark.parametrize(("exception", "args", "kwargs", "words"), REFUSALS)
def test_what_cannot_be_encoded_is_refused_by_name(ours, exception, args, kwargs, words):
    message = refusal(exception, ours, *args, **kwargs)
    assert [word for word in words if word not in message] == [], message


SMALL = "".join(token + "\n" for token in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c"])


def tokenizer_json(*added, **words) -> str:
    """The parts of a tokenizer.json that are read: a small vocabulary, and tokens added to it."""
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])} | words
    return json.dumps({"model": {"type": "WordPiece", "vocab": vocabulary}, "added_tokens": [{"content": t} for t in added]})


BAD_FILES = [
    ("vocab.txt", SMALL.replace("[SEP]\n", ""), "has no [SEP]; a DistilBERT vocabulary has"),
    ("vocab.txt", "", "has no [PAD]; a DistilBERT vocabulary has"),
    ("vocab.txt", SMALL + "b\n", "has 'b' twice; a vocabulary has each token once"),
    ("vocab.txt", SMALL.encode("utf-16"), "is not UTF-8"),
    ("tokenizer.json", "{}", "holds no WordPiece vocabulary"),
    ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}}}', "holds no WordPiece vocabulary"),
    ("tokenizer.json", tokenizer_json(a=6), "numbers its 6 tokens with gaps; expected the ids 0 to 5"),
    ("tokenizer.json", tokenizer_json("[NEW]", a=5), "to its vocabulary, which changes the ids of a text"),
    ("tokenizer.json", tokenizer_json(a=5).replace("[SEP]", "[SOP]"), "has no [SEP]"),
    *[("tokenizer.json", tokenizer_json(a=x), "something else than whole numbers") for x in (5.0, True, "5", None, [[5]], {})],
    ("tokenizer.json", tokenizer_json(**{"\ud800": 5}), "a token with half a character"),
    ("tokenizer.json", tokenizer_json("[NEW]"), "adds {'content': '[NEW]'} to its vocabulary"),
    *[("tokenizer.json", tokenizer_json(x, a=5), "to its vocabulary") for x in (["a"], {"a": 5}, None, 5)],
    *[("tokenizer.json", tokenizer_json(a=5).replace("[]", x), "to its vocabulary") for x in ("5", '"a"', '{"a": 5}', "[[]]")],
    ("tokenizer.json", tokenizer_json(a=5).replace("[]", '[{"content": "a", "id": 4}]'), "to its vocabulary"),
    ("tokenizer.json", tokenizer_json(a=5).replace("5", "[" * 600 + "]" * 600), "something else than whole numbers"),
    *[("tokenizer_config.json", text, "is not valid JSON") for text in ("{", "", b"\xff", "[" * 100_000)],
    *[("tokenizer_config.json", text, "expected an object") for text in ("[]", "null", '"a"')],
    *[("tokenizer_config.json", f'{{"model_max_length": {n}}}', "model_max_length is") for n in ('"9"', -5, 1.5, "null", "1e999")],
    *[("tokenizer_config.json", f'{{"{name}": "no"}}', f"{name} is 'no'; expected true or false") for name in list(SETTINGS[1])],
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_damaged_file_is_refused_by_name(tmp_path, name, content, words):
    (tmp_path / "vocab.txt").write_text(SMALL)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(ValueError, DistilBertTokenizer.from_folder, tmp_path)
    assert str(tmp_path / name) in message and words in message


def added(token: str, index: int, **how: bool) -> dict[str, object]:
    """An entry of tokenizer_config.json, as transformers writes it."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"added_tokens_decoder": {str(index): {"content": token} | plain | how}}


ADDED_WORDS = [*SMALL.split(), "<", "new", ">", "[", "]", "unk"]
ADDED_TEXT = "a <new> ab [UNK] a"
ADDITIONS = [
    ("added_tokens.json", {"<new>": len(ADDED_WORDS)}),
    ("added_tokens.json", {"b": 6}),
    ("tokenizer_config.json", added("<new>", len(ADDED_WORDS))),
    ("tokenizer_config.json", added("b", 6, special=False)),
    ("tokenizer_config.json", {"additional_special_tokens": ["<new>"]}),
    ("tokenizer_config.json", {"extra_special_tokens": {"new_token": "<new>"}}),
    ("tokenizer_config.json", {"cls_token": "a"}),
    ("tokenizer_config.json", {"split_special_tokens": True}),
    ("special_tokens_map.json", {"additional_special_tokens": ["<new>"]}),
    ("special_tokens_map.json", {"unk_token": "a"}),
]


@pytest.mark.parametrize(("name", "content"), ADDITIONS, ids=range(len(ADDITIONS)))
def test_a_file_that_adds_tokens_to_the_vocabulary_is_refused_since_it_changes_ids(tmp_path, name, content):
    (tmp_path / "vocab.txt").write_text("".join(word + "\n" for word in ADDED_WORDS))
    (tmp_path / "config.json").write_text('{"model_type": "distilbert"}')
    plain = DistilBertTokenizer.from_folder(tmp_path)(ADDED_TEXT).input_ids
    assert plain == transformers.DistilBertTokenizer.from_pretrained(tmp_path)(ADDED_TEXT)["input_ids"]
    (tmp_path / name).write_text(json.dumps(content))
    assert transformers.DistilBertTokenizer.from_pretrained(tmp_path)(ADDED_TEXT)["input_ids"] != plain
    assert str(tmp_path / name) in refusal(ValueError, DistilBertTokenizer.from_folder, tmp_path)


def test_the_special_tokens_under_their_own_names_and_ids_are_no_addition(tmp_path):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("".join(word + "\n" for word in ADDED_WORDS))
    decoder = {key: entry for i, token in enumerate(special) for key, entry in added(token, i)["added_tokens_decoder"].items()}
    roles = {"unk_token": "[UNK]", "cls_token": {"content": "[CLS]", "normalized": False}, "additional_special_tokens": []}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder} | roles))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(roles))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[MASK]": 4}))
    assert DistilBertTokenizer.from_folder(tmp_path)(ADDED_TEXT).input_ids == [2, 5, 8, 9, 10, 1, 1, 5, 3]
