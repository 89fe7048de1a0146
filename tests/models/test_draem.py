"""DRAEM: sizes, what sees what, the losses against plain formulas, training and going on."""

import copy
import math

import numpy as np
import pytest
import torch
from failing import Failing, Killed
from scipy import ndimage
from torch import nn

import fmabs_lite.models.draem as draem
import fmabs_lite.training as training
from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.data.synthesis import Corrupted
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models.draem import Draem, Judge, Pair, Repairer, focal_loss, ssim
from fmabs_lite.training import fit

BOTTLENECKS = ["repairer.bottleneck", "judge.bottleneck"]
DATA = torch.randint(0, 256, (12, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
TEXTURES = torch.randint(0, 256, (5, 3, 64, 64), generator=torch.Generator().manual_seed(1)).byte()


def small(seed: int = 0, textures: torch.Tensor | None = TEXTURES) -> Draem:
    torch.manual_seed(seed)
    return Draem(width=4, disc_width=4, textures=textures, window=5)


def size_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def published() -> Pair:
    """The published widths, with shapes and without numbers."""
    with torch.device("meta"):
        return Pair().eval()


@pytest.fixture
def seen(monkeypatch):
    """Everything a module was given, by the name under which it was watched."""
    found = {}

    def watch(name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(
            lambda m, args: found.setdefault(name, []).append(args[0].detach().clone())
        )

    found["watch"] = watch
    return found


# --- the networks ----------------------------------------------------------------------------


def test_published_numbers_of_parameters(published):
    assert size_of(published.repairer) == 69_048_579
    assert size_of(published.judge) == 28_374_146
    assert size_of(published) == 97_422_725
    assert (
        size_of(published.repairer.encoder) + size_of(published.repairer.bottleneck) == 37_622_400
    )
    assert size_of(published.judge.encoder) + size_of(published.judge.bottleneck) == 14_134_272


@pytest.mark.parametrize("w", [4, 6])
def test_parameters_counted_by_hand(w):
    def block(a, b):
        return 9 * a * b + b + 2 * b  # convolution with bias; batch normalisation

    def double(a, b):
        return block(a, b) + block(b, b)

    down = double(3, w) + double(w, 2 * w) + double(2 * w, 4 * w) + double(4 * w, 8 * w)
    up = sum(block(a, a) + block(a, a) + block(a, b)
             for a, b in [(8 * w, 4 * w), (4 * w, 2 * w), (2 * w, w), (w, w)])  # fmt: skip
    assert size_of(Repairer(w)) == down + double(8 * w, 8 * w) + up + 9 * w * 3 + 3
    down = double(6, w) + double(w, 2 * w) + double(2 * w, 4 * w) + double(4 * w, 8 * w)
    up = sum(block(a, b) + double(b + skip, b)
             for a, b, skip in [(8 * w, 8 * w, 8 * w), (8 * w, 4 * w, 8 * w), (4 * w, 2 * w, 4 * w),
                                (2 * w, w, 2 * w), (w, w, w)])  # fmt: skip
    assert size_of(Judge(w)) == down + 2 * double(8 * w, 8 * w) + up + 9 * w * 2 + 2


def test_bottlenecks_at_the_published_size(published):
    shapes = {}
    for path in BOTTLENECKS:
        published.get_submodule(path).register_forward_hook(
            lambda m, args, output, path=path: shapes.update({path: tuple(output.shape)})
        )
    repair, logits = published(torch.empty(2, 3, 256, 256, device="meta"))
    assert repair.shape == (2, 3, 256, 256) and logits.shape == (2, 2, 256, 256)
    assert shapes == {BOTTLENECKS[0]: (2, 1024, 16, 16), BOTTLENECKS[1]: (2, 512, 8, 8)}


# In train mode: the first weights are so small that in eval mode nothing of the image is left at
# the far end.


def silence(module: nn.Module) -> None:
    module.register_forward_hook(lambda m, args, output: torch.zeros_like(output))


def test_nothing_leads_past_the_repairers_bottleneck():
    torch.manual_seed(0)
    network, a, b = Repairer(4).train(), torch.rand(1, 3, 32, 64), torch.rand(1, 3, 32, 64)
    assert not torch.allclose(network(a), network(b))
    silence(network.bottleneck)
    assert torch.equal(network(a), network(b))


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4, None])
def test_five_skips_lead_past_the_judges_bottleneck(kept):
    torch.manual_seed(0)
    network, a, b = Judge(4).train(), torch.rand(1, 6, 64, 64), torch.rand(1, 6, 64, 64)
    silence(network.bottleneck)
    for level, channels in enumerate([4, 8, 16, 32, 32]):
        if level != kept:
            network.decoder[4 - level].register_forward_pre_hook(
                lambda m, args, c=channels: torch.cat([args[0][:, :-c], 0 * args[0][:, -c:]], dim=1)
            )
    assert torch.equal(network(a), network(b)) == (kept is None)


def test_the_judge_is_given_the_repair_and_then_the_image(seen):
    system, x = small().eval(), torch.rand(2, 3, 32, 32)
    seen["watch"]("judge", system.network.judge)
    repair, _ = system.network(x)
    assert torch.equal(seen["judge"][0], torch.cat([repair, x], dim=1))


def test_first_weights_of_the_released_code():
    torch.manual_seed(0)
    network = Pair(16, 16)
    convolutions = [m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    drawn, scales = torch.cat(convolutions), torch.cat([m.weight for m in norms])
    assert abs(drawn.mean()) < 4 * 0.02 / math.sqrt(len(drawn))
    assert abs(drawn.std() - 0.02) < 4 * 0.02 / math.sqrt(2 * len(drawn))
    assert abs(scales.mean() - 1) < 4 * 0.02 / math.sqrt(len(scales))
    assert abs(scales.std() - 0.02) < 4 * 0.02 / math.sqrt(2 * len(scales))
    assert all((m.bias == 0).all() for m in norms)
    for weights in convolutions:  # none was left as PyTorch draws it
        assert abs(weights.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * len(weights))


@pytest.mark.parametrize("h, w", [(48, 64), (64, 80)])
def test_a_size_that_cannot_be_halved_five_times_is_refused(h, w):
    with pytest.raises(ValueError, match=f"{h}×{w} pixels.*multiples of 32"):
        small().network(torch.rand(1, 3, h, w))


# --- focal loss ------------------------------------------------------------------------------


def logits_for(p_anomaly: torch.Tensor) -> torch.Tensor:
    """Logits (1, 2, 1, N) whose softmax has these probabilities in channel 1."""
    return torch.stack([torch.zeros_like(p_anomaly), p_anomaly.logit()])[None, :, None]


def test_focal_loss_by_hand():
    p, mask = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([True, False, True])
    by_hand = -(0.1**2 * math.log(0.9) + 0.5**2 * math.log(0.5) + 0.8**2 * math.log(0.2)) / 3
    assert focal_loss(logits_for(p), mask.view(1, 1, 1, 3)).item() == pytest.approx(
        by_hand, rel=1e-5
    )


def test_a_false_alarm_everywhere_is_as_dear_as_finding_nothing():
    everywhere = logits_for(torch.full((7,), 0.999))
    sound, broken = (
        torch.zeros(1, 1, 1, 7, dtype=torch.bool),
        torch.ones(1, 1, 1, 7, dtype=torch.bool),
    )
    dear = -(0.999**2) * math.log(0.001)
    assert focal_loss(everywhere, sound).item() == pytest.approx(dear, rel=1e-3)
    assert focal_loss(-everywhere, broken).item() == pytest.approx(dear, rel=1e-3)
    assert focal_loss(everywhere, broken).item() < 1e-8


def test_focal_loss_pixel_by_pixel():
    rng = np.random.default_rng(0)
    logits, mask = rng.normal(0, 3, (2, 2, 5, 4)), rng.random((2, 1, 5, 4)) < 0.3
    total = 0.0
    for b, i, j in np.ndindex(2, 5, 4):
        both = np.exp(logits[b, :, i, j])
        p = both[int(mask[b, 0, i, j])] / both.sum()
        total -= (1 - p) ** 2 * np.log(p)
    got = focal_loss(torch.from_numpy(logits), torch.from_numpy(mask)).item()
    assert got == pytest.approx(total / 40, rel=1e-12)


def test_focal_loss_has_the_right_gradient_and_survives_certainty():
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(1, 1, 3, 3) < 0.5
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, mask), (logits,))
    sure = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    loss = focal_loss(sure, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(400) and sure.grad.isfinite().all()


# --- structural similarity -------------------------------------------------------------------


def plain_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of images (B, C, H, W) with SciPy's Gaussian, 11 pixels wide, zeros around."""

    def mean(x):
        return ndimage.gaussian_filter(x, (0, 0, 1.5, 1.5), truncate=5 / 1.5, mode="constant")

    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    top = (2 * ma * mb + 1e-4) * (2 * ab + 9e-4)
    return float((top / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean())


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 1, 24, 40), (1, 3, 8, 64)])
def test_ssim_like_scipy(shape):
    rng = np.random.default_rng(0)
    a = rng.random(shape)
    for b in (rng.random(shape), np.clip(a + rng.normal(0, 0.1, shape), 0, 1), 1 - a):
        got = ssim(torch.from_numpy(a), torch.from_numpy(b)).item()
        assert got == pytest.approx(plain_ssim(a, b), abs=1e-6)


def test_ssim_of_flat_images_by_hand():
    # Without texture only the means count; far from the rim, where no zeros come in.
    a, b = torch.full((1, 1, 400, 400), 0.2), torch.full((1, 1, 400, 400), 0.6)
    by_hand = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(by_hand, abs=0.02)


def test_ssim_knows_equal_and_opposite():
    a = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert ssim(a, a).item() == pytest.approx(1, abs=1e-6)
    assert ssim(a, 1 - a) < 0 < ssim(a, (a + 0.3).clamp(0, 1)) < 1
    assert ssim(a, 1 - a).item() == pytest.approx(ssim(1 - a, a).item(), abs=1e-6)


def test_ssim_is_computed_in_fp32_whatever_the_precision_of_the_training():
    torch.manual_seed(0)
    a = 0.9 + 0.02 * torch.randn(2, 3, 32, 32)
    b = a + 0.01 * torch.randn(2, 3, 32, 32)
    with training.autocast(torch.device("cpu"), "bf16"):
        got = ssim(a, b)
    assert got == ssim(a, b)


def test_ssim_has_the_right_gradient():
    torch.manual_seed(0)
    a, b = torch.rand(2, 1, 1, 8, 9, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), (a.requires_grad_(),))


# --- the detector ----------------------------------------------------------------------------


class Answer(nn.Module):
    """A network that always answers the same."""

    def __init__(self, repair: torch.Tensor, logits: torch.Tensor):
        super().__init__()
        self.repair, self.logits = repair, logits

    def forward(self, x):
        return self.repair, self.logits


def test_the_loss_is_the_sum_of_three_parts():
    torch.manual_seed(0)
    system = small()
    target, repair, logits = (
        torch.rand(2, 3, 64, 64),
        torch.rand(2, 3, 64, 64),
        torch.randn(2, 2, 64, 64),
    )
    mask = torch.rand(2, 1, 64, 64) < 0.1
    system.network = Answer(repair, logits)
    expected = (repair - target).square().mean() + 1 - plain_ssim(repair.numpy(), target.numpy())
    expected = expected + focal_loss(logits, mask)
    got = system.loss(Corrupted(torch.rand(2, 3, 64, 64), target, mask))
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_score_is_the_largest_mean_in_a_window():
    system = Draem(4, 4, window=21)
    p = torch.full((2, 64, 64), 1e-6)
    p[0, 20:30, 40:50] = 0.9
    p[1, :3, :3] = 0.8  # in the corner zeros are counted too
    logits = torch.stack([torch.zeros_like(p), p.logit()], dim=1)
    system.network = Answer(torch.zeros(2, 3, 64, 64), logits)
    parts = system.score(Corrupted(torch.zeros(2, 3, 64, 64), *[None] * 2))
    assert torch.allclose(parts["map_o"], p, atol=1e-6)
    assert parts["S_o"].tolist() == pytest.approx([90 / 441, 7.2 / 441], rel=1e-4)


def test_training_corrupts_and_testing_does_not():
    system, batch = small(), DATA.float() / 255
    torch.manual_seed(1)
    prepared = system.train().prepare(batch)
    assert prepared.mask.any() and not torch.equal(prepared.input, prepared.target)
    state = torch.get_rng_state()
    prepared = system.eval().prepare(batch)
    assert torch.equal(prepared.input, batch) and torch.equal(prepared.target, batch)
    assert prepared.mask.shape == (12, 1, 64, 64) and not prepared.mask.any()
    assert torch.equal(torch.get_rng_state(), state)


def test_in_bf16_the_loss_stays_that_of_fp32():
    system = small().train()
    torch.manual_seed(0)
    prepared = system.prepare(DATA[:4].float() / 255)
    losses = []
    for precision in ("fp32", "bf16"):
        with training.autocast(torch.device("cpu"), precision):
            losses.append(system.loss(prepared).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]


def test_without_textures_it_can_be_used_but_not_trained():
    system, batch = small(textures=None), DATA[:2].float() / 255
    assert system.eval().score(system.prepare(batch))["S_o"].shape == (2,)
    with pytest.raises(ValueError, match="no textures.*DTD"):
        system.train().prepare(batch)


def test_textures_are_shared_and_not_kept():
    system = small()
    assert not any("textures" in name for name in system.state_dict())
    small(seed=1, textures=None).load_state_dict(system.state_dict())
    laid = small().half().to(memory_format=torch.channels_last)
    assert laid.textures.data_ptr() == TEXTURES.data_ptr()


@pytest.mark.parametrize("at", BOTTLENECKS)
def test_a_teacher_is_shown_the_same_corruption_and_its_own_repair(seen, at):
    student, teacher = small(0), small(1).network
    system = Boosted(student, teacher, at=at, attention=SpatioChannelAttention(32)).train()
    for who, network in (("student", student.network), ("teacher", system.teacher)):
        seen["watch"](who, network)
        seen["watch"](f"{who}'s judge", network.judge)
    prepared = system.prepare(DATA.float() / 255)
    assert prepared.mask.any()
    system.loss(prepared).backward()
    assert all(torch.equal(x, prepared.input) for x in seen["student"] + seen["teacher"])
    repair = teacher.eval().repairer(prepared.input)
    own = torch.cat([repair, prepared.input], dim=1)
    assert torch.allclose(seen["teacher's judge"][0], own, atol=1e-6)
    assert not torch.allclose(seen["student's judge"][0], own, atol=1e-3)
    before = len(seen["teacher's judge"])
    system.loss(prepared)  # it knows by now where to stop
    assert len(seen["teacher's judge"]) - before == (at == "judge.bottleneck")
    assert {"S_o", "S_fea", "map_fea"} <= set(system.eval().score(system.prepare(prepared.target)))


@pytest.mark.parametrize("at", BOTTLENECKS)
def test_mimicry_reaches_only_what_lies_before_the_layer(at):
    system = Boosted(small(0), small(1).network, at=at).train()
    prepared = system.prepare(DATA[:4].float() / 255)
    difference = system.loss(prepared) - system.detector.loss(prepared)
    system.zero_grad()
    fea = difference  # L_o cancels, but for rounding
    fea.backward()
    behind = system.network.judge.last.weight.grad
    before = system.network.repairer.encoder[0][0].weight.grad
    assert behind.abs().max() < 1e-6 < 1e-4 < before.abs().max()


# --- training --------------------------------------------------------------------------------


def weights(system) -> torch.Tensor:
    return torch.cat([v.detach().flatten().double() for v in system.state_dict().values()])


@pytest.mark.parametrize("boosted", [False, True])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, monkeypatch, boosted):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    teacher = small(9).network

    def make(seed: int):
        if not boosted:
            return small(seed)
        torch.manual_seed(seed)
        attention = SpatioChannelAttention(32)
        return Boosted(small(seed), teacher, at="repairer.bottleneck", attention=attention)

    options = dict(steps=5, batch_size=4, milestones=(0.4, 0.8))
    whole = make(0)
    losses = fit(whole, DATA, **options)
    path = tmp_path / "run.pt"
    with pytest.raises(Killed):
        fit(make(0), Failing(DATA, at=3), **options, checkpoint=path)
    again = make(5)  # its own first weights must not matter
    assert fit(again, DATA, **options, checkpoint=path) == losses
    assert torch.equal(weights(again), weights(whole))


def test_it_can_learn_to_repair_and_to_find_a_few_squares():
    torch.manual_seed(0)
    system = small(textures=None).train()
    target, mask = torch.full((4, 3, 32, 32), 0.5), torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    for k in range(4):
        mask[k, :, 5 * k + 4 : 5 * k + 12, 6:16] = True
    prepared = Corrupted(torch.where(mask, torch.rand(4, 3, 32, 32), target), target, mask)
    optimiser = torch.optim.Adam(system.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        system.loss(prepared).backward()
        optimiser.step()
    with torch.no_grad():
        found, repair = system.score(prepared)["map_o"], system.network(prepared.input)[0]
    assert found[mask[:, 0]].mean() > 2 * found[~mask[:, 0]].mean()
    assert (repair - target).square().mean() < 0.5 * (prepared.input - target).square().mean()


def test_a_copy_corrupts_and_judges_like_the_original():
    system = small()
    twin = copy.deepcopy(system)
    batch = DATA.float() / 255
    losses = []
    for one in (system, twin):
        torch.manual_seed(0)
        losses.append(one.loss(one.prepare(batch)).item())
    assert losses[0] == losses[1]
    assert draem.Draem(4, 4).window == 21
