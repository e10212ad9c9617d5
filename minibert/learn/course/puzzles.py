"""Exercises with an answer in place of code: which line is wrong, and what no number shows.

A page is what stands below the question in the student's file; a judge says in a sentence what is wrong with the answer,
GAP where there is none yet, and None where it is right.
"""

import copy
import inspect
import linecache
import random
import re
from typing import Any

import torch
from torch import Tensor

from ... import model as architecture
from ...checkpoint import bundled, read_model
from ...model import DistilBertForSequenceClassification
from ..compare.divergence import compare
from ..compare.location import place_in_words
from ..stubs.gap import GAP
from ..stubs.handout import FIRST
from ..stubs.sample_inputs import MODEL, sample_model
from .mistakes_in_source import MISTAKES, Mistake

BIASES = tuple(f"{name}_lin.bias" for name in ("q", "k", "v", "out"))
PADDING = torch.tensor([False, False, True, True])


def _one_line(mistake: Mistake) -> bool:
    return len(mistake.edit) == 2 and "\n" not in "".join(mistake.edit)


PUZZLES = tuple(one for one in MISTAKES if one.module == architecture.__name__ and not one.invisible and _one_line(one))


def bug_page(number: int | None = None) -> str:
    """The source of model.py with one mistake in it, drawn by chance."""
    number = random.randrange(len(PUZZLES)) if number is None else number
    top = f"PUZZLE = {number}  # which mistake it is: leave it as it is", "LINE = None  # the wrong line's number in this file"
    return "\n".join([FIRST, "", *top, "", _planted(PUZZLES[number])])


def judge_the_line(namespace: dict[str, Any], text: str) -> str | None:
    number, line = namespace.get("PUZZLE"), namespace.get("LINE")
    if type(number) is not int or not 0 <= number < len(PUZZLES):
        return f"PUZZLE is {number!r}; expected the number that was handed out, which `reset` draws anew."
    if line is None:
        return GAP
    wrong = wrong_lines(PUZZLES[number], text)
    if not wrong:
        return f"The line of puzzle {number} is not in the file: it was changed, or PUZZLE was. Wanted LINE alone changed."
    if type(line) is not int or not 1 <= line <= len(text.splitlines()):
        return f"LINE is {line!r}; expected the number of a line, counted in this file."
    return None if line in wrong else f"It is not line {line}. {_clue(PUZZLES[number])}"


def the_line(text: str) -> str:
    """The answer to a page. Raises ValueError for what is not a page."""
    found = re.search(r"^PUZZLE = (\d+)", text, re.MULTILINE)
    lines = wrong_lines(PUZZLES[int(found[1])], text) if found and int(found[1]) < len(PUZZLES) else []
    if not found or not lines:
        raise ValueError("the file is not a page of this puzzle; expected it as it was handed out, which `reset` draws anew.")
    mistake = PUZZLES[int(found[1])]
    return f"Line {' and line '.join(map(str, lines))}: {mistake.name}. {mistake.sentence}"


def wrong_lines(mistake: Mistake, text: str) -> list[int]:
    """The lines of a page in which a mistake is, counted from 1; none where it has been mended."""
    right, planted = (source.splitlines() for source in (_source(), _planted(mistake)))
    wrong = [index for index, (one, other) in enumerate(zip(right, planted, strict=True)) if one != other]
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if lines[n : n + len(planted)] == planted), None)
    if start is not None:
        return [start + index + 1 for index in wrong]
    codes = [_code(planted[index]) for index in wrong]  # somebody has written into the file: remarks, a line more
    return [n for n, line in enumerate(lines, 1) if _code(line) in codes]


def _code(line: str) -> str:
    return re.split(r"\s+#", line)[0].strip()


def _source() -> str:
    return inspect.getsource(architecture).replace("from .config", "from minibert.config")


def _planted(mistake: Mistake) -> str:
    """The source with a mistake; its comment stands where it stood, or the eye would find the line before the mind does."""
    right, planted = _source().splitlines(), mistake.planted(_source()).splitlines()
    for number, (before, line) in enumerate(zip(right, planted, strict=True)):
        code, mark, comment = line.partition("  #")
        if before != line and mark:
            planted[number] = f"{code.rstrip():<{before.index('  #') + 2}}".ljust(len(code.rstrip()) + 2) + "#" + comment
    return "\n".join(planted) + "\n"


def _clue(mistake: Mistake) -> str:
    """At which stage the model with the mistake parts from the right one."""
    text, name = _planted(mistake), f"<{mistake.name}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # a comparison reads the lines
    namespace: dict[str, Any] = {"__name__": "mistaken"}
    exec(compile(text, name, "exec"), namespace)
    right = read_model(bundled()[MODEL], DistilBertForSequenceClassification)
    wrong = namespace["DistilBertForSequenceClassification"](right.config)
    wrong.load_state_dict(right.state_dict())
    inputs = {name: tensor for name, tensor in sample_model().padded.inputs.items() if name != "labels"}
    try:
        first = compare(wrong.eval(), right, inputs, training=False).first
    except ValueError as error:  # one hidden state too few
        return f"On the lab's sentences the outputs cannot be compared one by one: {error}"
    if first is None:
        return "On the lab's sentences, outside training, all of its numbers are right: look for what only training shows."
    place = place_in_words(first.place, sample_model().padded.tokens, right.config.id2label)
    return f"On the lab's sentences the numbers part at this stage first: {first.name}, most at {place}."


BIAS_PAGE = '''\
# Attention has four linear layers, each with a bias. One of the four biases can be replaced by any numbers, in every block,
# and no hidden state, no attention map and no logit of the model changes by more than rounding. Which one?

ANSWER = None  # "q_lin.bias", "k_lin.bias", "v_lin.bias" or "out_lin.bias"
'''


def judge_the_bias(namespace: dict[str, Any], text: str) -> str | None:
    answer = namespace.get("ANSWER")
    if answer is None:
        return GAP
    if answer not in BIASES:
        return f"ANSWER is {answer!r}; expected one of {', '.join(BIASES)}."
    changed = copy.deepcopy(sample_model().model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if name.endswith(f"attention.{answer}"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
        before, after = (model(**sample_model().padded.inputs).logits for model in (sample_model().model, changed))
    moved = (before - after).abs().max().item()
    return None if moved < 1e-9 else f"With other numbers for {answer} the logits move by up to {moved:.2g}; expected no move."


MASK_PAGE = f'''\
{FIRST}

import torch
from torch import Tensor


def scores() -> Tensor:
    """One query's scores for four keys, of which the last two are padding.

    return  (key)   4 finite numbers, float64

    Found is what tells two masks apart: softmax(scores) with the last two replaced by the lowest finite number, and softmax of
    the same with 10,000 subtracted from the last two. They have to differ by more than 0.1 somewhere.
    """
    raise NotImplementedError
'''


def judge_the_scores(namespace: dict[str, Any], text: str) -> str | None:
    if not callable(namespace.get("scores")):
        return "The file has no function scores(); expected it as it was handed out, which `reset` brings back."
    found = namespace["scores"]()
    if not isinstance(found, Tensor) or tuple(found.shape) != (4,):
        return f"scores() gives {tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}; expected a tensor (4)."
    found = found.double()
    if not found.isfinite().all():
        return f"scores() gives {found.tolist()}; expected finite numbers."
    lowest = found.masked_fill(PADDING, torch.finfo(found.dtype).min).softmax(0)
    mild = (found - 10000.0 * PADDING).softmax(0)
    apart = (lowest - mild).abs().max().item()
    gives = f"The two masks give {lowest.tolist()} and {mild.tolist()}"
    return None if apart > 0.1 else f"{gives}; expected more than 0.1 between them."
