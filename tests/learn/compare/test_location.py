"""Axes, shapes and places in words."""

from minibert.learn.compare.location import axis_names, extent, place_in_words, shape_hint, shape_in_words

import pytest
import torch

KNOWN = {2: "batch", 5: "tokens", 3: "heads", 4: "head_dim", 12: "dim"}
WANTED, SIZES = ("batch", "heads", "query", "key"), (2, 3, 5, 5)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((2, 5, 12), ("batch", "query or key", "dim")),  # dim is not wanted, and known
        ((5, 3, 2, 5), ("query or key", "heads", "batch", "query or key")),  # they have one size: who knows
        ((5, 5, 5), ("query or key", "query or key", "tokens")),  # each wanted name once
        ((3, 3), ("heads", "heads")),
        ((7, 3), ("7", "heads")),
        ((), ()),
    ],
)
def test_an_axis_has_the_wanted_name_then_the_known_one_then_its_size(shape, names):
    assert axis_names(shape, KNOWN, WANTED, SIZES) == names


def test_a_shape_in_words_has_a_size_for_each_name_and_no_number_twice():
    assert shape_in_words((2, 5, 7, 9), ("batch", "tokens", "7", "")) == "(batch 2, tokens 5, 7, 9)"


@pytest.mark.parametrize(
    ("got", "wanted", "hint"),
    [
        ((2, 5, 3, 4), (2, 3, 5, 4), "axes 1 and 2 may have changed places, and the numbers differ too: is transpose(1, 2)"),
        ((5, 2, 3, 4), (2, 3, 5, 4), "the axes may be in another order: is a transpose missing"),
        ((2, 3, 4), (2, 3, 5, 4), "the axis c is missing"),
        ((2, 3, 5, 4, 1), (2, 3, 5, 4), "axis 4 is one too many"),
        ((6, 20), (2, 3, 5, 4), "a view or reshape may be missing"),
        ((2, 3, 1, 4), (2, 3, 5, 4), "the axis c has the size 1; it may be still to be filled"),
        ((2, 5, 5, 3), (2, 3, 5, 5), "axes 1 and 3 may have changed places, though the sizes alone cannot tell, and"),
        ((2, 3, 5), (2, 3, 5, 5), "the axis c or d is missing"),
        ((2, 3, 5, 5), (2, 3, 5), "axis 2 or 3 is one too many"),
        ((9, 9), (2, 3, 5, 4), ""),
    ],
)
def test_a_hint_says_what_turns_one_shape_into_the_other(got, wanted, hint):
    said = shape_hint(torch.zeros(got), torch.ones(wanted), ("a", "b", "c", "d"))
    assert hint in said and bool(said) == bool(hint)


def test_of_axes_of_one_size_the_numbers_tell_which_have_changed_places():
    wanted = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert shape_hint(wanted.transpose(1, 3), wanted, WANTED) == (
        "axes 1 and 3 have changed places: transpose(1, 3) is missing, or one too many"
    )
    said = shape_hint(wanted.permute(0, 2, 3, 1), wanted, WANTED)  # of the same shape
    assert said == "the axes are in another order: is a transpose missing, or one too many?"


TOKENS = [["[CLS]", "fine", "[SEP]", "[PAD]", "[PAD]"], ["[CLS]", "not", "so", "fine", "[SEP]"]]


def test_a_place_counts_all_from_zero_as_an_index_does_and_says_so():
    place = {"batch": 1, "heads": 2, "query": 3, "key": 0}
    expected = "sentence 1, token 3 'fine', looking at token 0 '[CLS]', head 2 (counted from 0)"
    assert place_in_words(place, TOKENS, {}) == expected
    assert place_in_words({"batch": 0, "labels": 1}, TOKENS, {0: "BAD", 1: "GOOD"}) == "sentence 0, label GOOD (counted from 0)"
    assert place_in_words({"batch": 0, "heads": 1, "key": 1}, TOKENS, {}) == "sentence 0, token 1 'fine', head 1 (counted from 0)"
    assert place_in_words({"labels": 0}, TOKENS, {0: "BAD"}) == "label BAD"
    assert place_in_words({}, TOKENS, {}) == ""


def test_the_extent_names_only_what_is_not_everywhere():
    differs = torch.zeros(2, 3, 5, 5, dtype=torch.bool)
    axes = ("batch", "heads", "query", "key")
    differs[1, :, 2:4] = True
    assert extent(differs, axes, TOKENS) == "in sentence 1 of 0 to 1, at tokens 2 'so', 3 'fine'"
    differs[1] = True
    differs[0, :, :3] = True  # all that is not padding
    assert extent(differs, axes, TOKENS) == ""
    differs[:, 1] = False
    assert extent(differs, axes, TOKENS) == "in heads 0, 2 of 0 to 2"
