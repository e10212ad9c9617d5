"""Where the default checkpoint cannot be reached, mini-sst2 stands in for all of it or for nothing, and says so once."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

from minibert import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, HubUnreachable, pipeline
from minibert.checkpoint import DEFAULT, FALLBACK, HASHES, PINNED, CheckpointError, locate
from minibert.storage import client

import pytest
from loopback import LoopbackHub, stated_hash

NAMES = pytest.mark.parametrize("name", [DEFAULT, "distilbert-base-uncased-finetuned-sst-2-english"], ids=["new", "old"])
LAB = {
    "pipeline": lambda name: pipeline("sentiment-analysis", model=name, device="cpu").model.config.dim,
    "tokenizer": lambda name: AutoTokenizer.from_pretrained(name).vocab_size,
    "base": lambda name: AutoModel.from_pretrained(name).config.dim,
    "classifier": lambda name: AutoModelForSequenceClassification.from_pretrained(name).config.dim,
}
OF_MINI = {"pipeline": 384, "tokenizer": 30522, "base": 384, "classifier": 384}
OF_HUB = {"pipeline": 8, "tokenizer": 50, "base": 8, "classifier": 8}


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    """A Hub whose default checkpoint is the tiny one; the cache is empty."""
    monkeypatch.setattr(client, "TIMEOUT", 1.0)
    monkeypatch.setattr(client, "PAUSE", 0.0)
    monkeypatch.setitem(HASHES, PINNED[DEFAULT], {name: stated_hash(name, content) for name, content in files.items()})
    with LoopbackHub({DEFAULT: dict(files)}, commit=PINNED[DEFAULT]) as server:
        server.lead_client_here(tmp_path / "hub", monkeypatch)
        yield server


@pytest.fixture
def anew(monkeypatch):
    """What a new process is to the decision."""
    from minibert import checkpoint

    return lambda: monkeypatch.setattr(checkpoint, "_settled", {})


@NAMES
@pytest.mark.parametrize("first", LAB)
@pytest.mark.some(3)
def test_whichever_name_of_the_lab_comes_first_all_four_give_mini_sst2_and_one_warning(server, name, first):
    server.close()
    with pytest.warns(UserWarning) as caught:
        assert LAB[first](name) == OF_MINI[first]
        assert {what: call(name) for what, call in LAB.items()} == OF_MINI
        assert pipeline("sentiment-analysis", device="cpu").name == FALLBACK
    [one] = [str(warning.message) for warning in caught]
    assert "This is not an error: mini-sst2, which ships with minibert, answers instead." in one and "\n" not in one
    assert caught[0].filename == __file__


@pytest.mark.parametrize("cached", ["tokenizer", "base"])
def test_half_of_it_in_the_cache_counts_as_nothing(server, anew, cached):
    LAB[cached](DEFAULT)
    server.close()
    anew()
    with pytest.warns(UserWarning, match="answers instead"):
        assert LAB[cached](DEFAULT) == OF_MINI[cached]
        assert {what: call(DEFAULT) for what, call in LAB.items()} == OF_MINI


def test_all_of_it_in_the_cache_needs_no_hub(server, anew):
    assert {what: call(DEFAULT) for what, call in LAB.items()} == OF_HUB
    server.close()
    anew()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {what: call(DEFAULT) for what, call in LAB.items()} == OF_HUB


@pytest.mark.parametrize("revision", [None, PINNED[DEFAULT]], ids=["by name", "by revision"])
def test_after_a_part_of_the_hubs_nothing_stands_in_for_the_rest_and_the_error_says_what_ships(server, revision):
    assert AutoTokenizer.from_pretrained(DEFAULT, revision=revision).vocab_size == 50
    server.close()
    for what in ("base", "classifier", "pipeline"):
        with pytest.raises(HubUnreachable, match=r"what ships is: .*mini-sst2"):
            LAB[what](DEFAULT)
    assert LAB["tokenizer"](DEFAULT) == 50


def test_once_mini_sst2_stands_in_it_goes_on_when_the_hub_answers_again(server):
    server.status = 503
    with pytest.warns(UserWarning, match="answers instead"):
        assert LAB["tokenizer"](DEFAULT) == 30522
    server.status = None
    assert {what: call(DEFAULT) for what, call in LAB.items()} == OF_MINI
    assert AutoModel.from_pretrained(DEFAULT, revision=PINNED[DEFAULT]).config.dim == 8  # asked for by its commit


def test_no_other_name_no_revision_and_no_path_is_replaced(server):
    server.close()
    for call in (
        lambda: AutoTokenizer.from_pretrained("some/model"),
        lambda: AutoModel.from_pretrained("distilbert/distilbert-base-uncased"),
        lambda: AutoTokenizer.from_pretrained(DEFAULT, revision="main"),
        lambda: pipeline("sentiment-analysis", model=DEFAULT, revision=PINNED[DEFAULT]),
        lambda: locate(DEFAULT),  # fetch, compare and import take what they name
    ):
        with pytest.raises(HubUnreachable, match=r"what ships is: .*mini-sst2"):
            call()


def test_a_tokenizer_of_another_checkpoint_does_not_meet_the_weights_that_stand_in(server, folder):
    server.close()
    other = AutoTokenizer.from_pretrained(folder)
    with pytest.warns(UserWarning, match="answers instead"), pytest.raises(CheckpointError, match="tokenizer that you passed"):
        pipeline("sentiment-analysis", model=DEFAULT, tokenizer=other)
    own = AutoTokenizer.from_pretrained(DEFAULT)
    assert pipeline("sentiment-analysis", model=DEFAULT, tokenizer=own, device="cpu").name == FALLBACK


def test_a_folder_of_that_name_is_a_folder(server, folder, tmp_path, monkeypatch):
    server.close()
    name = "distilbert-base-uncased-finetuned-sst-2-english"
    folder.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert {what: call(name) for what, call in LAB.items()} == OF_HUB


def test_threads_that_ask_at_once_get_one_checkpoint_and_one_warning(server):
    server.close()
    ready = threading.Barrier(4)

    def ask(what):
        ready.wait()
        return what, LAB[what](DEFAULT)

    with pytest.warns(UserWarning) as caught, ThreadPoolExecutor(4) as pool:
        assert dict(pool.map(ask, LAB)) == OF_MINI
    assert len(caught) == 1
