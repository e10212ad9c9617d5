"""The part of a long text that its first tokens come from. A model reads one page of a book, so the rest is not tokenised.

A text can be cut before a space, a mark or a Chinese character, because BERT always splits there. Both parts then have the same
tokens as in the whole text. This is not true within a word, within "[SEP]" or before an accent.
"""

import functools
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECE = 4096  # characters cut up at once; the 512 tokens of English text have some 2,300
LONGEST_WORD = 100  # characters; a longer word is one [UNK], whatever it is

# BERT splits in front of each of these with any settings: Unicode's forms do not change them, and they join nothing before them.
SPLITS = (
    " \t\n\r" + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    + "".join(map(chr, range(0x2010, 0x2028)))  # dashes, quotes and the ellipsis
    + "\u060c\u061b\u061f\u06d4\u0964\u3000\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f"  # Arabic, Hindi, Chinese, Japanese
)  # fmt: skip
IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff"  # words of one character each, where the settings handle Chinese

COMPATIBLE = "".join(map(chr, range(0xF900, 0xFB00)))  # ideographs too, which Unicode's forms change


class Beginning(NamedTuple):
    text: str  # has the first tokens of the whole text, and one more if the whole has more
    read: int  # the first tokens come from no more than so many characters of the whole
    more: bool  # whether the whole goes on behind it


def splits(core: "Tokenizer") -> re.Pattern[str]:
    """Where a text can be cut; in a token that is never split, such as [SEP], only its first character may stand there."""
    inside = {character for token in core.get_added_tokens_decoder().values() for character in token.content[1:]}
    marks = re.escape("".join(character for character in SPLITS if character not in inside))
    return re.compile(f"[{marks}{IDEOGRAPHS if core.normalizer.handle_chinese_chars else ''}]")


def beginning(core: "Tokenizer", split: re.Pattern[str], text: str, tokens: int) -> Beginning:
    """Cuts up a text, a piece at a time, until it has more than so many tokens.

    Memory holds a piece at a time, and what has tokens. A piece ends at the first split behind PIECE characters. So it can be
    long only where that many characters and more come without a split; of a run of one character, or of letters and digits, as
    much is taken as can change a token (of those below U+10000, with no invisible character among them).
    """
    kept, found, read, end = [], 0, 0, 0
    while found <= tokens and end < len(text):
        start, place = end, split.search(text, end + PIECE)
        end = place.start() if place else len(text)
        piece = text[start:end]
        if end - start > 2 * PIECE:
            piece = _shortened(piece, split, max(LONGEST_WORD, tokens) + 1)
        encoding = core.encode(piece, add_special_tokens=False)
        if found < tokens <= found + len(encoding):
            read = start + encoding.offsets[tokens - found - 1][1] if len(piece) == end - start else end
        found += len(encoding)
        if len(encoding):  # what has none stands between two splits, and nothing changes without it
            kept.append(piece)
    return Beginning("".join(kept), read if found > tokens else len(text), end < len(text))


def _shortened(piece: str, split: re.Pattern[str], enough: int) -> str:
    """Takes the rest off runs that are longer than `enough`: their word is [UNK] already, or they alone give enough tokens."""
    letters, accents = _of_words(split)
    begins = re.compile(f"(?:[{letters}][{accents}]*+){{{enough}}}")

    def cut(word: re.Match[str]) -> str:
        begun = begins.match(word[0]) if len(word[0]) > enough else None
        return begun[0] if begun else word[0]

    piece = re.sub(f"[{letters}][{letters}{accents}]*+", cut, piece)
    return re.sub(rf"((.)\2{{{enough - 1}}})\2++", r"\1", piece, flags=re.DOTALL)


@functools.cache
def _of_words(split: re.Pattern[str]) -> tuple[str, str]:
    """What words are made of, as the insides of two character classes: letters and digits, of which each leaves one in its word;
    and accents, which may be taken off. Unicode 3.2 (2002) knows all of them, and so does every version of tokenizers.
    """
    characters = [character for character in map(chr, range(0x10000)) if not split.match(character) and character not in COMPATIBLE]
    kinds = [(unicodedata.ucd_3_2_0.category(character)[0], character) for character in characters]
    return tuple(re.escape("".join(one for kind, one in kinds if kind in wanted)) for wanted in ("LN", "M"))  # type: ignore[return-value]
