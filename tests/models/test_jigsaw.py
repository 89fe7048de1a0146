"""Jigsaw: sizes, shuffles and their targets, loss and score by hand, boosting, going on."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from failing import Failing, Killed
from torch import nn

import fmabs_lite.training as training
from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models.jigsaw import (
    Jigsaw,
    Puzzle,
    Solver,
    doubt,
    from_patches,
    permutations,
    puzzle_loss,
    reorder,
    to_patches,
)
from fmabs_lite.training import collect, fit
from fmabs_lite.videos import gaussian, painted

DATA = torch.randint(0, 256, (12, 7, 1, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def small(seed: int = 0, **options) -> Jigsaw:
    torch.manual_seed(seed)
    return Jigsaw(**dict(frames=7, width=4, size=16, channels=1) | options)


def size_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- the network -----------------------------------------------------------------------------


def test_published_numbers_of_parameters():
    assert size_of(Jigsaw(frames=7)) == 1_570_530
    assert size_of(Jigsaw(frames=9)) == 1_586_946


@pytest.mark.parametrize("w, t, size, c", [(4, 5, 32, 1), (6, 7, 16, 3)])
def test_parameters_counted_by_hand(w, t, size, c):
    trunk = 27 * (c * w + w * w + w * 2 * w + 3 * (2 * w) ** 2)  # no bias, no affine
    neck = 9 * (2 * w) ** 2 + 2 * w
    code, hidden = 2 * w * (size // 16) ** 2, 16 * w
    heads = sum(code * hidden + hidden + hidden * n**2 + n**2 for n in (t, 9))
    assert size_of(Solver(t, w, size, c)) == trunk + neck + heads


def test_the_trunk_is_four_dimensional_and_as_published():
    with torch.device("meta"):
        network = Solver()
        x = torch.empty(2, 3, 7, 64, 64)
        assert network.trunk(x).shape == (2, 64, 8, 8)
        temporal, spatial = network(x)
    assert temporal.shape == (2, 7, 7) and spatial.shape == (2, 9, 9)


def test_the_network_norms_each_cube_by_itself():
    network, x = small().network, torch.rand(4, 1, 7, 16, 16)
    with torch.no_grad():
        together, alone = network(x), network(x[1:2])
    assert all(torch.allclose(a[1:2], b, atol=1e-5) for a, b in zip(together, alone, strict=True))


# --- shuffles --------------------------------------------------------------------------------


def test_a_known_order_by_hand():
    numbered = (
        torch.arange(5.0).view(1, 5, 1).expand(2, 5, 3) + torch.tensor([0, 10.0])[:, None, None]
    )
    order = torch.tensor([[4, 2, 0, 1, 3], [0, 1, 2, 4, 3]])
    shuffled = reorder(numbered, order)
    assert shuffled[:, :, 0].tolist() == [[4, 2, 0, 1, 3], [10, 11, 12, 14, 13]]
    assert torch.equal(reorder(shuffled, order.argsort(dim=1)), numbered)


def test_permutations_are_permutations_of_every_kind():
    torch.manual_seed(0)
    drawn = permutations(3000, 3)
    assert torch.equal(drawn.sort(dim=1).values, torch.arange(3).expand(3000, 3))
    codes, counts = (drawn @ torch.tensor([9, 3, 1])).unique(return_counts=True)
    assert len(codes) == 6 and (counts - 500).abs().max() < 5 * math.sqrt(500)
    assert torch.equal(permutations(50, 9, untouched=1.0), torch.arange(9).expand(50, 9))
    left = (permutations(4000, 9, untouched=0.25) == torch.arange(9)).all(dim=1)
    assert abs(left.float().mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("size, side, rim", [(64, 20, 2), (32, 10, 1), (16, 5, 0), (48, 15, 1)])
def test_patches_lie_row_by_row_inside_the_rim(size, side, rim):
    cubes = torch.rand(2, 3, 1, size, size)
    patches = to_patches(cubes)
    assert patches.shape == (2, 9, 3, 1, side, side)
    for k, (row, column) in enumerate(product(range(3), range(3))):
        y, x = rim + row * side, rim + column * side
        assert torch.equal(patches[:, k], cubes[..., y : y + side, x : x + side])
    joined = from_patches(patches, size)
    inside = torch.zeros(size, size, dtype=torch.bool)
    inside[rim : rim + 3 * side, rim : rim + 3 * side] = True
    assert joined.shape == cubes.shape and (joined[..., ~inside] == 0).all()
    assert torch.equal(joined[..., inside], cubes[..., inside])


def numbered(b: int) -> torch.Tensor:
    """Cubes (b, 7, 1, 16, 16) in which no two frames and no two patches of an item are alike."""
    frame = torch.arange(7.0).view(1, 7, 1, 1, 1) / 10
    patch = torch.arange(9.0).view(3, 3).repeat_interleave(5, 0).repeat_interleave(5, 1) / 1000
    mirror = torch.zeros(16, 16)  # the same seen in a mirror would be another number
    mirror[:15, :15] = patch
    return (0.1 + frame + mirror).expand(b, 7, 1, 16, 16).clone()


def test_targets_tell_where_frames_and_patches_came_from(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "flip", lambda self, *axes: self)  # flips have their own test
    system = small(still=0.0, untouched=0.0).train()
    torch.manual_seed(1)
    puzzle = system.prepare(numbered(40))
    middle = puzzle.input[:, 0, :, 2:15:5, 2:15:5].reshape(40, 7, 9)  # one pixel a patch
    frame = ((middle - 0.1) * 10).floor().long()
    patch = ((middle - 0.1 - frame / 10) * 1000).round().long()
    assert torch.equal(frame, puzzle.order[:, :, None].expand(-1, -1, 9))
    assert torch.equal(patch, puzzle.places[:, None].expand(-1, 7, -1))
    intact = torch.arange(7).expand(20, 7), torch.arange(9).expand(20, 9)
    assert torch.equal(puzzle.order[1::2], intact[0]) and torch.equal(
        puzzle.places[0::2], intact[1]
    )
    assert (puzzle.order[0::2] != intact[0]).any(dim=1).all()
    assert (puzzle.places[1::2] != intact[1]).any(dim=1).all()


def test_half_of_the_training_cubes_are_mirrored():
    system = small(still=2.0, untouched=1.0).train()  # nothing is shuffled
    torch.manual_seed(0)
    cubes = torch.rand(1, 7, 1, 16, 16).expand(400, -1, -1, -1, -1)
    got = system.prepare(cubes).input.transpose(1, 2)[..., :15, :15]
    same = (got == cubes[..., :15, :15]).flatten(1).all(dim=1)
    turned = (got == cubes.flip(-1)[..., :15, :15]).flatten(1).all(dim=1)
    assert (same ^ turned).all() and abs(same.sum() - 200) < 50


def test_a_cube_that_stands_still_keeps_its_order():
    cubes = numbered(60)
    cubes[::4] = cubes[::4, :1] + 0.001 * torch.arange(7).view(1, 7, 1, 1, 1)
    torch.manual_seed(0)
    puzzle = small(still=0.2, untouched=0.0).train().prepare(cubes)
    kept = (puzzle.order == torch.arange(7)).all(dim=1)
    assert kept[0::4].all() and not kept[2::4].any()
    torch.manual_seed(0)
    assert not (small(still=0.0, untouched=0.0).train().prepare(cubes).order[0::4]
                == torch.arange(7)).all(dim=1).any()  # fmt: skip


def test_scoring_shuffles_nothing_and_draws_nothing():
    system, cubes = small().eval(), torch.rand(3, 7, 1, 16, 16)
    state = torch.get_rng_state()
    puzzle = system.prepare(cubes)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(puzzle.input[..., :15, :15], cubes.transpose(1, 2)[..., :15, :15])
    assert (puzzle.input[..., 15, :] == 0).all()  # the rim is black here as well
    assert torch.equal(puzzle.order, torch.arange(7).expand(3, 7))
    assert torch.equal(puzzle.places, torch.arange(9).expand(3, 9)) and (puzzle.keep == 1).all()


def test_dropout_is_drawn_in_prepare_and_keeps_the_mean():
    system = small(width=16).train()
    assert (
        system.dropout == 0.3 and (small(dropout=0.0).train().prepare(DATA / 255).keep == 1).all()
    )
    torch.manual_seed(0)
    puzzle = system.prepare(torch.rand(40, 7, 1, 16, 16))
    assert puzzle.keep.shape == (40, 32, 1, 1)
    assert sorted(set(puzzle.keep.flatten().tolist())) == pytest.approx([0, 1 / 0.7])
    assert abs(puzzle.keep.mean() - 1) < 5 * math.sqrt(0.3 / 0.7 / 1280)
    with torch.no_grad():
        once, again = system.loss(puzzle), system.loss(puzzle)
        other = system.loss(puzzle._replace(keep=torch.ones(1)))
    assert once == again and once != other


@pytest.mark.parametrize("shape", [(2, 5, 1, 16, 16), (2, 7, 3, 16, 16), (2, 7, 1, 32, 32)])
def test_cubes_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="was built for.*Cut cubes"):
        small().eval().prepare(torch.rand(shape))


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="size is 40.*multiple of 16"):
        Jigsaw(size=40)
    with pytest.raises(ValueError, match="needs two"):
        small().train().prepare(torch.rand(1, 7, 1, 16, 16))
    assert small().eval().prepare(torch.rand(1, 7, 1, 16, 16)).input.shape == (1, 1, 7, 16, 16)


# --- loss and score --------------------------------------------------------------------------


class Answer(nn.Module):
    """A network that always answers the same."""

    def __init__(self, temporal: torch.Tensor, spatial: torch.Tensor):
        super().__init__()
        self.answer = temporal, spatial

    def forward(self, x, keep):
        return self.answer


def test_puzzle_loss_by_hand():
    p = torch.tensor([[[0.7, 0.3], [0.4, 0.6]], [[0.9, 0.1], [0.2, 0.8]]])
    target = torch.tensor([[0, 1], [1, 0]])
    by_hand = -(math.log(0.7) + math.log(0.6) + math.log(0.1) + math.log(0.2)) / 4
    assert puzzle_loss(p.log(), target).item() == pytest.approx(by_hand, rel=1e-6)


def test_the_loss_asks_even_items_for_time_and_odd_ones_for_space():
    torch.manual_seed(0)
    temporal, spatial = torch.randn(4, 7, 7), torch.randn(4, 9, 9)
    order, places = permutations(4, 7), permutations(4, 9)
    system = small()
    system.network = Answer(temporal, spatial)
    expected = 0.0
    for logits, target, items in ((temporal, order, (0, 2)), (spatial, places, (1, 3))):
        n = logits.shape[1]
        for b, k in product(items, range(n)):
            odds = np.exp(logits[b, k].double().numpy())
            expected -= np.log(odds[target[b, k]] / odds.sum()) / (2 * n)
    got = system.loss(Puzzle(torch.zeros(4), order, places, torch.ones(1)))
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_score_by_hand():
    temporal = torch.tensor([[[0.7, 0.3], [0.4, 0.6]], [[0.9, 0.1], [0.2, 0.8]]]).log()
    spatial = (
        torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.05, 0.95], [0.5, 0.5]]]).clamp(1e-30).log()
    )
    system = small()
    system.network = Answer(temporal, spatial)
    parts = system.score(Puzzle(torch.zeros(2), *[torch.zeros(2)] * 3))
    assert parts["S_temporal"].tolist() == pytest.approx([0.4, 0.2], abs=1e-6)
    assert parts["S_spatial"].tolist() == pytest.approx([0.0, 0.95], abs=1e-6)
    assert parts["S_o"].tolist() == pytest.approx([0.2, 0.575], abs=1e-6)


def test_doubt_does_not_round_to_zero_where_the_network_is_sure():
    sure = torch.tensor([20.0, 25.0, 30.0]).view(3, 1, 1) * torch.eye(4)
    by_hand = [3 / (math.exp(x) + 3) for x in (20, 25, 30)]
    assert doubt(sure).tolist() == pytest.approx(by_hand, rel=1e-3)


def test_it_can_learn_a_few_puzzles_and_then_doubts_less():
    torch.manual_seed(0)
    system = small(width=8, untouched=0.0, still=0.0).train()
    puzzle = system.prepare(torch.rand(4, 7, 1, 16, 16))
    puzzle = puzzle._replace(order=puzzle.order[:1].expand(4, 7), keep=torch.ones(1))
    optimiser = torch.optim.Adam(system.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = system.loss(puzzle)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        temporal, spatial = system.network(puzzle.input)
    assert loss < 0.5
    assert torch.equal(temporal.argmax(dim=2)[0::2], puzzle.order[0::2])
    assert torch.equal(spatial.argmax(dim=2)[1::2], puzzle.places[1::2])


# --- boosting --------------------------------------------------------------------------------


def boosted(seed: int = 0) -> Boosted:
    teacher = small(99).network
    torch.manual_seed(seed)
    return Boosted(small(seed), teacher, at="trunk", attention=SpatioChannelAttention(8, 2))


def test_a_boosted_trunk_mimics_and_keeps_the_scores_of_the_puzzles():
    system = boosted().train()
    puzzle = system.prepare(DATA.float() / 255)
    own = system.detector
    total = system.loss(puzzle).item()
    with torch.no_grad():
        fea_t = system.teacher.trunk(puzzle.input)
        own.network.trunk._forward_hooks.clear()
        fea_s = own.network.trunk(puzzle.input)
        refined = fea_s * system.attention[0]((fea_t - fea_s).abs())
        code = (own.network.neck(refined) * puzzle.keep).flatten(1)
        temporal, spatial = own.network.temporal(code), own.network.spatial(code)
    by_hand = (
        puzzle_loss(temporal[0::2], puzzle.order[0::2])
        + puzzle_loss(spatial[1::2], puzzle.places[1::2])
        + (fea_t - fea_s).square().mean()
    )
    assert total == pytest.approx(by_hand.item(), rel=1e-4)
    assert {"S_o", "S_temporal", "S_spatial", "S_fea"} <= set(collect(boosted(), DATA))


def test_the_gradient_reaches_both_heads_the_trunk_and_the_attention():
    system = boosted().train()
    system.loss(system.prepare(DATA.float() / 255)).backward()
    network = system.detector.network
    for part in (network.trunk[0], network.neck, network.temporal, network.spatial,
                 system.attention[0]):  # fmt: skip
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters()
                   if p.dim() > 1)  # fmt: skip


def test_each_head_learns_from_its_own_puzzles_only():
    system = small().train()
    puzzle = system.prepare(DATA.float() / 255)
    temporal, _ = system.network(puzzle.input, puzzle.keep)
    puzzle_loss(temporal[0::2], puzzle.order[0::2]).backward()
    assert system.network.spatial[0].weight.grad is None
    assert system.network.temporal[0].weight.grad.abs().max() > 0


# --- training --------------------------------------------------------------------------------


def weights(system) -> torch.Tensor:
    return torch.cat([v.detach().flatten().double() for v in system.state_dict().values()])


@pytest.mark.parametrize("make", [small, boosted])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, monkeypatch, make):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    options = dict(steps=5, batch_size=4)
    whole = make(0)
    losses = fit(whole, DATA, **options)
    path = tmp_path / "run.pt"
    with pytest.raises(Killed):
        fit(make(0), Failing(DATA, at=3), **options, checkpoint=path)
    again = make(5)
    assert fit(again, DATA, **options, checkpoint=path) == losses
    assert torch.equal(weights(again), weights(whole))


def test_flat_and_solid_weights_have_a_layout_each():
    system = small()
    before = weights(system)
    training.laid_out(system, torch.device("cpu"))
    assert torch.equal(weights(system), before)
    ranks = {p.dim(): p for p in system.parameters() if min(p.shape) > 1}
    assert ranks[5].is_contiguous(memory_format=torch.channels_last_3d)
    assert ranks[4].is_contiguous(memory_format=torch.channels_last)
    assert not ranks[4].is_contiguous() and not ranks[5].is_contiguous()


# --- the published protocol ------------------------------------------------------------------


class Footage:
    """As much of a clip as the protocol looks at."""

    def __init__(self, frames: int, height: int, width: int):
        self.frames = np.zeros((frames, 1, height, width), np.uint8)

    def __len__(self):
        return len(self.frames)


def test_painted_by_hand():
    clips = [Footage(9, 8, 12), Footage(3, 8, 12)]
    where = np.array([[0, 4], [0, 4], [0, 5], [1, 0]])
    boxes = np.array([[4, 3, 7, 6], [2, 1, 5, 4], [2, 1, 5, 4], [0, 0, 1, 1]])
    got = painted(np.array([0.9, 0.6, 0.3, 1.0]), where, boxes, clips, width=3)
    grid = np.zeros((9, 8, 12))
    grid[4, 1:4, 2:5] = 0.6
    grid[4, 3:6, 4:7] = 0.9  # where the two overlap the higher one shows
    grid[5, 1:4, 2:5] = 0.3
    padded = np.pad(grid, 1)
    by_hand = [
        max(padded[t : t + 3, y : y + 3, x : x + 3].mean() for y in range(8) for x in range(12))
        for t in range(9)
    ]
    assert got[:9] == pytest.approx(by_hand, abs=1e-6)
    assert got[9:] == pytest.approx([1 / 27, 1 / 27, 0], abs=1e-6)


def test_painted_fills_every_cell_a_box_touches_and_keeps_to_its_frame():
    clip, where = [Footage(5, 10, 10)], np.array([[0, 2]])
    alone = painted(np.array([0.5]), where, np.array([[3, 3, 5, 5]]), clip, block=4, width=1)
    assert alone.tolist() == [0, 0, 0.5, 0, 0]
    wide = painted(np.array([0.9]), where, np.array([[3, 3, 5, 5]]), clip, block=4, width=3)
    assert wide == pytest.approx([0, 0.4 / 3, 0.4 / 3, 0.4 / 3, 0], abs=1e-6)  # 4 of 9 cells


def test_a_gaussian_that_is_cut_off():
    scores, videos = np.zeros(101), np.zeros(101)
    scores[50] = 1
    got = gaussian(scores, videos, 20, radius=24)
    by_hand = np.exp(-0.5 * (np.arange(-24, 25) / 20) ** 2)
    assert got[26:75] == pytest.approx(by_hand / by_hand.sum())
    assert (got[:26] == 0).all() and (got[75:] == 0).all()
