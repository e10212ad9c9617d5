"""Tokens that are added beside the vocabulary are refused, not left out: the reference gives them ids of their own."""

import json

import pytest

from minibert import AutoTokenizer, CheckpointError

SPECIAL = {"0": "[PAD]", "1": "[UNK]", "2": "[CLS]", "3": "[SEP]", "4": "[MASK]"}


def configured(tokens):
    return json.dumps({"added_tokens_decoder": {index: {"content": token, "special": True} for index, token in tokens.items()}})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("added_tokens.json", '{"[NEW]": 50}', "added_tokens.json adds '[NEW]' to the vocabulary, with the id 50;"),
        ("added_tokens.json", '{"word7": 7}', "added_tokens.json adds 'word7'"),  # found within words, as no vocabulary's is
        ("added_tokens.json", '{"[PAD]": 1}', "adds '[PAD]' to the vocabulary, with the id 1;"),
        ("tokenizer_config.json", configured(SPECIAL | {"50": "<e>"}), "tokenizer_config.json adds '<e>' to the vocabulary"),
        ("tokenizer_config.json", configured(SPECIAL | {"0": "[MASK]"}), "adds '[MASK]' to the vocabulary, with the id '0';"),
    ],
)
def test_an_added_token_is_refused_by_name(folder, name, content, words):
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        AutoTokenizer.from_pretrained(folder)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_special_tokens_alone_are_no_added_ones(folder):
    (folder / "added_tokens.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(configured(SPECIAL))
    assert AutoTokenizer.from_pretrained(folder)("word7 [MASK] word9").input_ids == [2, 7, 4, 9, 3]


def test_the_reference_gives_an_added_token_an_id_that_the_vocabulary_alone_does_not(folder):
    transformers = pytest.importorskip("transformers", reason="the reference's own ids need transformers")
    (folder / "tokenizer_config.json").write_text(configured(SPECIAL | {"50": "<e>"}))
    assert transformers.BertTokenizer.from_pretrained(folder)("word7 <e>")["input_ids"] == [2, 7, 50, 3]
