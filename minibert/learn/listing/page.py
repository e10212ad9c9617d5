"""The living listing as one HTML file, which opens from disk and fetches nothing.

    Path("page.html").write_text(page(explain("I hate this so much!")), encoding="utf-8")

Block 0 stands in the page as it is read, so that it prints, and reads where scripts are off. page.js draws the other
blocks, and whole matrices, from the data at the page's end. What LIMIT leaves no room for, the page names.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from ...storage.messages import printable
from .data import ExplanationData, Shown, first_to_differ
from .matrices import Store
from .rows import part_rows, visible

LIMIT = 1_200_000  # bytes of the whole page
TOKENS = 32, 24, 16, 8, 4, 2  # how many tokens are shown: the most that leave room for WORTH numbers of each
WORTH = 48
CHARACTERS = 1500  # of the text itself
FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; base-uri 'none'; form-action 'none'"


def page(explanation: ExplanationData) -> str:
    """The explanation as HTML of at most LIMIT bytes, with as many of its numbers as that can hold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small tensors: on a busy machine, threads that wait for each other took ten times as long
    try:
        return _fitted(explanation)
    finally:
        torch.set_num_threads(threads)


def _fitted(explanation: ExplanationData) -> str:
    store, columns = None, 8.0 * WORTH
    for tokens in TOKENS:
        store = Store(explanation, tokens, int(columns), store)
        text = _document(explanation, store)
        size = len(text.encode())
        if size - store.growing * (1 - WORTH / columns) <= LIMIT:
            break
    assert store is not None
    numbers = [min(tokens / store.length, 1) * one.record.tensor.numel() for part in explanation.parts for one in part.shown]
    if sum(numbers) < 2.5 * LIMIT:  # many repeat others, so that all may have room
        everything = Store(explanation, tokens, int(max(numbers)), store)
        if everything.size + size - store.size <= 0.99 * LIMIT:
            return _document(explanation, everything)
    for _ in range(9):
        if 0.97 * LIMIT < size <= LIMIT:
            break
        columns = max(1.0, columns * (1 + (0.985 * LIMIT - size) / (store.growing + 1)))
        store = Store(explanation, tokens, int(columns), store)
        text = _document(explanation, store)
        size = len(text.encode())
    return text


def _document(explanation: ExplanationData, store: Store) -> str:
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    policy = POLICY.format(*("sha256-" + base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (script, style)))
    steps = [("The text", _text(explanation)), ("Its tokens", _tokens(explanation, store))]
    attention = _attention(explanation)
    for part in explanation.parts:
        steps.append((part.name, part_rows(part, explanation, store)))
        if attention and attention[0] in part.shown:
            steps.append(("Who looks at whom", _attention_table(attention, explanation, store)))
            attention = []
    steps.append(("The answer", _answer(explanation)))
    data = {
        "tokens": [printable(token) for token, _ in explanation.tokens[: store.tokens]],
        "labels": [printable(label) for label, _, _ in explanation.labels],
        "against": explanation.against and printable(explanation.against),
        "forms": store.forms,
        "tensors": store.tensors,
    }
    names = "".join(f'<li><a href="#step{number}">{visible(name)}</a></li>' for number, (name, _) in enumerate(steps, 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{visible(explanation.text[:60])} – minibert</title>
<style>{style}</style>
</head>
<body>
<header>
<p class="kicker">minibert, the living listing</p>
<h1>A sentence on its way through DistilBERT</h1>
<p class="lead">The model’s source stands at the left; beside each line stands the tensor that it made of your sentence.
Choose a block, and click a tensor, or press Enter on it, to see its numbers.</p>
{_summary(explanation)}
<nav aria-label="Steps"><ol>{names}</ol></nav>
<ul class="notes">{"".join(f"<li>{note}</li>" for note in _notes(explanation, store))}</ul>
<noscript><p class="warning">Scripts are off: this page shows block 0 alone, and no complete matrices.</p></noscript>
</header>
<div id="bar" role="region" aria-label="Block and colours">
{_chooser(explanation)}
<p class="legend"><span>below 0</span><span class="scale" aria-hidden="true"></span><span>above 0</span>
<span class="grey" aria-hidden="true"></span><span>masked, NaN</span></p>
</div>
<main>
{"".join(_step(number, name, content) for number, (name, content) in enumerate(steps, 1))}
</main>
<footer><p>Made by minibert from the source that it ran. Nothing on this page was fetched. Matrices of query × key are kept
in 16 bits, wider ones in 8: their dialogs say how far that rounds. Smallest, largest and mean are of the complete
tensors.</p></footer>
<dialog id="full" aria-labelledby="full-name"></dialog>
<p id="status" class="unseen" role="status"></p>
<script type="application/json" id="shown">{_json(data)}</script>
<script type="application/octet-stream" id="numbers">{store.base64}</script>
<script>{script}</script>
</body>
</html>
"""


def _json(data: object) -> str:
    """JSON in which nothing can end the script element that it stands in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _step(number: int, name: str, content: str) -> str:
    heading = f'<h2 id="step{number}"><span class="count">{number}</span> {visible(name)}</h2>'
    return f'<section aria-labelledby="step{number}">\n{heading}\n{content}\n</section>\n'


def _summary(explanation: ExplanationData) -> str:
    label, _, probability = max(explanation.labels, key=lambda one: one[2])
    text = explanation.text[:CHARACTERS]
    said = f"""<p class="sentence"><q><bdi>{visible(text)}</bdi></q></p>
<p class="verdict"><b><bdi>{visible(label)}</bdi></b> {probability:.4f}, says {visible(explanation.model)}.</p>"""
    if explanation.against is None:
        return said
    compared = f"Compared with <bdi>{visible(explanation.against)}</bdi>, which stands beside each tensor: "
    first = first_to_differ(explanation)
    if first is None:
        return f'{said}\n<p class="compared">{compared}all tensors agree, up to rounding.</p>'
    where = f"{visible(first.record.name)} in line {first.record.line}" + ("" if first.turn is None else f", block {first.turn}")
    return f"""{said}
<p class="compared">{compared}the first that differs is
<a id="to-first" href="#first" data-block="{first.turn or 0}">{where}</a>.</p>"""


def _notes(explanation: ExplanationData, store: Store) -> Iterator[str]:
    if len(explanation.text) > CHARACTERS:
        yield f"Of the text, the first {CHARACTERS} of {len(explanation.text)} characters are printed."
    if explanation.left_out:
        yield f"The text is longer than the model can read: {explanation.left_out} tokens were cut off at its end."
    if len(explanation.tokens) > store.tokens:
        yield (
            f"The page shows the first {store.tokens} of {len(explanation.tokens)} tokens, so the rows of an attention map "
            "need not sum to 1 here."
        )
    if store.cut:
        yield f"To stay below 1.2 MB, the page holds a part of wide matrices alone: {', '.join(store.cut)}."


def _chooser(explanation: ExplanationData) -> str:
    radios = "".join(
        f'<label><input type="radio" name="block" value="{block}"{" checked" * (block == 0)}><span>{block}</span></label>'
        for block in range(explanation.n_blocks)
    )
    return f'<fieldset id="blocks" hidden><legend>Block</legend>{radios}</fieldset>'


def _text(explanation: ExplanationData) -> str:
    return f"""<p>A text comes in as {len(explanation.text)} characters. The model knows no characters, so the tokenizer cuts it
into pieces of its vocabulary.</p>
<p class="sentence"><bdi>{visible(explanation.text[:CHARACTERS])}</bdi></p>"""


def _tokens(explanation: ExplanationData, store: Store) -> str:
    pieces = "".join(
        f'<li><bdi class="piece">{visible(token)}</bdi> <span class="id">{number}</span></li>'
        for token, number in explanation.tokens[: store.tokens]
    )
    more = len(explanation.tokens) - store.tokens
    rest = f"<p>… and {more} more, which are not shown.</p>" if more > 0 else ""
    unknown = "[UNK] stands for what the vocabulary does not have. " if "[UNK]" in dict(explanation.tokens) else ""
    return f"""<p>Each piece has a number, its row in the table of word embeddings. ## continues a word; [CLS] and [SEP] mark
the beginning and the end. {unknown}These {len(explanation.tokens)} numbers, and a mask that says which of them are padding,
are all that the model is told.</p>
<ol class="tokens" start="0">{pieces}</ol>{rest}"""


def _attention(explanation: ExplanationData) -> list[Shown]:
    """Each block's attention map, as the class that computes it hands it on."""
    for part in explanation.parts:
        last = {
            one.turn: one for one in part.shown
            if one.turn is not None and one.record.variable and (one.record.axes or ())[-3:] == ("heads", "query", "key")
        }
        if last:
            return [last[block] for block in range(explanation.n_blocks) if block in last]
    return []


def _attention_table(maps: list[Shown], explanation: ExplanationData, store: Store) -> str:
    number = store.number[id(maps[0])]
    weights, full = store.kept[number][0], store.tensors[number]["full"]
    tokens = [f"<bdi>{visible(token)}</bdi>" for token, _ in explanation.tokens[: store.tokens]]
    top = "".join(f'<th scope="col"><span>{token}</span></th>' for token in tokens)
    shades = (weights[0] / full).clamp(0, 1).nan_to_num(0).mul(9).round().int().tolist()
    cells = [
        [f'<td class="q{shade}">{weight:.2f}</td>' for shade, weight in zip(*row, strict=True)]
        for row in zip(shades, weights[0].tolist(), strict=True)
    ]
    rows = "".join(f'<tr><th scope="row">{token}</th>{"".join(row)}</tr>' for token, row in zip(tokens, cells, strict=True))
    heads = "".join(f'<option value="{head}">{head}</option>' for head in range(len(weights)))
    more = len(explanation.tokens) > store.tokens
    cut = f"; the first {store.tokens} of {len(explanation.tokens)} tokens, so that rows need not sum to 1" if more else ""
    return f"""<p>How much each token (row) took from each token (column) in one block and head. Attention weights are not an
explanation of the answer: they say what was mixed, not what decided.</p>
<p class="choice" id="attention-choice" hidden><label>Head <select id="attention-head">{heads}</select></label></p>
<div class="scroll" tabindex="0" role="region" aria-label="Attention weights">
<table id="attention" data-t="{",".join(str(store.number[id(one)]) for one in maps)}">
<caption>Block <b class="block">0</b>, head <b id="attention-shown">0</b>; the row is the query, the column the key{cut}</caption>
<thead><tr><td></td>{top}</tr></thead><tbody>{rows}</tbody></table></div>"""


def _answer(explanation: ExplanationData) -> str:
    best = max(one[2] for one in explanation.labels)
    rows = "".join(
        f'<tr{" class=best" * (p == best)}><th scope="row"><bdi>{visible(label)}</bdi></th><td>{logit:.4f}</td><td>{p:.4f}</td>'
        f'<td><meter min="0" max="1" value="{p:.4f}" aria-label="probability of {visible(label)}"></meter></td></tr>'
        for label, logit, p in explanation.labels
    )
    right = f"takes <b><bdi>{visible(explanation.right)}</bdi></b> for the right label"
    known = any(record.variable == "loss" for record in explanation.records)
    loss = f"The line of the loss, in the class of the classifier, {right}." if known else ""
    return f"""<p>Softmax turns the logits into probabilities, and the label with the highest is the answer. {loss}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Labels"><table class="labels">
<thead><tr><th scope="col">label</th><th scope="col">logit</th><th scope="col">probability</th><td></td></tr></thead>
<tbody>{rows}</tbody></table></div>"""
