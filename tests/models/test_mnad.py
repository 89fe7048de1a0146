"""MNAD: sizes, the memory by hand, its losses and scores against plain formulas, going on."""

import copy

import numpy as np
import pytest
import torch
from failing import Failing, Killed
from torch import nn
from torch.nn import functional as F

import fmabs_lite.training as training
from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models.mnad import (
    Memory,
    Mnad,
    compactness,
    memory_score,
    read,
    separateness,
    updated,
    weighted_error,
)
from fmabs_lite.training import collect, fit

FRAMES = torch.randint(0, 256, (12, 5, 1, 16, 24), generator=torch.Generator().manual_seed(0))
FRAMES = FRAMES.byte()


def small(task: str = "prediction", seed: int = 0, **options) -> Mnad:
    torch.manual_seed(seed)
    return Mnad(task, channels=1, width=4, items=3, **options)


def windows(task: str) -> torch.Tensor:
    return FRAMES if task == "prediction" else FRAMES[:, :1]


def unit(*rows) -> torch.Tensor:
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


# --- the network -----------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "used", "printed"), [
    ("prediction", 15_650_819, 15_651_843), ("reconstruction", 17_195_267, 17_196_291),
])  # fmt: skip
def test_published_numbers_of_parameters(task, used, printed):
    with torch.device("meta"):
        network = Mnad(task).network
        never_run = nn.BatchNorm2d(512)  # declared behind the bottleneck by the released code
        counts = [sum(p.numel() for p in m.parameters()) for m in (network, never_run)]
    assert counts[0] == used and sum(counts) == printed


@pytest.mark.parametrize(("task", "c_in"), [("prediction", 12), ("reconstruction", 3)])
def test_shapes_at_the_published_width(task, c_in):
    network, seen = Mnad(task).network.eval(), {}
    network.bottleneck.register_forward_hook(lambda m, a, out: seen.update(b=out.shape))
    network.recall.register_forward_hook(lambda m, a, out: seen.update(r=a[0].shape))
    with torch.no_grad():
        frame, query = network(torch.zeros(1, c_in, 16, 32))
    assert frame.shape == (1, 3, 16, 32) and query.shape == (2 * 4, 512)
    assert seen == {"b": (1, 512, 2, 4), "r": (1, 1024, 2, 4)}
    assert network.memory.items.shape == (10, 512)


@pytest.mark.parametrize("task", ["prediction", "reconstruction"])
def test_only_the_skips_of_prediction_lead_past_the_bottleneck(task):
    detector = small(task).eval()
    detector.network.bottleneck.register_forward_hook(lambda m, a, out: torch.ones_like(out))
    a, b = (detector.prepare(windows(task)[[k]].float() / 255) for k in (0, 1))
    same = torch.equal(detector.network(a.input)[0], detector.network(b.input)[0])
    assert same == (task == "reconstruction")


def test_the_bottleneck_ends_without_activation_and_the_frame_in_tanh():
    network = small().network
    assert isinstance(network.bottleneck[-1], nn.Conv2d)
    frame, _ = network(100 * torch.randn(1, 4, 16, 24))
    assert frame.abs().max() <= 1


def test_what_is_shown_and_what_is_due():
    batch = FRAMES[:2].float() / 255
    shown, due = small().prepare(batch)
    assert torch.allclose(shown, (2 * batch[:, :4] - 1).flatten(1, 2))
    assert torch.allclose(due, 2 * batch[:, 4] - 1)
    shown, due = small("reconstruction").prepare(batch[:, :1])
    assert torch.equal(shown, due) and torch.allclose(due, 2 * batch[:, 0] - 1)


def test_errors_say_what_was_wrong():
    with pytest.raises(ValueError, match="task is 'guess'.*prediction, reconstruction"):
        Mnad("guess")
    with pytest.raises(ValueError, match="windows of 3 frames.*takes 5.*length of 5"):
        small().prepare(torch.rand(2, 3, 1, 16, 24))
    with pytest.raises(ValueError, match="16×20 pixels.*multiples of 8"):
        small().network(torch.rand(1, 4, 16, 20))


# --- the memory, by hand ---------------------------------------------------------------------

ITEMS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
QUERY = torch.tensor([[0.8, 0.6], [0.6, 0.8], [1.0, 0.0]])  # nearest items: 0, 1, 0


def test_reading_by_hand():
    e = np.exp
    for q, (x, y) in zip(QUERY, read(QUERY, ITEMS), strict=True):
        a, b = q.tolist()
        assert np.allclose([x, y], [e(a) / (e(a) + e(b)), e(b) / (e(a) + e(b))])


def test_writing_by_hand():
    # Item 0 has similarities .8, .6, 1 with the queries; its softmax over them, divided by the
    # largest, is exp(s - 1). Queries 0 and 2 are its own.
    own = np.array([1.0, 0.0]) + np.exp(-0.2) * np.array([0.8, 0.6]) + np.array([1.0, 0.0])
    # Item 1 has .6, .8, 0; only query 1 is its own, with the largest share.
    other = np.array([0.0, 1.0]) + np.array([0.6, 0.8])
    want = [v / np.linalg.norm(v) for v in (own, other)]
    assert np.allclose(updated(QUERY, ITEMS), want, atol=1e-6)


def test_an_item_that_no_query_chose_stays():
    items = unit([1, 0], [0, 1], [-1, 0])
    assert torch.allclose(updated(QUERY, items)[2], items[2])


def test_items_keep_length_one():
    torch.manual_seed(0)
    query, items = F.normalize(torch.randn(50, 6), dim=1), F.normalize(torch.rand(4, 6), dim=1)
    assert torch.allclose(updated(query, items).norm(dim=1), torch.ones(4))


def test_compactness_and_separateness_by_hand():
    near = np.array([(0.2**2 + 0.6**2) / 2, (0.6**2 + 0.2**2) / 2, 0.0])
    assert np.allclose(compactness(QUERY, ITEMS), near)
    # Distances to the nearest and the second nearest item; a loss of near - far + 1.
    root = np.sqrt
    gaps = [root(0.4) - root(0.8) + 1, root(0.4) - root(0.8) + 1, 0 - root(2) + 1]
    assert np.allclose(separateness(QUERY, ITEMS), np.maximum(gaps, 0), atol=1e-5)
    triplet = nn.TripletMarginLoss(1.0, reduction="none")
    assert torch.allclose(
        separateness(QUERY, ITEMS), triplet(QUERY, ITEMS[[0, 1, 0]], ITEMS[[1, 0, 1]])
    )


def test_queries_are_the_places_of_the_feature_and_the_answer_lies_beside_them():
    torch.manual_seed(0)
    memory, feature = Memory(6, 3).eval(), torch.randn(2, 6, 4, 5)
    answer, query = memory(feature)
    assert torch.allclose(query[4 * 5 + 2 * 5 + 3], F.normalize(feature[1, :, 2, 3], dim=0))
    assert torch.allclose(answer[:, :6], F.normalize(feature, dim=1))
    assert torch.allclose(answer[1, 6:, 2, 3], read(query, memory.items)[4 * 5 + 2 * 5 + 3])


def test_training_updates_the_memory_after_it_was_read_and_scoring_does_not():
    torch.manual_seed(0)
    memory, feature = Memory(6, 3), torch.randn(2, 6, 4, 5)
    before = memory.items.clone()
    answer, query = memory.eval()(feature)
    assert torch.equal(memory.items, before)
    again, _ = memory.train()(feature)
    assert torch.equal(again, answer)
    assert torch.allclose(memory.items, updated(query, before)) and not memory.items.requires_grad
    assert not torch.allclose(memory.items, before)


def test_no_gradient_through_the_weights_of_reading():
    torch.manual_seed(0)
    query = F.normalize(torch.randn(5, 6), dim=1).requires_grad_()
    assert not read(query, F.normalize(torch.rand(3, 6), dim=1)).requires_grad


# --- loss and scores -------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "weight"), [("prediction", 0.1), ("reconstruction", 0.01)])
def test_the_loss_is_its_three_terms_with_the_items_before_the_update(task, weight):
    detector = small(task).train()
    prepared = detector.prepare(windows(task)[:3].float() / 255)
    twin = copy.deepcopy(detector)
    items = twin.network.memory.items
    frame, query = twin.network(prepared.input)
    want = (frame - prepared.target).square().mean() + weight * (
        compactness(query, items).mean() + separateness(query, items).mean()
    )
    assert torch.allclose(detector.loss(prepared), want)


def test_scores_by_hand():
    detector = small().eval()
    batch = FRAMES[:3].float() / 255
    frame, query = detector.network(detector.prepare(batch).input)
    parts = detector.score(detector.prepare(batch))
    error = ((frame[:, 0] + 1) / 2 - batch[:, 4, 0]) ** 2
    assert torch.allclose(parts["map_o"], error, atol=1e-6)
    assert torch.allclose(parts["S_o"], error.mean(dim=(1, 2)), atol=1e-6)
    distance = compactness(query, detector.network.memory.items).reshape(3, 2 * 3).mean(dim=1)
    assert torch.allclose(parts["S_memory"], distance)


def test_mnads_own_score_by_hand():
    parts = {"S_o": np.array([1e-1, 1e-3, 1e-2, 1e-2, 1e-4]), "S_memory": np.array([2, 0, 1, 5, 3])}
    score = memory_score(parts, np.array([0, 0, 0, 1, 1]), alpha=0.6)
    # PSNR 10, 30, 20 and 20, 40 dB: the first frame of each video is the worst.
    assert np.allclose(score, [0.6 + 0.4, 0, 0.3 + 0.2, 0.6 + 0.4, 0])


def test_the_weighted_error_by_hand():
    assert torch.isclose(weighted_error(torch.tensor([[[0.25, 0.0]]])), torch.tensor(0.25))
    w = 1 - np.exp([-0.25, -0.5])
    error = weighted_error(torch.tensor([[[0.25, 0.5]]]))
    assert np.isclose(error, (w * [0.25, 0.5]).sum() / w.sum())
    assert weighted_error(torch.zeros(1, 2, 2)) == 0


def test_updates_at_test_time_follow_the_order_of_the_frames():
    detector = small(update_below=1e9).eval()
    start = detector.network.memory.items.clone()
    together = collect(detector, FRAMES, batch_size=12)["S_memory"]
    carried = detector.network.memory.items.clone()
    assert not torch.allclose(carried, start)
    detector.network.memory.items = start
    assert np.allclose(collect(detector, FRAMES, batch_size=5)["S_memory"], together)
    assert torch.allclose(detector.network.memory.items, carried)
    detector.network.memory.items = start
    backwards = collect(detector, FRAMES.flip(0), batch_size=12)["S_memory"][::-1]
    assert not np.allclose(backwards, together)


def test_a_frame_that_is_badly_drawn_is_not_remembered():
    detector = small(update_below=0.0).eval()
    before = detector.network.memory.items.clone()
    parts = collect(detector, FRAMES)
    assert torch.equal(detector.network.memory.items, before)
    plain = collect(small().eval(), FRAMES)
    assert all(np.allclose(parts[k], plain[k], atol=1e-6) for k in plain)


# --- boosted, and trained --------------------------------------------------------------------


def test_boosted_refines_the_query_and_leaves_the_teachers_memory_alone():
    teacher = small(seed=1).network
    kept = teacher.memory.items.clone()
    torch.manual_seed(2)
    boosted = Boosted(small(), teacher, attention=SpatioChannelAttention(32))
    seen = {}
    boosted.network.memory.register_forward_pre_hook(lambda m, a: seen.update(given=a[0]))
    boosted.network.bottleneck.register_forward_hook(lambda m, a, out: seen.update(refined=out))
    loss = boosted.train().loss(boosted.prepare(FRAMES[:2].float() / 255))
    loss.backward()
    assert torch.equal(seen["given"], seen["refined"])
    assert torch.equal(teacher.memory.items, kept)
    assert all(p.grad.abs().sum() > 0 for p in boosted.attention[0].parameters())


def test_a_killed_training_goes_on_bit_for_bit_with_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", -1)
    options = dict(steps=6, batch_size=2, lr=1e-3)
    whole = small()
    fit(whole, FRAMES, **options)
    torn = small()
    with pytest.raises(Killed):
        fit(torn, Failing(FRAMES, at=4), checkpoint=tmp_path / "m.pt", **options)
    again = small(seed=9)
    fit(again, FRAMES, checkpoint=tmp_path / "m.pt", **options)
    want = whole.state_dict()
    assert "network.memory.items" in want
    assert all(torch.equal(value, want[key]) for key, value in again.state_dict().items())


def test_it_learns_and_its_items_move_apart_from_where_they_began():
    still = FRAMES[:1].expand(8, -1, -1, -1, -1)
    detector = small()
    first = detector.network.memory.items.clone()
    losses = fit(detector, still, steps=60, batch_size=4, lr=3e-3)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert (detector.network.memory.items - first).abs().max() > 0.1
