"""The rivals of an attention, its masks, and the places where they are looked at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from fmabs_lite.attention import SpatialAttention
from fmabs_lite.lesson.controls import Gated, Louder, Places, Still, watched
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.training import best_device


def student(kind=Boosted, attention: nn.Module | None = None) -> Boosted:
    torch.manual_seed(0)
    teacher, own = (AutoEncoder(width=4, code=4) for _ in range(2))
    boosted = kind(Reconstruction(own), teacher, attention=attention or SpatialAttention(3))
    return boosted.to(best_device()).eval()


def pictures(count: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 32, 32), generator=draws, dtype=torch.uint8)


def test_each_rival_shows_its_attention_something_else():
    fea_t, fea_s = torch.randn(2, 2, 4, 3, 3)
    fea_i = (fea_t - fea_s).abs()
    assert torch.equal(student(Gated).guide(fea_t, fea_s), fea_s)
    louder = student(Louder).guide(fea_t, fea_s)
    assert torch.allclose(louder.mean(dim=(1, 2, 3)), torch.ones(2), atol=1e-4)
    assert torch.allclose(louder[0] / fea_i[0], (louder[0] / fea_i[0]).mean(), rtol=1e-4)


def test_no_gradient_reaches_the_unit_of_the_louder_one():
    """Through the ruler as well, the gradient of a mean that is always one would be zero."""
    fea_s = torch.zeros(1, 4, 3, 3, requires_grad=True)
    student(Louder).guide(torch.rand(1, 4, 3, 3) + 1, fea_s).mean().backward()
    assert fea_s.grad.abs().min() > 0


def test_watched_gives_every_image_and_leaves_no_hook():
    boosted, images = student(), pictures(40)  # more than one batch
    given, m = watched(boosted, images)
    assert given.shape == (40, 4, 4, 4) and m.shape == (40, 1, 4, 4)
    attention = boosted.attention[0]
    with torch.no_grad():
        assert torch.allclose(attention.cpu()(given), m, atol=1e-6)
    assert not attention._forward_hooks


def test_a_mask_held_still_answers_the_same_for_all():
    m = torch.full((1, 4, 1, 1), 0.25)
    _, seen = watched(student(attention=Still(m)), pictures(2))
    assert torch.equal(seen, m)


@pytest.fixture
def places() -> Places:
    """Two normal images, dark and bright; a defective dark one, whose defect is in one corner."""
    images = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    images[0] = 200
    masks = torch.zeros(3, 16, 16, dtype=torch.bool)
    masks[2, 0, 9] = True  # a single pixel, in the first row's second place
    test = SimpleNamespace(labels=torch.tensor([0, 0, 1]), masks=masks)
    return Places(test, images)


def test_places_of_defects_and_of_the_normal_image_most_like_it(places):
    assert places.defects.nonzero().tolist() == [[2, 0, 1]]
    assert places.partner.tolist() == [1]  # dark as the defective one
    maps = torch.arange(12).view(3, 2, 2)
    assert places.inside(maps).tolist() == [9] and places.same(maps).tolist() == [5]


def test_places_of_a_block_keep_their_channels(places):
    block = torch.arange(24).view(3, 2, 2, 2)
    assert places.inside(block).tolist() == [[17, 21]]
    assert places.same(block).tolist() == [[9, 13]]
