"""Networks that travel: small, whole, from synthetic data, and those that they say they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fmabs_lite.lesson import trained as module
from fmabs_lite.lesson.records import RecordError, book_path, read_json, write_json
from fmabs_lite.lesson.trained import LARGEST, keep_trained, trained

LIST = read_json(book_path("weights/made.json"))
MEASURED = {"commit": "abc", "device": "cpu", "seconds": 130.0}
PARAMETERS = {"steps": 10, "batch_size": 4, "seeds": [3], "width": 4}


def network(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of its own."""
    monkeypatch.setattr(module, "book_path", lambda name: tmp_path / "book" / name)
    (tmp_path / "book").mkdir()
    return tmp_path / "book"


def run_of(folder, net: nn.Module, source: str = "drawn"):
    """A finished run that left a checkpoint."""
    provenance = {"parameters": PARAMETERS, "data": {"mvtec": source}}
    write_json(folder / "run.json", {"provenance": provenance, "measured": MEASURED})
    torch.save({"detector": net.state_dict(), "config": {}}, folder / "net.pt")
    return folder, folder / "net.pt"


def test_a_network_comes_back_as_near_as_half_precision_is(book, tmp_path):
    net, x = network().eval(), torch.rand(2, 3, 8, 8)
    keep_trained("one", *run_of(tmp_path, net), book)
    ready = trained("one")
    back = ready.into(network(4))
    assert not back.training
    assert torch.allclose(back(x), net(x), atol=2e-3)
    assert not torch.equal(back(x), net(x))  # or nothing was halved
    assert ready.used == PARAMETERS
    assert ready.made["commit"] == "abc"
    assert ready.basis == "Synthetic data, 40 samples, 2 minutes on a cpu, seed 3."
    assert {value.dtype for value in ready.state.values()} == {torch.float32, torch.int64}


def test_another_shape_says_which_parameters_fit(book, tmp_path):
    keep_trained("one", *run_of(tmp_path, network()), book)
    with pytest.raises(RecordError, match="another network .*'width': 4"):
        trained("one").into(network(8))


def test_what_is_missing_or_was_changed_is_refused(book, tmp_path):
    keep_trained("one", *run_of(tmp_path, network()), book)
    with pytest.raises(RecordError, match="no weights 'two'; there are one"):
        trained("two")
    path = book / "weights" / "one.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(RecordError, match="missing or damaged"):
        trained("one")
    path.unlink()
    with pytest.raises(RecordError, match="missing or damaged"):
        trained("one")


def test_a_list_that_lost_a_line_is_restored(book, tmp_path):
    keep_trained("one", *run_of(tmp_path, network()), book)
    listed = read_json(book / "weights" / "made.json")
    del listed["one"]["seconds"]
    write_json(book / "weights" / "made.json", listed)
    with pytest.raises(RecordError, match="one: seconds is missing; restore it with git"):
        trained("one")


def test_a_run_that_has_not_ended_gives_no_weights(book, tmp_path):
    run, network_file = run_of(tmp_path, network())
    write_json(run / "run.json", {"provenance": {"parameters": PARAMETERS}})
    with pytest.raises(RecordError, match="has not ended; run the same command again"):
        keep_trained("one", run, network_file, book)


def test_a_file_that_is_no_checkpoint_gives_no_weights(book, tmp_path):
    run, network_file = run_of(tmp_path, network())
    torch.save(network().state_dict(), network_file)
    with pytest.raises(RecordError, match="net.pt is no checkpoint of a detector"):
        keep_trained("one", run, network_file, book)


def test_only_small_whole_networks_from_synthetic_data_travel(book, tmp_path):
    with pytest.raises(RecordError, match="real data"):
        keep_trained("one", *run_of(tmp_path, network(), "sha"), book)
    large = nn.Linear(LARGEST // 2 + 1, 1)
    with pytest.raises(RecordError, match="train a smaller one"):
        keep_trained("one", *run_of(tmp_path, large), book)
    wild = network()
    nn.init.constant_(wild[0].weight, 1e6)
    with pytest.raises(RecordError, match="cannot hold 0.weight"):
        keep_trained("one", *run_of(tmp_path, wild), book)
    assert not (book / "weights").exists()


def test_the_books_networks_are_listed_small_and_finite():
    files = {path.stem: path.stat().st_size for path in book_path("weights").glob("*.safetensors")}
    assert set(files) == set(LIST)
    assert max(files.values()) <= LARGEST
    assert sum(files.values()) <= 20_000_000
    for name in LIST:
        state = trained(name).state
        assert all(np.isfinite(value.numpy()).all() for value in state.values())
