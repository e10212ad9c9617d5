"""Text in a terminal's columns: how wide it is, where to break it, what to leave out."""

import unicodedata
from collections.abc import Iterator

COLUMNS = 80


def knows(encoding: str, characters: str) -> bool:
    """Whether an encoding has all the characters."""
    try:
        characters.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def shortened(expression: str, dots: str, width: int = 44) -> str:
    """The expression without what its outermost brackets hold, should it be long."""
    if len(expression) > width:
        depth, kept = 0, ""
        for character in expression:
            depth -= character == ")"
            kept += character if depth == 0 else ""
            depth += character == "("
        expression = kept.replace("()", f"({dots})")
    return expression if len(expression) <= width else expression[: width - 1] + dots


def wrapped(text: str, first: str = "", rest: str = "", code: bool = False) -> Iterator[str]:
    """The text in lines of at most 80 cells, broken at spaces, code rather behind a comma; a word that is too long is cut."""
    line, indent = first + text, len(first)
    while cells(line) > COLUMNS:
        room = next(place for place in range(len(line)) if cells(line[: place + 1]) > COLUMNS)
        spaces = [place for place in range(indent + 1, room + 1) if line[place] == " "]
        commas = [place for place in spaces if code and line[place - 1] == "," and place > COLUMNS // 2]
        cut = max(commas or spaces, default=room)
        yield line[:cut].rstrip()
        line, indent = rest + line[cut:].lstrip(" "), len(rest)
    yield line.rstrip()


def cells(text: str) -> int:
    """How many columns a terminal takes for it: two for a wide character, none for a mark on the one before."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
