"""HF2-VAD: published sizes, losses by hand, and what may depend on what."""

import math

import pytest
import torch

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models.hf2vad import (
    Cvae,
    FlowMemory,
    FlowNet,
    Hf2vad,
    Slots,
    divergence,
    entropy,
    shrunk,
    to_depth,
    to_space,
)


def small(size: int = 16, **options) -> Hf2vad:
    torch.manual_seed(0)
    return Hf2vad(FlowMemory(4, size, slots=20), 8, size, channels=1, **options)


def cubes(size: int = 16, count: int = 3) -> torch.Tensor:
    return torch.rand(count, 5, 3, size, size, generator=torch.Generator().manual_seed(1))


def double(a: int, b: int) -> int:
    """Parameters of two 3×3 convolutions with bias and batch normalisation."""
    return 9 * a * b + 9 * b * b + 6 * b


def test_the_memory_has_the_published_size():
    """Counted from the released code's layers: 32 channels, three memories of 2 000 features."""
    halves = sum(9 * a * b + b + double(b, b) for a, b in ((32, 64), (64, 128), (128, 256)))
    ups = sum(9 * a * b + b for a, b in ((256, 128), (128, 64), (64, 32)))
    decoders = double(128, 128) + double(128, 64) + double(64, 32)
    stored = 2000 * (256 * 4**2 + 128 * 8**2 + 64 * 16**2)
    expected = double(2, 32) + halves + ups + decoders + 2 * 32 + 2 + stored
    with torch.device("meta"):
        assert sum(p.numel() for p in FlowMemory().parameters()) == expected == 60_114_338


def test_the_predictor_has_the_published_size():
    def scaled(a, b, k=1):  # weights and their lengths, bias, scale, shift
        return a * b * k * k + 4 * b

    def block(c, aside=False):
        return scaled(2 * c, c, 3) + scaled(c, c) if aside else scaled(c, c, 3)

    def stages(c):
        down = scaled(64, 128, 3) + 2 * scaled(128, 128, 3)
        return scaled(c, 64) + 2 * block(64) + 6 * block(128) + down

    up, one, merge = scaled(128, 512, 3), scaled(128, 128), scaled(256, 128)
    posterior = 3 * block(128, True) + one + up + merge
    means = block(128) + 3 * block(128, True) + scaled(512, 128)
    bottleneck = one + up + 2 * merge + 4 * block(128, True) + means
    decoder = up + 2 * block(128, True) + scaled(128, 256, 3) + 2 * block(64, True) + scaled(64, 3)
    expected = stages(12 + 8) + stages(8) + posterior + bottleneck + decoder
    with torch.device("meta"):
        assert sum(p.numel() for p in Cvae(12, 8, 3).parameters()) == expected == 8_990_668


def test_weights_below_the_least_are_nothing():
    found = shrunk(torch.tensor([0.1, 0.2, 0.5]), 0.2)
    assert torch.allclose(found, torch.tensor([0.0, 0.0, 0.5]))


def test_a_memory_answers_with_what_it_stored():
    memory = Slots(3, 4, least=0.2)
    with torch.no_grad():
        memory.stored.copy_(10 * torch.eye(3, 4))
    answer, weights = memory(torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2))
    assert torch.allclose(weights, torch.tensor([[0.0, 1.0, 0.0]]))
    assert torch.allclose(answer, torch.tensor([0.0, 10.0, 0.0, 0.0]).view(1, 1, 2, 2))


def test_entropy_by_hand():
    weights = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert entropy(weights).item() == pytest.approx(math.log(2) / 2)


def test_divergence_by_hand():
    """½ of the squared distance, over both grids; mean over the batch."""
    seen = [torch.ones(2, 1, 1, 2), torch.zeros(2, 1, 1, 1)]
    told = [torch.zeros(2, 1, 1, 2), torch.full((2, 1, 1, 1), 2.0)]
    assert divergence(seen, told).item() == pytest.approx(0.5 * 2 + 0.5 * 4)


def test_depth_and_space_undo_each_other_position_by_position():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert to_depth(x)[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    y = torch.randn(2, 3, 4, 6)
    assert torch.equal(to_space(to_depth(y)), y)


def test_the_stage_one_loss_by_hand():
    detector = FlowMemory(4, 16, slots=20).eval()
    prepared = detector.prepare(cubes())
    assert prepared.input.shape == (3, 4, 2, 16, 16)
    with torch.no_grad():
        flows, said = detector.network(prepared.input)
        expected = ((flows - prepared.target) ** 2).mean() + 2e-4 * sum(map(entropy, said))
        assert detector.loss(prepared).item() == pytest.approx(expected.item())
    detector.train()
    assert detector.prepare(cubes()).input.shape == (3, 1, 2, 16, 16)  # as released: the last flow


@torch.no_grad()
def test_the_deepest_reconstruction_comes_from_memory_alone():
    """With nothing stored, and no skips beside, the flow shown makes no difference."""
    network = FlowNet(4, 16, slots=20).eval()
    for memory in network.memory:
        memory.stored.zero_()
    heard = []
    network.decoder[0].register_forward_hook(lambda module, args, out: heard.append(out))
    for scale in (0.1, 3.0):
        network(scale * torch.randn(2, 4, 2, 16, 16))
    assert torch.equal(*heard)


@pytest.mark.parametrize("size", [16, 32])
def test_shapes_and_parts(size):
    detector = small(size).eval()
    parts = detector.score(detector.prepare(cubes(size)))
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "S_o": (3,), "map_o": (3, size, size), "S_flow": (3,)}  # fmt: skip


@torch.no_grad()
def test_a_score_is_the_same_twice_and_a_training_draw_is_not():
    detector = small().eval()
    one, two = (detector.score(detector.prepare(cubes()))["S_o"] for _ in range(2))
    assert torch.equal(one, two)
    detector.train()
    first, second = (detector.prepare(cubes()).noise[0] for _ in range(2))
    assert not torch.equal(first, second)


@torch.no_grad()
def test_the_last_frame_is_seen_by_nobody():
    """A prediction that had seen its target would be no prediction; the last flow is given."""
    detector = small().eval()
    batch, other = cubes(), cubes()
    other[:, -1, 0] = 0.0
    predicted = [detector.network(g.input, g.flows, g.noise).frame
                 for g in map(detector.prepare, (batch, other))]  # fmt: skip
    assert torch.equal(*predicted)


def test_the_memory_stays_as_it_is():
    detector = small()
    before = {name: p.clone() for name, p in detector.memory.state_dict().items()}
    detector.train()
    optimiser = torch.optim.Adam(detector.parameters(), lr=0.1)
    detector.loss(detector.prepare(cubes())).backward()
    optimiser.step()
    after = detector.memory.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(name.startswith(("_memory", "memory")) for name in detector.state_dict())


def test_a_state_with_another_memory_is_refused():
    state, other = small().state_dict(), small()
    with torch.no_grad():
        next(other.memory.parameters()).add_(1)
    with pytest.raises(ValueError, match="trained with another memory"):
        other.load_state_dict(state)


def test_it_can_be_boosted_at_its_bottleneck():
    plain, teacher = small(), small()
    boosted = Boosted(plain, teacher.network, "bottleneck", SpatioChannelAttention(16))
    boosted.loss(boosted.prepare(cubes())).backward()
    parts = boosted.score(boosted.prepare(cubes()))
    assert parts["S_fea"].shape == (3,) and parts["map_fea"].shape == (3, 8, 8)


@pytest.mark.parametrize(("shape", "match"), [
    ((2, 5, 1, 16, 16), "5 frames with 1 channels.*takes 5 with 3.*with_flow"),
    ((2, 4, 3, 16, 16), "4 frames"),
])  # fmt: skip
def test_cubes_that_do_not_fit(shape, match):
    with pytest.raises(ValueError, match=match):
        small().prepare(torch.rand(shape))


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="memory's 32"):
        Hf2vad(FlowMemory(4, 32, 20), 8, 16)
    with pytest.raises(ValueError, match="16×16 pixels.*32×32"):
        FlowMemory(4, 32, 20).eval().network(torch.rand(1, 4, 2, 16, 16))
