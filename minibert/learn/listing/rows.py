"""A class of the source as rows of HTML: a line, and beside it a card for each tensor that it made."""

import html
import io
import keyword
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ...storage.messages import printable
from ..trace.source import Source
from .data import ExplanationData, Part, Shown
from .matrices import Store, thumbnail

COLOURS = {tokenize.STRING: "s", tokenize.COMMENT: "c", tokenize.NUMBER: "m"}


def visible(text: str) -> str:
    """The text for HTML, with control and other invisible characters spelt out: none of them may turn what stands around it."""
    return html.escape(printable(text))


def part_rows(part: Part, explanation: ExplanationData, store: Store) -> str:
    """What the class is for, where it stands, and its lines."""
    said = []
    if (definition := part.source.definition(part.name)) and definition.docstring:
        said.append(f"<p>{visible(definition.docstring.partition(chr(10))[0])}</p>")
    place = visible(f"{Path(part.source.file).name}, lines {part.line} to {part.end_line}")
    if any(one.turn is not None for one in part.shown):
        loops = all(one.record.call.block is None for one in part.shown)
        says = "the loop shows" if loops else "this is"
        place += f' · {says} <span class="of-block">block <b class="block">0</b> of {explanation.n_blocks}, counted from 0</span>'
    said.append(f'<p class="place">{place}</p>')
    if any(one.record.variable == "loss" for one in part.shown):
        right = f"<b><bdi>{visible(explanation.right)}</bdi></b>"
        said.append(f"<p>The line of the loss needs a right answer: it ran once more, with {right} taken for right.</p>")
    return "".join(said) + f'\n<div class="listing">{"".join(_lines(part, _cards(part, store)))}</div>'


def _lines(part: Part, cards: dict[int, list[str]]) -> Iterator[str]:
    """The rows of a class: what did not run, its docstring and __init__, can be unfolded."""
    code = _highlight(part.source)

    def row(line: int) -> str:
        tensors = f'<div class="tensors">{"".join(cards[line])}</div>' if line in cards else ""
        text = part.source.lines[line - 1]
        indent = min(16, len(text) - len(text.lstrip()))
        return f'<div class="row"><span class="no">{line}</span><code class="i{indent}">{code[line - 1]}</code>{tensors}</div>\n'

    folded: list[int] = []
    for line in range(part.line, part.end_line + 2):
        runs = line == part.line or line in cards or any(first <= line <= last for first, last in part.bodies)
        if line <= part.end_line and not runs:
            folded.append(line)
            continue
        if folded:
            rows = "".join(map(row, folded))
            yield f"<details><summary>{_folded(part, folded)}</summary>{rows}</details>\n"
            folded = []
        if line <= part.end_line:
            yield row(line)


def _folded(part: Part, lines: list[int]) -> str:
    inside = [d.name[len(part.name) + 1 :] for d in part.source.definitions if d.line in lines]
    docstring = ["docstring"] if lines[0] == part.line + 1 else []
    return f"lines {lines[0]} to {lines[-1]}: {visible(', '.join(docstring + inside)) or 'not run'}"


def _highlight(source: Source) -> list[str]:
    """Each line as HTML, its tokens coloured."""
    marks: list[list[tuple[int, int, str]]] = [[] for _ in source.lines]
    before = ""
    for token in tokenize.generate_tokens(io.StringIO("\n".join(source.lines) + "\n").readline):
        colour = COLOURS.get(token.type, "s" if tokenize.tok_name[token.type].startswith("FSTRING") else "")
        if token.type == tokenize.NAME:
            colour = "d" if before in ("def", "class") else "k" if keyword.iskeyword(token.string) else ""
        (first, start), (last, end) = token.start, token.end
        for line in range(first, last + 1) if colour else ():
            marks[line - 1].append((start if line == first else 0, end if line == last else len(source.lines[line - 1]), colour))
        before = token.string
    return ["".join(_coloured(line, marked)) for line, marked in zip(source.lines, marks, strict=True)]


def _coloured(line: str, marks: list[tuple[int, int, str]]) -> Iterator[str]:
    done = 0
    for start, end, colour in marks:
        if colour == "c" and line[:start].strip():
            colour = "c behind"  # may go to a line of its own
        yield f'{visible(line[done:start])}<span class="{colour}">{visible(line[start:end])}</span>'
        done = end
    yield visible(line[done:])


def _cards(part: Part, store: Store) -> dict[int, list[str]]:
    """By line: one card for what an expression makes, in whichever block."""
    seen: Counter[object] = Counter()
    groups: dict[object, dict[int | None, Shown]] = {}
    for one in part.shown:
        place = one.record.call.function, one.record.span, one.record.expression, one.record.argument
        seen[place, one.turn] += 1
        groups.setdefault((place, seen[place, one.turn]), {})[one.turn] = one
    cards: dict[int, list[str]] = {}
    for group in groups.values():
        line = next(iter(group.values())).record.line
        cards.setdefault(line, []).append(_card(group, store))
    return cards


def _card(group: dict[int | None, Shown], store: Store) -> str:
    shown = group.get(None) or group.get(0) or next(iter(group.values()))
    tensor, (kept, difference) = store.tensors[store.number[id(shown)]], store.kept[store.number[id(shown)]]
    record = shown.record
    sizes = zip(record.labels, record.tensor.shape, strict=True)
    named = (f"{axis}\xa0{size}" if axis and not axis.isdigit() else str(size) for axis, size in sizes)
    facts = [
        f'<b class="name">{visible(record.name)}</b>',
        f'<span class="dtype">{str(record.tensor.dtype).removeprefix("torch.")}</span>',
        f'<span class="shape">{html.escape(" × ".join(named)) or "one number"}</span>',
        f'<span class="range">{tensor["range"]}</span>',
    ]
    if shown.times > 1:
        facts.append(f'<span class="often">evaluated {shown.times} times; this is the first</span>')
    inside = f'<img alt="" src="{thumbnail(kept, tensor["full"])}"><span class="facts">{" ".join(facts)}</span>'
    if difference is not None:
        other = tensor["other"]
        inside += f"""<span class="other"><img alt="" src="{thumbnail(kept + difference, tensor["full"])}"><span class="facts">
<span class="which">the other model</span> <span class="range">{other["range"]}</span>
<span class="agreement{"" if other["agrees"] else " differs"}">{other["verdict"]}</span></span></span>"""
    classes = "tensor" + " quiet" * (record.variable is None) + " first" * ("first" in tensor)
    target = ' id="first"' if any("first" in store.tensors[store.number[id(one)]] for one in group.values()) else ""
    absent = " hidden" * (None not in group and 0 not in group)
    return f'<div class="{classes}" data-t="{_numbers(group, store)}"{target}{absent}>{inside}</div>\n'


def _numbers(group: dict[int | None, Shown], store: Store) -> str:
    """The numbers of its tensors, block after block; one alone where no block has its own."""
    if None in group:
        return str(store.number[id(group[None])])
    last = max(turn for turn in group if turn is not None)
    return ",".join(str(store.number[id(group[turn])]) if turn in group else "" for turn in range(last + 1))
