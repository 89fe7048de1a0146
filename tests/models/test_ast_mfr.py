"""AST-MFR: sizes as published, losses by hand, masks, what is trained and what is not."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from fmabs_lite.attention import SpatialAttention, SpatioChannelAttention
from fmabs_lite.models import ast_mfr
from fmabs_lite.models.ast_mfr import (
    AstMfr,
    Mfr,
    Shown,
    cosine_distance,
    draw_mask,
    mfr_smooth,
    unit_distance,
)
from fmabs_lite.models.backbones import NETWORKS, Backbone, normalised
from fmabs_lite.scoring import smooth
from fmabs_lite.training import collect, fit

PUBLISHED = {  # parameters of stages 1 to 3, and G multiply-adds of an image of 256 × 256
    "resnext50_32x4d": (8_435_008, 18.89),
    "wide_resnet50_2": (24_862_528, 26.49),
    "resnet50": (8_543_296, 18.78),
}
# Two convolutions of 9 · C² weights and C biases, for C = 256, 512 and 1024.
BLOCKS = 2 * (9 * (256**2 + 512**2 + 1024**2) + 256 + 512 + 1024)


def needs(*packages: str) -> None:
    """Skip a test where a package of the extra [weights] is missing."""
    for package in packages:
        pytest.importorskip(package, reason='pip install -e ".[weights]"')


class Three(nn.Module):
    """Three features that are zero nowhere; `crop` leaves off the last rows and columns."""

    def __init__(self, widths: tuple[int, ...] = (4, 6, 8), crop: int = 0):
        super().__init__()
        before = (3, *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.SiLU())
            for a, b, stride in zip(before, widths, (4, 2, 2), strict=True)
        )
        self.crop = crop

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x[..., : x.shape[-2] - self.crop, : x.shape[-1] - self.crop])
        return features


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def build(teacher=(4, 6, 8), student=(4, 6, 8), crop=0, seed=0, **options) -> AstMfr:
    torch.manual_seed(seed)
    return AstMfr(Three(teacher), Three(student, crop), **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# Sizes


@pytest.fixture(scope="module")
def published() -> dict[str, AstMfr]:
    """The published pairs, without memory for their weights."""
    teacher = Three((256, 512, 1024)).to("meta")
    with torch.device("meta"):
        return {name: AstMfr(teacher, name, student_weights=None) for name in PUBLISHED}


def test_parameters_as_published(published):
    assert BLOCKS == 24_776_192
    for name, (expected, _) in PUBLISHED.items():
        assert count(published[name].network) == expected
        assert count(published[name].mfr) == BLOCKS
        assert count(published[name]) == expected + BLOCKS
    millions = {name: round(count(detector) / 1e6, 1) for name, detector in published.items()}
    # Table 5 has 36.3 for ResNet50, which is not what its own other rows lead to.
    assert millions == {"resnext50_32x4d": 33.2, "wide_resnet50_2": 49.6, "resnet50": 33.3}


def test_multiply_adds_as_published(published):
    with torch.device("meta"):
        sizes = [(1, 256, 64, 64), (1, 512, 32, 32), (1, 1024, 16, 16)]
        features = [torch.zeros(size) for size in sizes]
        image = torch.zeros(1, 3, 256, 256)
    for name, (_, expected) in PUBLISHED.items():
        detector = published[name]
        with FlopCounterMode(display=False) as counter:
            found = detector.network(image)
            for block, feature in zip(detector.mfr, features, strict=True):
                block(feature)
        assert [tuple(f.shape) for f in found] == sizes
        assert counter.get_total_flops() / 2e9 == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(
    ("name", "channels", "sides"),
    [("mobilenet_v2_035", [8, 16, 32], [16, 8, 4]), ("squeezenet1_1", [128, 256, 512], [15, 7, 3])],
)
def test_small_backbones_have_three_stages_and_nothing_behind(name, channels, sides):
    with torch.device("meta"):
        network = Backbone(name, None)
        found = network(torch.zeros(2, 3, 64, 64))
    shapes = [(2, c, n, n) for c, n in zip(channels, sides, strict=True)]
    assert [tuple(f.shape) for f in found] == shapes
    paths = [path for path, _ in network.stages.layers.named_modules()]
    last = NETWORKS[name].at[-1]
    assert last in paths and not any(path.startswith("classifier") for path in paths)
    after = f"features.{int(last.split('.')[1]) + 1}"
    assert after not in paths


# Distances


def test_distances_by_hand():
    """Four positions: the same way, a right angle, opposite, and 3-4-5 against an axis."""
    t = torch.tensor([[1.0, 1.0, 1.0, 3.0], [0.0, 0.0, 0.0, 4.0]]).view(1, 2, 1, 4)
    s = torch.tensor([[7.0, 0.0, -2.0, 9.0], [0.0, 0.1, 0.0, 0.0]]).view(1, 2, 1, 4)
    expected = torch.tensor([[[0, 1, 2, 1 - 0.6]]])
    assert torch.allclose(cosine_distance(t, s), expected)
    assert torch.allclose(unit_distance(t, s), expected)


def test_both_distances_are_one_and_the_same():
    draws = torch.Generator().manual_seed(0)
    t, s = torch.randn(2, 3, 16, 5, 7, generator=draws, dtype=torch.float64)
    assert (cosine_distance(t, s) - unit_distance(t, s)).abs().max() < 1e-12
    assert cosine_distance(t, s).shape == (3, 5, 7)


def test_they_part_only_where_a_vector_is_zero():
    t, zero = torch.ones(1, 4, 1, 1), torch.zeros(1, 4, 1, 1)
    assert cosine_distance(t, zero).item() == 1 and unit_distance(t, zero).item() == 0.5


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5])
def test_the_loss_is_a_multiple_of_the_cosine_alone(alpha, images):
    prepared = build().prepare(images)
    cosine = build(alpha=0.0).loss(prepared)
    assert torch.allclose(build(alpha=alpha).loss(prepared), (1 + alpha) * cosine, rtol=1e-5)


def test_the_loss_is_a_mean_over_positions_and_a_sum_over_stages(images):
    """Equations 2, 4 and 5, written out."""
    detector = build(alpha=0.5)
    prepared = detector.prepare(images)
    fea_s = detector.network(prepared.input)
    total = 0.0
    for t, s, mask, block in zip(prepared.target, fea_s, prepared.masks, detector.mfr, strict=True):
        first, _, second = block.generate
        s = second(first(s * mask).relu())
        b, _, h, w = t.shape
        dot = torch.einsum("bchw,bchw->bhw", t, s)
        cos = 1 - dot / (t.norm(dim=1) * s.norm(dim=1))
        unit = (s / s.norm(dim=1)[:, None] - t / t.norm(dim=1)[:, None]).norm(dim=1) ** 2 / 2
        total = total + (cos.sum() + 0.5 * unit.sum()) / (b * h * w)
    assert torch.allclose(detector.loss(prepared), total, rtol=1e-4)


# Masks


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.9])
def test_the_rate_is_the_share_that_is_lost(rate):
    mask = draw_mask(torch.zeros(50, 7, 40, 40), rate)
    assert mask.shape == (50, 1, 40, 40) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert (mask == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert (mask == 0).float().mean(dim=(0, 1)).std() < 0.1  # everywhere alike


def test_a_mask_follows_the_algorithm(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size: torch.tensor([0.2, 0.5, 0.7]).view(size))
    mask = draw_mask(torch.zeros(1, 4, 1, 3, dtype=torch.float64), 0.5)
    assert mask.tolist() == [[[[0, 1, 1]]]] and mask.dtype == torch.float64


def test_masks_differ_by_sample_and_stage_and_call_and_follow_the_seed(images):
    detector = build()
    torch.manual_seed(1)
    first, second = detector.prepare(images).masks, detector.prepare(images).masks
    torch.manual_seed(1)
    again = detector.prepare(images).masks
    assert [tuple(m.shape) for m in first] == [(6, 1, 8, 8), (6, 1, 4, 4), (6, 1, 2, 2)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first[:2], second[:2], strict=True))
    assert not torch.equal(first[0][0], first[0][1])
    assert not torch.equal(first[0][:, :, :4, :4], first[1])


def test_nothing_is_masked_in_eval_and_nothing_is_drawn(images):
    detector = build().eval()
    state = torch.get_rng_state()
    prepared = detector.prepare(images)
    assert prepared.masks == [None] * 3
    detector.score(prepared)
    assert torch.equal(state, torch.get_rng_state())
    kept = Shown(prepared.input, prepared.target, [torch.ones_like(t) for t in prepared.target])
    assert torch.equal(detector.score(prepared)["map_o"], detector.score(kept)["map_o"])


def test_loss_and_score_are_functions_of_what_was_prepared(images):
    detector = build()
    prepared = detector.prepare(images)
    assert torch.equal(detector.loss(prepared), detector.loss(prepared))
    hidden = prepared._replace(masks=[torch.zeros_like(m) for m in prepared.masks])
    assert not torch.equal(detector.loss(prepared), detector.loss(hidden))


# Regeneration


def test_what_was_masked_is_regenerated_from_its_neighbours_alone():
    """Two 3×3 convolutions see two steps far, and of a masked position nothing."""
    torch.manual_seed(0)
    block, feature = Mfr(4), torch.rand(1, 4, 9, 9)
    mask = torch.ones(1, 1, 9, 9)
    mask[..., 4, 4] = 0
    before = block(feature, mask)
    other = feature.clone()
    other[..., 4, 4] += 10
    assert torch.equal(block(other, mask), before)
    assert not torch.allclose(block(other)[..., 4, 4], block(feature)[..., 4, 4])
    for place, seen in (((4, 6), True), ((6, 6), True), ((4, 7), False), ((1, 4), False)):
        near = feature.clone()
        near[..., place[0], place[1]] += 10
        assert torch.equal(block(near, mask)[..., 4, 4], before[..., 4, 4]) is not seen


def test_the_mask_spares_the_next_stage(images):
    """The regenerated feature is a side branch: the student sees nothing of the masks."""
    detector = build().eval()
    seen = []
    detector.network.stages[1].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    prepared = detector.prepare(images)
    detector.loss(prepared)
    masks = [torch.zeros_like(t[:, :1]) for t in prepared.target]
    detector.loss(prepared._replace(masks=masks))
    assert torch.equal(seen[0], seen[1]) and seen[0].abs().sum() > 0


def test_gradients_reach_student_and_blocks_and_not_the_teacher(images):
    detector = build(student=(5, 6, 9))
    detector.loss(detector.prepare(images)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in detector.mfr.parameters())
    assert all(p.grad is not None for p in detector.network.parameters())
    assert all(p.grad is None and not p.requires_grad for p in detector.teacher.parameters())


def test_alignment_only_where_channels_differ():
    assert isinstance(Mfr(8).align, nn.Identity) and isinstance(Mfr(8, 8).align, nn.Identity)
    detector = build(teacher=(4, 6, 8), student=(5, 6, 3))
    kinds = [type(block.align) for block in detector.mfr]
    assert kinds == [nn.Conv2d, nn.Identity, nn.Conv2d]
    assert detector.mfr[0].align.weight.shape == (4, 5, 1, 1)
    assert Mfr(8, 3)(torch.rand(2, 3, 5, 5), torch.ones(2, 1, 5, 5)).shape == (2, 8, 5, 5)


def test_a_student_of_another_size_is_resized_to_the_teacher(images):
    detector = build(student=(5, 6, 8), crop=1)
    prepared = detector.prepare(images)
    maps = detector.distances(prepared)
    assert [tuple(m.shape) for m in maps] == [(6, 8, 8), (6, 4, 4), (6, 2, 2)]
    fea_s = detector.network(prepared.input)[0]
    assert fea_s.shape[-2:] == (7, 7)
    large = F.interpolate(fea_s, (8, 8), mode="bilinear", align_corners=False)
    expected = detector.mfr[0](large, prepared.masks[0])
    assert torch.allclose(detector.mimic(0, prepared.target[0], fea_s, prepared.masks[0]), expected)


def test_without_mfr_only_the_alignment_is_left(images):
    detector = build(student=(5, 6, 8), regenerate=False)
    assert count(detector.mfr) == 5 * 4 + 4
    prepared = detector.prepare(images)
    assert prepared.masks == [None] * 3
    said = detector.network(prepared.input)
    maps = detector.distances(prepared)
    for k in (1, 2):
        assert torch.allclose(maps[k], 2 * cosine_distance(prepared.target[k], said[k]), atol=1e-5)


def test_a_twin_without_mfr_has_nothing_to_learn(images):
    torch.manual_seed(0)
    network = Three()
    detector = AstMfr(network, network, regenerate=False).eval()
    assert detector.network is network and detector.teacher is not network
    assert detector.loss(detector.prepare(images)).item() == pytest.approx(0, abs=1e-5)


def test_blocks_stand_at_the_stages_named(images):
    detector = build(stages=(2,))
    masks = detector.prepare(images).masks
    assert [m is not None for m in masks] == [False, True, False]
    assert [count(block) > 0 for block in detector.mfr] == [False, True, False]


# Input, score and map


def test_grey_images_are_shown_in_three_colours(images):
    grey = build().eval().prepare(images[:, :1])
    assert torch.equal(grey.input, images[:, :1].repeat(1, 3, 1, 1))
    colour = build().eval().prepare(grey.input)
    assert all(torch.equal(a, b) for a, b in zip(grey.target, colour.target, strict=True))


def test_the_map_adds_up_the_stages(images):
    detector = build().eval()
    prepared = detector.prepare(images)
    parts = detector.score(prepared)
    maps = [
        F.interpolate(d[:, None], (32, 32), mode="bilinear", align_corners=False)[:, 0]
        for d in detector.distances(prepared)
    ]
    assert torch.allclose(parts["map_o"], maps[0] + maps[1] + maps[2])
    assert torch.equal(parts["S_o"], parts["map_o"].flatten(1).max(dim=1).values)
    alone = [detector.score(detector.prepare(image[None]))["map_o"] for image in images]
    assert torch.allclose(parts["map_o"], torch.cat(alone), atol=1e-5)


def test_a_damage_shows_where_it_is(images):
    """A student that copies the teacher well disagrees only where the image is strange to it."""
    sound = images[:1, :, :1, :1].expand(8, -1, 64, 64).clone()
    sound += 0.05 * torch.rand(sound.shape, generator=torch.Generator().manual_seed(1))
    detector = build(student=(5, 6, 8))
    losses = fit(detector, (255 * sound).clamp(0, 255).byte(), steps=80, batch_size=8, lr=1e-2)
    assert losses[-1] < 0.5 * losses[0]
    damaged = sound.clone()
    damaged[:, :, 16:32, 32:48] = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
    maps = collect(detector, (255 * damaged).clamp(0, 255).byte())["map_o"]
    assert maps[:, 16:32, 32:48].mean() > 2 * maps[:, 40:, :16].mean()


def test_smoothing_is_a_gaussian_and_then_a_mean():
    maps = np.zeros((2, 41, 41), np.float32)
    maps[0, 20, 20] = 1
    found, gauss = mfr_smooth(maps), smooth(maps, 4)
    assert found.shape == maps.shape and not found[1].any()
    assert found[0, 20, 20] == pytest.approx(gauss[0, 18:23, 18:23].mean(), rel=1e-4)
    assert found[0, 10, 25] == pytest.approx(gauss[0, 8:13, 23:28].mean(), rel=1e-4)
    assert np.allclose(mfr_smooth(np.ones((1, 9, 9))), 1)  # the rim does not fade
    assert np.allclose(mfr_smooth(maps, sigma=0, side=1), maps)


# Training


def test_the_teacher_is_neither_trained_nor_saved_nor_moved_out_of_eval(images):
    detector = build(student=(5, 6, 8))
    before = copy.deepcopy(detector.teacher.state_dict())
    student = copy.deepcopy(detector.network.state_dict())
    fit(detector, (255 * images).byte(), steps=3, batch_size=4)
    assert detector.network.training and not any(m.training for m in detector.teacher.modules())
    now = detector.teacher.state_dict()
    assert all(torch.equal(before[name], now[name]) for name in before)
    learnt = detector.network.state_dict()
    assert all(not torch.equal(student[n], learnt[n]) for n in student if "num" not in n)
    theirs = {id(p) for p in detector.teacher.parameters()}
    assert not theirs & {id(p) for p in detector.parameters()}
    parts = {name.split(".")[0] for name in detector.state_dict()}
    assert parts == {"network", "mfr", "fingerprint"}
    assert not any(detector.teacher is module for module in detector.modules())


def test_a_state_with_another_teacher_is_refused():
    other = build()
    with torch.no_grad():
        next(other.teacher.parameters()).add_(1)
    with pytest.raises(ValueError, match="trained with another teacher"):
        build().load_state_dict(other.state_dict())


def test_a_training_that_was_killed_goes_on(images, tmp_path):
    whole, path = (255 * images).byte(), tmp_path / "kept.pt"
    expected = fit(build(), whole, steps=4, batch_size=4)

    class Killed(Exception):
        pass

    def kill(done):
        if done == 2:
            raise Killed

    first = build()
    saved = pytest.MonkeyPatch()
    saved.setattr("fmabs_lite.training.SAVE_EVERY", -1.0)
    with pytest.raises(Killed), saved.context():
        fit(first, whole, steps=4, batch_size=4, checkpoint=path, watch=kill)
    saved.undo()
    assert not any(name.startswith("teacher") for name in torch.load(path)["detector"])
    assert fit(build(), whole, steps=4, batch_size=4, checkpoint=path) == expected


def test_the_teacher_follows_the_detector():
    detector = build().to(torch.float64)
    assert all(p.dtype == torch.float64 for p in detector.teacher.parameters())
    assert detector.to("meta").teacher.stages[0][0].weight.device.type == "meta"
    copied = copy.deepcopy(build())
    assert copied.teacher is not build().teacher and not copied.teacher.training


def test_half_precision_measures_in_single(images, monkeypatch):
    seen = []

    def noted(t, s):
        seen.append((t.dtype, s.dtype))
        return unit_distance(t, s)

    monkeypatch.setattr(ast_mfr, "unit_distance", noted)
    detector = build()
    with torch.autocast("cpu", torch.bfloat16):
        detector.loss(detector.prepare(images))
    assert seen == [(torch.float32, torch.float32)] * 3


def test_building_leaves_the_student_in_the_mode_it_had():
    for mode in (True, False):
        student = Three().train(mode)
        before = copy.deepcopy(student.state_dict())
        AstMfr(Three(), student)
        assert all(module.training is mode for module in student.modules())
        assert all(torch.equal(v, before[n]) for n, v in student.state_dict().items())


# Attention


def test_attention_refines_what_is_masked_and_regenerated(images):
    modules = [SpatioChannelAttention(c, reduction=2) for c in (4, 6, 8)]
    detector = build(student=(5, 6, 8), attention=modules)
    prepared = detector.prepare(images)
    t, s, mask = prepared.target[0], detector.network(prepared.input)[0], prepared.masks[0]
    aligned = detector.mfr[0].align(s)
    m = modules[0]((t - aligned).abs())
    expected = detector.mfr[0].generate(m * aligned * mask)
    assert torch.allclose(detector.mimic(0, t, s, mask), expected)
    detector.loss(prepared).backward()
    assert all(p.grad is not None for p in detector.attention.parameters())
    assert "attention.0.encode.weight" in detector.state_dict()


def test_attention_does_without_the_blocks(images):
    detector = build(attention=[SpatialAttention() for _ in range(3)], regenerate=False)
    assert detector.loss(detector.prepare(images)).isfinite()


# Weights and messages


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = models.mobilenet_v2(weights=None, width_mult=0.35).state_dict()
    return {name: value.clone() for name, value in state.items() if name.startswith("features.")}


def test_weights_from_a_file_are_the_weights_used(tmp_path, small):
    for suffix, save in ((".safetensors", save_file), (".pth", torch.save)):
        path = tmp_path / f"weights{suffix}"
        # A file may end behind the third stage.
        save({n: v for n, v in small.items() if int(n.split(".")[1]) <= 13}, path)
        found = Backbone("mobilenet_v2_035", path).stages.layers.state_dict()
        assert set(found) < set(small)
        assert all(torch.equal(value, small[name]) for name, value in found.items())


def test_both_networks_get_their_own_file(tmp_path, monkeypatch):
    class Marked(Three):
        def __init__(self, name, weights):
            super().__init__()
            self.came_from = name, weights

    monkeypatch.setattr(ast_mfr, "Backbone", Marked)
    detector = AstMfr("a", "b", teacher_weights="t.pth", student_weights=None)
    assert detector.teacher.came_from == ("a", "t.pth")
    assert detector.network.came_from == ("b", None)
    default = AstMfr()
    assert default.teacher.came_from == ("wide_resnet50_2", "")
    assert default.network.came_from == ("resnext50_32x4d", "")
    assert (default.mask_rate, default.alpha, default.stages) == (0.5, 1.0, (1, 2, 3))


def test_what_it_does_not_know_is_refused():
    with pytest.raises(ValueError, match="'vgg'; choose one of wide_resnet50_2.*lite0"):
        AstMfr("vgg")


def test_each_network_is_shown_what_its_training_showed(images):
    """Both get the images as they are; a Backbone normalises them, each by its own statistics."""
    needs("timm")
    torch.manual_seed(0)
    first, second = Backbone("mobilenet_v2_035", None), Backbone("efficientnet_lite0", None)
    detector = AstMfr(first, second, regenerate=False).eval()
    prepared = detector.prepare(images)
    assert torch.equal(prepared.input, images)
    expected = first.eval().stages(normalised(images))
    assert all(torch.equal(a, b) for a, b in zip(prepared.target, expected, strict=True))
    seen = []
    second.stages.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    detector.loss(prepared)
    assert torch.allclose(seen[0], (images * 255 - 127) / 128, atol=1e-5)
    alike = AstMfr(first, copy.deepcopy(first), regenerate=False).eval()
    assert alike.loss(alike.prepare(images)).abs() < 1e-5


class Odd(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.weight, self.answer = nn.Parameter(torch.zeros(1)), answer

    def forward(self, x):
        return self.answer(x)


def test_misfits_are_refused():
    with pytest.raises(ValueError, match=r"stages is \(0, 1\); choose among 1, 2 and 3"):
        build(stages=(0, 1))
    for rate in (-0.1, 1.0, 50):
        with pytest.raises(ValueError, match=f"mask_rate is {rate}"):
            build(mask_rate=rate)
    with pytest.raises(ValueError, match=r"1 module\(s\) for 3 layer\(s\), stage 1"):
        build(attention=[SpatialAttention()])
    wrong = {
        "a Tensor": lambda x: x,
        "a list of 2": lambda x: [x, x],
        "a dict of 3": lambda x: {"a": x, "b": x, "c": x},
        "a list of 3": lambda x: [x, x, x.mean(dim=1)],
    }
    for words, answer in wrong.items():
        with pytest.raises(ValueError, match=f"Odd must return a list of three .*{words}"):
            AstMfr(Odd(answer), Three())
        with pytest.raises(ValueError, match=f"Odd must return a list of three .*{words}"):
            AstMfr(Three(), Odd(answer))
