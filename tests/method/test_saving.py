"""A system judges like the functions it is made of; one file holds it; export gives it away."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fmabs_lite.attention import ChannelAttention, SpatialAttention, SpatioChannelAttention
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import (
    SSPCAB,
    AstMfr,
    AutoEncoder,
    Draem,
    FlowMemory,
    Hf2vad,
    Jigsaw,
    Mnad,
    PkgNet,
    Prediction,
    Reconstruction,
    WithSSPCAB,
)
from fmabs_lite.models.prior import imagenet
from fmabs_lite.recipe import made
from fmabs_lite.saving import System, export, load, networks, save
from fmabs_lite.scoring import enlarge, peak, smooth
from fmabs_lite.training import collect, fit

IMAGES = torch.randint(0, 256, (12, 3, 16, 24), generator=torch.Generator().manual_seed(0)).byte()
TRAIN, TEST = IMAGES[:8], IMAGES[8:]


def plain(seed: int = 0) -> Reconstruction:
    torch.manual_seed(seed)
    return Reconstruction(AutoEncoder(width=4, code=8), damage=0.3)


def boosted(lam: float | None = 0.3) -> Boosted:
    return Boosted(plain(1), plain(0).network, "bottleneck", SpatioChannelAttention(8, 2),
                   score_weight=lam)  # fmt: skip


@pytest.mark.parametrize("sigma", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("lam", [0.3, None])
def test_a_boosted_is_judged_as_by_collect_total_smooth_and_peak(lam, sigma):
    student = boosted(lam)
    seen, known = collect(student, TEST), collect(student, TRAIN)
    maps = smooth(student.total(seen, known)["map_total"], sigma)
    scores, found = System.of(student, TRAIN, sigma=sigma).judge(TEST, batch_size=3)
    np.testing.assert_allclose(found, maps, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, peak(maps), rtol=1e-4, atol=1e-5)


def test_a_plain_detector_is_judged_by_its_own_map():
    own = collect(plain(), TEST)["map_o"]
    scores, found = System(plain(), (16, 24)).judge(TEST)
    np.testing.assert_allclose(found, own, rtol=1e-5)
    np.testing.assert_allclose(scores, peak(own), rtol=1e-5)


class Scores(Reconstruction):
    """Has a score and no map, or a map of half the size."""

    def __init__(self, half: bool):
        super().__init__(plain().network)
        self.half = half

    def score(self, prepared):
        parts = super().score(prepared)
        if self.half:
            return parts | {"map_o": parts["map_o"][:, ::2, ::2]}
        return {"S_o": parts["S_o"]}


def test_a_detector_without_a_map_is_judged_by_its_score():
    scores, found = System(Scores(half=False), (16, 24)).judge(TEST)
    assert found is None
    np.testing.assert_allclose(scores, collect(plain(), TEST)["S_o"], rtol=1e-5)


def test_a_small_map_is_enlarged_to_the_systems_size():
    detector = Scores(half=True)
    found = System(detector, (16, 24)).judge(TEST)[1]
    expected = enlarge(collect(detector, TEST)["map_o"], (16, 24))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_pictures_of_another_size_floats_and_missing_statistics_are_refused():
    with pytest.raises(ValueError, match="are 16×16; this system takes 16×24. Resize"):
        System(plain(), (16, 24)).judge(TEST[..., :16])
    with pytest.raises(TypeError, match="are torch.float32; give a tensor of uint8"):
        System(plain(), (16, 24)).judge(TEST / 255)
    with pytest.raises(ValueError, match=r"λ is 0\.3, and map_fea is not .*System\.of"):
        System(boosted(), (16, 24)).judge(TEST)


def test_grey_and_single_pictures_and_arrays_are_refused():
    system = System(plain(), (16, 24))
    with pytest.raises(ValueError, match=r"shape \(4, 1, 16, 24\); .* takes \(N, 3, 16, 24\)"):
        system.judge(TEST[:, :1])
    with pytest.raises(ValueError, match=r"shape \(3, 16, 24\); .*picture\[None\]"):
        system.judge(TEST[0])
    with pytest.raises(TypeError, match="give a tensor of uint8"):
        system.judge(TEST.numpy())


def test_a_network_whose_weights_are_lost_judges_nothing_and_is_not_saved(tmp_path):
    """A NaN lies above no threshold: every picture would pass as normal."""
    system = System(plain(), (16, 24), threshold=0.5)
    with torch.no_grad():
        next(system.detector.parameters())[0] = float("nan")
    with pytest.raises(ValueError, match="The score is not finite for 4 of 4 images"):
        system.judge(TEST)
    with pytest.raises(ValueError, match="S_o is not finite for 2 of 2 images"):
        save(system, tmp_path / "a" / "b.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_a_threshold_that_is_not_finite_is_not_saved(limit, tmp_path):
    with pytest.raises(ValueError, match=f"threshold is {limit}, so every picture"):
        save(System(plain(), (16, 24), threshold=limit), tmp_path / "a.safetensors")


def test_a_threshold_of_numpys_and_a_new_folder_are_taken(tmp_path):
    save(System(plain(), (16, 24), threshold=np.float32(0.5)), tmp_path / "new" / "a.safetensors")
    assert load(tmp_path / "new" / "a.safetensors").threshold == 0.5


def of_two_layers() -> Boosted:
    attention = [ChannelAttention(16, 4), SpatialAttention(3)]
    return Boosted(plain(1), plain(0).network, ["encoder", "bottleneck"], attention, 0.5, 0.2,
                   refine="residual")  # fmt: skip


def pair() -> AstMfr:
    return AstMfr("mobilenet_v2_035", "squeezenet1_1", teacher_weights=None, student_weights=None)


def with_a_prior() -> PkgNet:
    return PkgNet(width=12, channels=1, prior=imagenet("mobilenet_v2_035", None, bgr=True))


TEXTURES = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
SYSTEMS = {
    "plain": (plain, (3, 16, 24)),
    "prediction": (lambda: Prediction(AutoEncoder(6, 3, 4, 8)), (3, 3, 16, 16)),
    "boosted": (boosted, (3, 16, 24)),
    "two layers": (of_two_layers, (3, 16, 24)),
    "no λ": (lambda: boosted(None), (3, 16, 24)),
    "DRAEM": (lambda: Draem(4, 4, TEXTURES, window=3), (3, 32, 32)),
    "SSPCAB": (lambda: WithSSPCAB(plain(), ["bottleneck"], [SSPCAB(8)]), (3, 16, 24)),
    "MNAD": (lambda: Mnad("prediction", 1, 2, 4, 3), (3, 1, 16, 16)),
    "PKG-Net": (with_a_prior, (5, 1, 32, 32)),
    "Jigsaw": (lambda: Jigsaw(4, 4, 16, channels=1), (4, 1, 16, 16)),
    "HF2-VAD memory": (lambda: FlowMemory(4, 16, 9), (4, 3, 16, 16)),
    "HF2-VAD": (lambda: Hf2vad(FlowMemory(4, 16, 9), 8, 16, 1), (5, 3, 16, 16)),
    "AST-MFR": (pair, (3, 64, 64)),
    "boosted MNAD": (lambda: Boosted(Mnad("prediction", 1, 2, 4, 3),
                                     Mnad("prediction", 1, 2, 4, 3).network), (3, 1, 16, 16)),
}  # fmt: skip


def system_of(name: str) -> System:
    make, shape = SYSTEMS[name]
    torch.manual_seed(3)
    drawn = torch.Generator().manual_seed(0)
    train = torch.randint(0, 256, (4, *shape), generator=drawn, dtype=torch.uint8)
    system = System.of(make(), train, sigma=1.0)
    system.threshold = 0.25
    return system


def judged(system: System) -> np.ndarray:
    drawn = torch.Generator().manual_seed(1)
    shape = (2, *system.leading, *system.size)
    return system.judge(torch.randint(0, 256, shape, generator=drawn, dtype=torch.uint8))[0]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_comes_back_from_its_file_and_scores_the_same(name, tmp_path):
    """Nothing is given but the path: classes, arguments, frozen networks, all is in the file."""
    system = system_of(name)
    save(system, tmp_path / "a.safetensors")
    torch.manual_seed(9)
    again = load(tmp_path / "a.safetensors")
    assert type(again.detector) is type(system.detector) and not again.detector.training
    for field in ("size", "leading", "statistics", "sigma", "threshold"):
        assert getattr(again, field) == getattr(system, field), field
    np.testing.assert_allclose(judged(again), judged(system), rtol=1e-5)
    for part, network in networks(system.detector).items():
        for key, value in network.state_dict().items():
            assert torch.equal(networks(again.detector)[part].state_dict()[key], value), key


def test_a_λ_set_after_the_making_is_kept(tmp_path):
    system = system_of("boosted")
    system.detector.score_weight = 0.9
    save(system, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.detector.score_weight == 0.9
    np.testing.assert_allclose(judged(again), judged(system), rtol=1e-5)


def strange(act: type[nn.Module] = nn.ReLU, width: int = 4) -> Boosted:
    """A network of nobody's, boosted."""

    def network() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), act(), nn.Conv2d(width, 3, 3, 1, 1))

    return Boosted(Reconstruction(network()), network(), "0", score_weight=0.5)


def test_a_strangers_network_is_named_and_built_by_a_function(tmp_path):
    system, path = System.of(strange(), TRAIN), tmp_path / "a.safetensors"
    save(system, path)
    with pytest.raises(ValueError, match=r"torch\S*Sequential, which .* load\(path, build=lambda"):
        load(path)
    np.testing.assert_allclose(judged(load(path, build=strange)), judged(system), rtol=1e-5)


@pytest.mark.parametrize(
    "build, message",
    [(lambda: strange(width=5), "does not fit .*a.safetensors: .*size mismatch"),
     (plain, "does not fit .*: it has detector, the file .teacher, detector"),
     (lambda: strange(nn.Tanh), r"a.safetensors scores .* where it scored .* Check the arguments")],
    ids=["another width", "no Boosted", "another activation"],
)  # fmt: skip
def test_a_detector_built_otherwise_is_refused(build, message, tmp_path):
    """With another activation all weights fit, and every score would be wrong."""
    save(System.of(strange(), TRAIN), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.safetensors", build=build)


class Heir(AutoEncoder):
    """It may do anything, so that a file cannot say how to make it."""


def test_a_subclass_of_a_known_network_is_a_stranger(tmp_path):
    save(System.of(Reconstruction(Heir(width=4)), TRAIN), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"test_saving\.Heir, which fmabs_lite cannot make"):
        load(tmp_path / "a.safetensors")


def test_a_network_changed_after_the_making_is_refused(tmp_path):
    system = System.of(plain(), TRAIN)
    fit(system.detector, TRAIN, steps=20, lr=1e-2)
    system.detector.network.decoder[0][2] = nn.Tanh()
    save(system, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="is built otherwise"):
        load(tmp_path / "a.safetensors")


def test_to_save_leaves_the_detector_as_it_was(tmp_path):
    detector = plain().train()
    detector.network.encoder.eval()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    save(System(detector, (16, 24)), tmp_path / "a.safetensors")
    assert torch.equal(torch.rand(1), expected)
    assert detector.training and detector.network.decoder.training
    assert not any(m.training for m in detector.network.encoder.modules())


def test_a_file_that_is_damaged_or_another_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save(System.of(plain(), TRAIN), path)
    content = path.read_bytes()
    path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])  # one bit
    with pytest.raises(ValueError, match="is damaged: its weights are not"):
        load(path)
    path.write_bytes(content[:-1000])
    with pytest.raises(ValueError, match="is damaged, or not a file that `save` wrote"):
        load(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds weights and no system"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.safetensors")


def test_a_file_of_another_format_names_the_version_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fmabs_lite.saving.FORMAT", 2)
    save(System.of(plain(), TRAIN), tmp_path / "a.safetensors")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"written by fmabs_lite 0\.1\.0 in format 2; this one re"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["os.system", "fmabs_lite.saving.load", "builtins.eval",
                                  "fmabs_lite.models.autoencoder.down"])  # fmt: skip
def test_a_recipe_makes_nothing_but_what_was_decorated(name):
    with pytest.raises(ValueError, match=f"cannot make {name}"):
        made({"made_by": name, "arguments": {}})


def test_weights_in_the_file_are_readable_by_others(tmp_path):
    save(System.of(boosted(), TRAIN), tmp_path / "a.safetensors")
    keys = load_file(tmp_path / "a.safetensors")
    assert "detector/detector.network.bottleneck.weight" in keys
    assert ".teacher/bottleneck.weight" in keys
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def outside(path) -> list[np.ndarray]:
    """What ONNX Runtime says about four pictures."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["score", "map"], {"images": TEST.numpy()})


@pytest.mark.slow
def test_an_exported_onnx_scores_pictures_as_the_system_does(tmp_path):
    """The example was a batch of two, this is one of four."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    system = System.of(boosted(), TRAIN, sigma=1.0)
    system.threshold = 1.25
    export(system, tmp_path / "a.onnx")
    for found, right in zip(outside(tmp_path / "a.onnx"), system.judge(TEST), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)
    held = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    about = json.loads(held["fmabs_lite"])
    assert (about["threshold"], about["lam"], about["size"]) == (1.25, 0.3, [16, 24])


def test_an_exported_program_scores_pictures_as_the_system_does(tmp_path):
    system = system_of("boosted")
    export(system, tmp_path / "a.pt2")
    extra = {"fmabs_lite": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    shape = (5, *system.leading, *system.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    for found, right in zip(program(images), system.judge(images), strict=True):
        np.testing.assert_allclose(found.detach(), right, rtol=1e-4, atol=1e-4)
    assert json.loads(extra["fmabs_lite"])["threshold"] == 0.25


class Asking(Reconstruction):
    def prepare(self, batch):
        return super().prepare(batch * 2 if batch.mean() > 0.5 else batch)


class Beside(Reconstruction):
    def prepare(self, batch):
        return super().prepare(batch - batch.mean(dim=0, keepdim=True))


@pytest.mark.parametrize(
    "kind, message",
    [(Asking, "score of Asking cannot be written down .*batch.shape"),
     (Beside, "Once written down, Beside scores otherwise: .* pictures beside it")],
)  # fmt: skip
def test_a_score_that_cannot_be_written_down_is_refused(kind, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(System(kind(plain().network), (16, 24)), tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_an_export_of_another_ending_or_without_onnxscript_is_refused(tmp_path, monkeypatch):
    system = System(plain(), (16, 24))
    with pytest.raises(ValueError, match=r"ends in '\.pth'; choose \.onnx or \.pt2"):
        export(system, tmp_path / "a.pth")
    monkeypatch.setattr("fmabs_lite.saving.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install onnxscript"):
        export(system, tmp_path / "a.onnx")
