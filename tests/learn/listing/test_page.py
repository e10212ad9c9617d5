"""The page: what it holds, that it fits, and that a browser and a keyboard can use it."""

import ast
import base64
import dataclasses
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import minibert.model
from minibert.config import DistilBertConfig
from minibert.learn import Explanation, explain
from minibert.learn.listing.data import OtherModelTensor, Shown
from minibert.learn.listing.page import page
from minibert.model import DistilBertForSequenceClassification
from minibert.storage.messages import printable
from minibert.text_classification import TextClassificationPipeline, pipeline

import pytest
import torch
from browser import axe, chromium

CEILING = 1_200_000
COURSE = "I've been waiting for a HuggingFace course my whole life."
HOSTILE = "</script><b>&<!-- \u202eabc שלום مرحبا \x1b[31m {{7*7}} \" onclick='x' </style>"


@pytest.fixture(scope="module")
def mini() -> TextClassificationPipeline:
    return pipeline(model="mini-sst2", device="cpu")


@pytest.fixture(scope="module")
def full_size(mini: TextClassificationPipeline) -> TextClassificationPipeline:
    """DistilBERT's shape with random numbers: they repeat and compress no better than trained ones."""
    torch.manual_seed(0)
    config = DistilBertConfig(id2label={0: "NEGATIVE", 1: "POSITIVE"})
    return TextClassificationPipeline(DistilBertForSequenceClassification(config), mini.tokenizer, name="random")


@pytest.fixture(scope="module")
def course(mini: TextClassificationPipeline) -> Explanation:
    return explain(COURSE, mini)


@pytest.fixture(scope="module")
def course_page(course: Explanation) -> str:
    return page(course)


@pytest.fixture(scope="module")
def hostile_page(mini: TextClassificationPipeline) -> str:
    explanation = explain(HOSTILE, mini)
    tokens = list(explanation.tokens)
    tokens[1] = "<b>bold</b>", tokens[1][1]  # no tokenizer of words makes such a piece, but a vocabulary may hold anything
    return page(dataclasses.replace(explanation, tokens=tuple(tokens)))


@pytest.fixture(scope="module")
def compared_page(course: Explanation) -> str:
    return page(compared(course))


def compared(explanation: Explanation) -> Explanation:
    """As if another model differed in block 2 and, on a line that the page shows further up, in block 3; and had no labels."""
    places = {(line_of("sa_output ="), 2), (line_of("queries ="), 3)}

    def beside(one: Shown) -> Shown:
        if one.record.variable == "labels":
            return one
        wrong = (one.record.line, one.turn) in places and one.record.variable is not None
        tensor = one.record.tensor.clone()
        if wrong:
            tensor[0, 1, 2] += 0.5
        return dataclasses.replace(one, beside=OtherModelTensor(tensor, 0.5 if wrong else 0.0, not wrong))

    parts = [dataclasses.replace(part, shown=tuple(map(beside, part.shown))) for part in explanation.parts]
    return dataclasses.replace(explanation, parts=tuple(parts), against="the <other> model")


class Reader(HTMLParser):
    """What stands in the page, read without the code that wrote it."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = defaultdict(list)  # by class or tag of the element
        self.cards: dict[tuple[str, int], list[dict[str, str]]] = defaultdict(list)  # by step and line
        self.step, self.line = "", 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.append((tag, facts))
        if tag not in ("meta", "img", "input"):
            self.open.append((tag, facts))
            for name in (tag, *(facts.get("class") or "").split()):
                self.texts[name].append("")
        if tag == "h2":
            self.step = ""
        if "tensor" in (facts.get("class") or "").split():
            self.cards[self.step, self.line].append({"t": facts["data-t"] or "", "class": facts["class"] or ""})

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for tag, facts in self.open:
            for name in (tag, *(facts.get("class") or "").split()):
                self.texts[name][-1] += data
        classes = " ".join(facts.get("class") or "" for _, facts in self.open).split()
        if any(tag == "h2" for tag, _ in self.open) and "count" not in classes:
            self.step += data.strip()
        if self.open and self.open[-1][1].get("class") == "no":
            self.line = int(data)
        if "tensor" in classes:
            card, name = self.cards[self.step, self.line][-1], classes[-1]
            card[name] = card.get(name, "") + data


class Numbers:
    """The numbers that a page carries, decoded without the code that wrote them."""

    def __init__(self, text: str):
        self.shown = json.loads(re.findall(r'<script type="application/json" id="shown">(.*?)</script>', text, re.S)[0])
        self.bytes = bytearray(base64.b64decode(re.findall(r'id="numbers">(.*?)</script>', text, re.S)[0]))

    def planes(self, number: int) -> torch.Tensor:
        tensor = self.shown["tensors"][number]
        form = self.shown["forms"][tensor["form"]]
        kind = getattr(torch, form["kind"])
        stored = torch.frombuffer(self.bytes[tensor["at"] :] + bytes(8), dtype=torch.uint8)
        stored = stored[: len(stored) // 8 * 8].view(kind)
        values = stored.as_strided(form["sizes"], form["steps"]).float()
        if kind == torch.int8:
            values = torch.where(values.abs() == 127, values * torch.inf, values.sign() * values.square() * tensor["unit"] / 126)
        return values

    def form(self, number: int) -> dict[str, Any]:
        return self.shown["forms"][self.shown["tensors"][number]["form"]]


def card(text: str, step: str, line: int, name: str) -> dict[str, str]:
    return next(one for one in Reader(text).cards[step, line] if one["name"] == name)


def record(explanation: Explanation, line: int, name: str, block: int | None = None) -> torch.Tensor:
    return next(
        one.record.tensor for part in explanation.parts for one in part.shown
        if one.record.line == line and one.record.name == name and one.turn == block and part.source.file.endswith("model.py")
    )


def line_of(start: str) -> int:
    """The first line of model.py that begins so, so that an edit there moves no test."""
    lines = Path(minibert.model.__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(start))


# ---- What it holds.


@pytest.mark.parametrize("tokens", [20, 512])
@pytest.mark.long
def test_a_page_of_the_full_size_stays_below_the_ceiling(full_size: TextClassificationPipeline, tokens: int) -> None:
    explanation = explain("the film " * (tokens // 2 - 1), full_size)
    assert len(explanation.tokens) == tokens
    text = page(explanation)
    assert CEILING * 0.9 < len(text.encode()) <= CEILING  # and the room is used
    kept = {form["sizes"][2] for form in Numbers(text).shown["forms"] if form["axes"][2] == "dim" and form["sizes"][1] > 1}
    [columns] = kept
    assert 48 <= columns < 768
    assert f"the first {columns} of 768 dim" in text[: text.index("<main>")]
    if tokens == 512:
        assert "the first 32 of 512 tokens" in text[: text.index("<main>")]
        low, high = record(explanation, line_of("word_vectors ="), "word_vectors").aminmax()
        assert f"{low:.4g} … {high:.4g}" in card(text, "Embeddings", line_of("word_vectors ="), "word_vectors")["range"]


def test_nothing_is_left_out_of_a_short_text_and_nothing_said(mini: TextClassificationPipeline) -> None:
    text = page(explain("I hate this so much!", mini))
    assert not any(form["left"] for form in Numbers(text).shown["forms"])
    assert "the first" not in "".join(Reader(text).texts["notes"])


@pytest.mark.long
def test_tokens_that_the_model_never_saw_are_told(mini: TextClassificationPipeline) -> None:
    with pytest.warns(UserWarning):
        explanation = explain("film " * 600, mini)
    assert explanation.left_out > 0
    text = page(explanation)
    assert f"{explanation.left_out} tokens were cut off" in text
    assert len(text.encode()) <= CEILING


def test_every_statement_that_makes_a_tensor_has_it_beside_it(course_page: str) -> None:
    """Counted in the source: an assignment of a call, a calculation, a comparison or an index, in a forward."""
    cards, statements = Reader(course_page).cards, 0
    for top in ast.parse(Path(minibert.model.__file__).read_text(encoding="utf-8")).body:
        for forward in [node for node in ast.walk(top) if isinstance(node, ast.FunctionDef) and node.name == "forward"]:
            assert isinstance(top, ast.ClassDef)
            for node in ast.walk(forward):
                makers = ast.Call, ast.BinOp, ast.Compare, ast.Subscript
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, makers):
                    statements += 1
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                        names = [one["name"].partition(".")[0] for one in cards[top.name, node.lineno]]
                        assert ast.unparse(part) in names, f"{top.name}, line {node.lineno}: {names}"
    assert statements > 30


def test_a_class_stands_there_whole_with_the_files_line_numbers(course_page: str) -> None:
    lines = Path(minibert.model.__file__).read_text(encoding="utf-8").splitlines()
    reader, shown = Reader(course_page), {}
    for number, code in zip(map(int, reader.texts["no"]), reader.texts["code"], strict=True):
        shown.setdefault(number, code)  # the pipeline's lines, from another file, come last
    for top in ast.parse("\n".join(lines)).body:
        if isinstance(top, ast.ClassDef) and any(getattr(part, "name", "") == "forward" for part in top.body):
            for number in range(top.lineno, (top.end_lineno or 0) + 1):
                assert shown[number] == lines[number - 1]


def test_a_card_says_axes_type_and_range(course: Explanation, course_page: str) -> None:
    line = line_of("scores = queries @")
    found = card(course_page, "MultiHeadSelfAttention", line, "scores")
    assert found["shape"].replace("\xa0", " ") == "batch 1 × heads 12 × query 16 × key 16"
    assert found["dtype"] == "float32"
    tensor = record(course, line, "scores", block=0)
    assert found["range"] == f"{tensor.min():.4g} … {tensor.max():.4g}, mean {tensor.double().mean():.4g}"
    part = card(course_page, "MultiHeadSelfAttention", line, "keys.transpose(2, 3)")
    assert part["shape"] == "1 × 12 × 32 × 16"
    assert "quiet" in part["class"]
    assert "quiet" not in found["class"]


def test_a_weight_that_is_not_0_is_not_kept_as_0(course: Explanation, course_page: str) -> None:
    """What line 125 teaches is that padding gets exactly 0, so nothing else may."""
    line = line_of("attention = F.softmax(")
    exact = record(course, line, "attention", 0)[0]
    number = int(card(course_page, "MultiHeadSelfAttention", line, "attention")["t"].split(",")[0])
    stored = Numbers(course_page).planes(number)
    assert (exact < 2.0**-25).any()  # too small for 16 bits
    assert torch.equal(stored == 0, exact == 0)


def test_an_unknown_piece_is_explained_where_there_is_one(mini: TextClassificationPipeline, course_page: str) -> None:
    said = "[UNK] stands for what the vocabulary does not have."
    assert said in page(explain("\U0001f60d", mini))
    assert said not in course_page


def test_stored_attention_rows_sum_to_1_in_every_block(course: Explanation, course_page: str) -> None:
    line, numbers = line_of("attention = F.softmax"), Numbers(course_page)
    tensors = card(course_page, "MultiHeadSelfAttention", line, "attention")["t"].split(",")
    assert len(tensors) == 6
    for block, number in enumerate(tensors):
        stored = numbers.planes(int(number))
        assert stored.shape == (12, 16, 16)
        # float16 rounds each weight by 2^-11 of itself at most, so a row's sum by no more than that.
        assert (stored.sum(-1) - 1).abs().max() < 1e-3
        assert (stored - record(course, line, "attention", block)[0]).abs().max() < 5e-4


def test_stored_numbers_are_the_tensors_as_rounded_as_it_says(course: Explanation, course_page: str) -> None:
    numbers = Numbers(course_page)
    lines = [("word_vectors =", "Embeddings", "word_vectors"), ("first =", "DistilBertForSequenceClassification", "first")]
    for start, step, name in lines:
        number = int(card(course_page, step, line_of(start), name)["t"])
        unit = numbers.shown["tensors"][number]["unit"] if numbers.form(number)["kind"] == "int8" else 0
        stored, tensor = numbers.planes(number)[0], record(course, line_of(start), name)
        expected = tensor[0] if tensor.dim() == 3 else tensor
        assert (stored - expected[..., : stored.shape[-1]]).abs().max() <= unit * 1.0001
    line = line_of("context = attention @")
    number = int(card(course_page, "MultiHeadSelfAttention", line, "context")["t"].split(",")[3])
    stored, tensor = numbers.planes(number), record(course, line, "context", block=3)[0]
    assert (stored - tensor[..., : stored.shape[-1]]).abs().max() <= numbers.shown["tensors"][number]["unit"] * 1.0001


def test_equal_numbers_are_kept_once(course_page: str) -> None:
    numbers = Numbers(course_page)
    viewed, heads = Reader(course_page).cards["MultiHeadSelfAttention", line_of("queries = queries.view")]
    first, second = int(viewed["t"].split(",")[0]), int(heads["t"].split(",")[0])
    assert numbers.shown["tensors"][first]["at"] == numbers.shown["tensors"][second]["at"]
    assert torch.equal(numbers.planes(first)[3, 5], numbers.planes(second)[5, 3])  # token 3, head 5; heads come first


def test_a_masked_score_does_not_wash_out_the_others(course: Explanation) -> None:
    line = line_of("scores = scores.masked_fill")

    def masked(one: Shown) -> Shown:
        if one.record.line != line or one.record.variable is None:
            return one
        tensor = one.record.tensor.clone()
        tensor[..., -1] = torch.finfo(tensor.dtype).min
        return dataclasses.replace(one, record=dataclasses.replace(one.record, tensor=tensor))

    parts = tuple(dataclasses.replace(part, shown=tuple(map(masked, part.shown))) for part in course.parts)
    text = page(dataclasses.replace(course, parts=parts))
    found = card(text, "MultiHeadSelfAttention", line, "scores")
    numbers = Numbers(text)
    number = int(found["t"].split(",")[0])
    assert numbers.shown["tensors"][number]["full"] < 100
    assert "hide padding" in found["range"]
    stored = numbers.planes(number)
    assert torch.isinf(stored[..., -1]).all()
    assert torch.isfinite(stored[..., :-1]).all()


def test_a_model_that_computes_no_numbers_has_a_page_too(mini: TextClassificationPipeline) -> None:
    def broken(one: Shown) -> Shown:
        return dataclasses.replace(one, record=dataclasses.replace(one.record, tensor=one.record.tensor * torch.nan))

    explanation = explain("I hate this", mini)
    parts = tuple(dataclasses.replace(part, shown=tuple(map(broken, part.shown))) for part in explanation.parts)
    text = page(dataclasses.replace(explanation, parts=parts))
    line = line_of("attention = F.softmax")
    found = card(text, "MultiHeadSelfAttention", line, "attention")
    assert found["range"] == "nan … nan, mean nan"
    assert Numbers(text).planes(int(found["t"].split(",")[0])).isnan().all()
    assert "NaN" not in json.dumps(Numbers(text).shown)  # which a browser could not read


def test_text_tokens_ids_labels_and_the_assumed_answer_stand_there(course: Explanation, course_page: str) -> None:
    reader = Reader(course_page)
    assert reader.texts["piece"] == [token for token, _ in course.tokens]
    assert [int(number) for number in reader.texts["id"]] == [number for _, number in course.tokens]
    answer = course_page[course_page.rindex("<section") :]
    for label, logit, probability in course.labels:
        assert f"<bdi>{label}</bdi></th><td>{logit:.4f}</td><td>{probability:.4f}</td>" in answer
    assert f"<b><bdi>{course.right}</bdi></b> for the right label" in answer


def test_attention_is_not_sold_as_an_explanation(course_page: str) -> None:
    section = course_page[course_page.index("Who looks at whom</h2>") :]
    assert "not an explanation of the answer" in " ".join(section[: section.index("<table")].split())


def test_the_policy_lets_this_script_and_style_through_and_nothing_else(course_page: str) -> None:
    reader = Reader(course_page)
    [policy] = [facts["content"] for tag, facts in reader.tags if facts.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    script, style = re.findall(r"<script>(.*?)</script>", course_page, re.S), re.findall(r"<style>(.*?)</style>", course_page, re.S)
    assert len(script) == len(style) == 1
    for name, [text] in (("script-src", script), ("style-src", style)):
        assert rules[name] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert rules["img-src"] == "data:"
    for tag, facts in reader.tags:
        assert not [name for name in facts if name == "style" or name.startswith("on")], (tag, facts)
        assert all(re.match("data:image/png|#", facts[name] or "") for name in ("src", "href") if name in facts)


def test_a_hostile_sentence_is_text(course_page: str, hostile_page: str) -> None:
    reader = Reader(hostile_page)
    assert printable(HOSTILE) in reader.texts["sentence"][1]
    assert not {"\u202e", "\x1b"} & set(hostile_page)
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == 3
    [data] = re.findall(r'id="shown">(.*?)\n<script', hostile_page, re.S)
    assert data.count("<") == 1  # its own end
    assert {"<", "/", "&"} <= set(Numbers(hostile_page).shown["tokens"])


def test_the_other_model_stands_beside_and_the_first_difference_is_marked(course: Explanation, compared_page: str) -> None:
    reader = Reader(compared_page)
    line = line_of("sa_output =")
    assert f"the first that differs is sa_output in line {line}, block 2" in " ".join(reader.texts["compared"][0].split())
    found = card(compared_page, "TransformerBlock", line, "sa_output")
    number = int(found["t"].split(",")[2])
    tensors = Numbers(compared_page).shown["tensors"]
    assert tensors[number]["other"]["verdict"] == "largest difference 0.5: differs"
    assert [place for place, tensor in enumerate(tensors) if "first" in tensor] == [number]
    assert found["agreement"] == "largest difference 0: agrees"  # in block 0, which stands there
    assert "agreement" not in next(
        one for cards in reader.cards.values() for one in cards if one["name"] == "labels"
    )
    assert "agreement" not in Reader(page(course)).texts
    assert len(compared_page.encode()) <= CEILING


# ---- What a browser and a keyboard make of it.


class Browser:
    """One Chromium with the pages as files; `open` begins afresh."""

    def __init__(self, driver: Any, folder: Path):
        self.driver, self.folder = driver, folder
        self.run = driver.execute_script

    def open(self, name: str, width: int = 1280, scheme: str = "light", scripts: bool = True) -> None:
        command = self.driver.execute_cdp_cmd
        command("Emulation.setEmulatedMedia", {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        command("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        command("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.driver.get((self.folder / name).as_uri())

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: Any, course_page: str, hostile_page: str, compared_page: str) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("pages")
    for name, text in (("course", course_page), ("hostile", hostile_page), ("compared", compared_page)):
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield Browser(driver, folder)


CARD = "[...document.querySelectorAll('button.tensor')].find((card) => card.querySelector('.name').textContent === arguments[0])"
HEAD = "document.querySelector('dialog select')"


@pytest.mark.long
def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Browser) -> None:
    for kind in ("browser", "performance"):
        browser.driver.get_log(kind)
    for name in ("course.html", "hostile.html", "compared.html"):
        browser.open(name)
        browser.run("""
            const cards = [...document.querySelectorAll('button.tensor')].filter((card, number) => number % 3 === 0);
            for (const card of cards) { card.click(); document.querySelector('dialog').close(); }""")
        browser.run("document.querySelector('#blocks input[value=\"5\"]').click()")
    assert browser.driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in urls)
    assert [url[:80] for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_policy_holds_in_the_browser(browser: Browser) -> None:
    browser.open("course.html")
    browser.run("""
        window.stolen = false;
        const script = document.createElement('script'); script.textContent = 'window.stolen = true'; document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<img src="https://example.org/x.png" onerror="window.stolen = true">');""")
    assert browser.run("return window.stolen") is False
    assert any("Content Security Policy" in entry["message"] for entry in browser.driver.get_log("browser"))


def test_tab_reaches_every_control(browser: Browser) -> None:
    browser.open("course.html")
    wanted = browser.run("""
        const all = [...document.querySelectorAll('a[href], button, select, summary, [tabindex="0"], input:checked')];
        const controls = all.filter((one) => one.checkVisibility());
        controls.forEach((one, number) => { one.dataset.control = number; });
        window.reached = [];
        document.addEventListener('focusin', (event) => window.reached.push(event.target.dataset.control));
        return controls.length""")
    assert wanted > 80
    for _ in range(wanted // 20 + 1):
        browser.press("\ue004" * 20)
    reached = browser.run("return window.reached.map(Number)")
    assert list(dict.fromkeys(reached))[:wanted] == list(range(wanted))


def test_enter_opens_escape_closes_and_focus_returns(browser: Browser) -> None:
    browser.open("course.html")
    browser.run(f"({CARD}).focus()", "scores")
    browser.press("\ue007")
    assert browser.run("return document.querySelector('dialog').open")
    assert browser.run("return document.querySelector('dialog h2').textContent").startswith("scores in line")
    browser.press("\ue004")  # from the button to the selector of heads
    assert browser.run(f"return document.activeElement === {HEAD}")
    browser.press("\ue004", "\ue014", "\ue015")  # on to the map, one right, one down
    assert browser.run("return document.querySelector('output').textContent").startswith("query i, key i: ")
    browser.press("\ue00c")
    assert not browser.run("return document.querySelector('dialog').open")
    assert browser.run(f"return document.activeElement === ({CARD})", "scores")


def test_the_dialog_reads_the_numbers_of_the_chosen_head(browser: Browser, course: Explanation) -> None:
    browser.open("course.html")
    browser.run(f"({CARD}).click()", "attention")
    attention = record(course, line_of("attention = F.softmax"), "attention", block=0)[0]
    for head in (0, 7):
        browser.run(f"{HEAD}.value = arguments[0]; {HEAD}.onchange()", head)
        table = browser.run("""
            const rows = [...document.querySelectorAll('dialog tbody tr')];
            return rows.map((row) => [...row.cells].map((cell) => cell.textContent))""")
        assert [row[0] for row in table] == [token for token, _ in course.tokens]
        shown = torch.tensor([[float(cell) for cell in row[1:]] for row in table])
        assert (shown - attention[head]).abs().max() < 1e-3  # float16, then four digits
        assert (shown.sum(-1) - 1).abs().max() < 2e-3
    # The numbers of a wide tensor, whose rows are tokens and whose planes are heads, come out where they belong too.
    browser.run("document.querySelector('dialog').close()")
    context = record(course, line_of("context = context.transpose"), "context", block=0)[0]  # tokens, heads, head_dim
    card = "[...document.querySelectorAll('button.tensor')].filter((c) => c.querySelector('.name').textContent === 'context')[1]"
    browser.run(f"{card}.click(); {HEAD}.value = 4; {HEAD}.onchange()")
    cell = browser.run("return document.querySelector('dialog tbody').rows[6].cells[1 + 9].textContent")
    assert abs(float(cell) - context[6, 4, 9]) < context.abs().max() / 126 + 0.005  # 8 bits, then three digits


def test_the_block_selector_changes_what_is_shown(browser: Browser, course: Explanation) -> None:
    browser.open("course.html")
    look = f"const card = {CARD}; return [card.querySelector('.range').textContent, card.querySelector('img').src]"
    before = browser.run(look, "attn_output")
    browser.run("document.querySelector('#blocks input:checked').focus()")
    browser.press(*["\ue014"] * 4)
    after = browser.run(look, "attn_output")
    tensor = record(course, line_of("attn_output, attention"), "attn_output", block=4)
    assert after[0].startswith(f"{tensor.min():.4g} … {tensor.max():.4g}")
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert browser.run("return document.querySelector('#status').textContent") == "Block 4 is shown."
    attention = record(course, line_of("attention = self.dropout"), "attention", block=4)[0]
    for head in (0, 5):
        if head:
            browser.run("const head = document.querySelector('#attention-head'); head.value = arguments[0]; head.onchange()", head)
        row = browser.run("return [...document.querySelector('#attention tbody').rows[2].cells].slice(1).map((c) => c.textContent)")
        assert (torch.tensor([float(cell) for cell in row]) - attention[head, 2]).abs().max() < 0.006  # two decimals
    browser.press(*["\ue012"] * 4)
    assert browser.run(look, "attn_output")[0] == before[0]


def test_script_and_page_draw_a_thumbnail_alike(browser: Browser) -> None:
    """Block 0 is drawn by Python; going away and back, the script draws it again."""
    browser.open("course.html")
    different = browser.driver.execute_async_script("""
        const done = arguments[0];
        const cards = [...document.querySelectorAll('button.tensor:not([hidden])')].filter((card) => card.dataset.t.includes(','));
        const pixels = async () => Promise.all(cards.map(async (card) => {
          const image = card.querySelector('img');
          await image.decode();
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), context = canvas.getContext('2d');
          context.fillStyle = 'white';
          context.fillRect(0, 0, canvas.width, canvas.height);
          context.drawImage(image, 0, 0);
          return [canvas.width, canvas.height, ...context.getImageData(0, 0, canvas.width, canvas.height).data];
        }));
        pixels().then(async (before) => {
          document.querySelector('#blocks input[value="1"]').click();
          document.querySelector('#blocks input[value="0"]').click();
          const after = await pixels();
          done(before.map((one, n) => [cards[n].querySelector('.name').textContent, one.length - after[n].length,
            one.filter((value, place) => Math.abs(value - after[n][place]) > 40).length]));
        });""")
    assert len(different) > 30
    for name, size, pixels in different:  # what is kept in 8 bits may come out two shades off, of 16, but no further
        assert (size, pixels) == (0, 0), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["course.html", "compared.html"])
@pytest.mark.long
def test_axe_finds_no_barrier(browser: Browser, name: str, scheme: str) -> None:
    script = axe()
    browser.open(name, scheme=scheme)
    for opened in (False, True):
        if opened:
            browser.run(f"({CARD}).click(); document.querySelector('dialog details').open = true", "sa_output")
        result = browser.driver.execute_async_script(
            script + ";axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}).then(arguments[0])"
        )
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in result["violations"]] == []
        assert len(result["passes"]) > 10


def test_nothing_overflows_a_narrow_screen(browser: Browser) -> None:
    for name in ("course.html", "hostile.html", "compared.html"):
        browser.open(name, width=360)
        browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
        assert browser.run("return document.documentElement.scrollWidth") <= 360
        browser.run(f"({CARD}).click()", "word_vectors")
        assert browser.run("const d = document.querySelector('dialog'); return d.scrollWidth - d.clientWidth") <= 0


def test_it_reads_with_scripts_off(browser: Browser, course: Explanation) -> None:
    browser.open("course.html", scripts=False)
    try:
        text = browser.driver.find_element("tag name", "body").text
        controls = browser.driver.find_elements("css selector", "button, select, fieldset, dialog")
        loaded = browser.driver.find_element("css selector", ".tensor img").size
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "Scripts are off" in text
    assert "attention = F.softmax(scores, dim=-1)" in text
    assert f"{record(course, line_of('attn_output'), 'attn_output', block=0).min():.4g} … " in text
    assert [one for one in controls if one.is_displayed()] == []
    assert loaded["width"] > 50


def test_a_hostile_sentence_adds_no_element(browser: Browser) -> None:
    browser.open("hostile.html")
    assert browser.run("return document.querySelector('.sentence bdi').textContent") == printable(HOSTILE)
    assert browser.run("return document.querySelectorAll('.sentence bdi *, .piece *').length") == 0
    assert browser.run("return document.querySelectorAll('script').length") == 3
    browser.run(f"({CARD}).click()", "attention")
    tokens = browser.run("return [...document.querySelectorAll('dialog tbody th')].map((one) => one.textContent)")
    assert tokens == browser.run("return [...document.querySelectorAll('.piece')].map((one) => one.textContent)")
    assert browser.run("return document.querySelectorAll('dialog bdi *').length") == 0
    assert browser.run("return getComputedStyle(document.querySelector('dialog tbody bdi')).unicodeBidi") == "isolate"


def test_the_dialog_takes_over_the_head_and_says_what_16_bits_cannot(browser: Browser, course: Explanation) -> None:
    browser.open("course.html")
    attention = record(course, line_of("attention = F.softmax"), "attention", block=0)[0]
    head = int(attention.flatten(1).min(1).values.argmin())
    row, column = divmod(int(attention[head].argmin()), len(course.tokens))
    assert 0 < attention[head, row, column] < 6e-8
    browser.run("const s = document.querySelector('#attention-head'); s.value = arguments[0]; s.onchange()", head)
    browser.run(f"({CARD}).click()", "attention")
    assert browser.run(f"return {HEAD}.value") == str(head)
    cell = "return document.querySelector('dialog tbody').rows[arguments[0]].cells[arguments[1]].textContent"
    assert browser.run(cell, row, column + 1) == "<6e-8"
    assert browser.run("return document.querySelector('figcaption').textContent").startswith("query down, key across")
    before = browser.run("document.querySelector('.heat').parentElement.focus(); return window.scrollY")
    browser.press("\ue00d")  # the space bar
    browser.press("\ue00f")  # page down
    assert browser.run("return window.scrollY") == before


def test_both_models_stand_in_the_dialog(browser: Browser) -> None:
    browser.open("compared.html")
    browser.run("document.querySelector('#to-first').click()")
    assert browser.run("return document.querySelector('#blocks input:checked').value") == "2"
    assert browser.run("return document.activeElement.id") == "first"
    assert browser.run("return document.activeElement.classList.contains('first')")
    browser.press("\ue007")
    captions = browser.run("return [...document.querySelectorAll('figcaption')].map((one) => one.textContent.split(',')[0])")
    assert captions == ["this model", "the <other> model", "the difference"]
    tables = browser.run("return [...document.querySelectorAll('dialog tbody')].map((t) => Number(t.rows[1].cells[3].textContent))")
    assert abs(tables[1] - tables[0] - 0.5) < 0.01
    assert abs(tables[2] - 0.5) < 0.01
    assert "differs" in browser.run("return document.querySelector('dialog').textContent")


def test_it_prints(browser: Browser) -> None:
    browser.open("course.html")
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 < pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/") < 60
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert browser.run("return getComputedStyle(document.querySelector('#bar')).position") == "static"
    assert not browser.run("return document.querySelector('#blocks').checkVisibility()")
