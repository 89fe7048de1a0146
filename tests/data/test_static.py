"""Screens of static: what is normal, what is not, and that no brightness tells them apart."""

import numpy as np
import pytest
import torch

from fmabs_lite.data import DataError
from fmabs_lite.data.static import CONTRAST, PERIOD, SCREEN, Static, open_category, touching


@pytest.fixture(scope="module")
def world() -> Static:
    return Static(train=20, each=20)


def test_training_images_are_normal_and_test_images_of_every_kind(world):
    assert world.train.images.shape == (20, 3, 64, 64) and world.train.images.dtype == torch.uint8
    assert not world.train.masks.any() and set(world.train.defects) == {"good"}
    kinds = ["good", "turned 16", "turned 12", "turned 8"]
    assert world.test.defects == [kind for kind in kinds for _ in range(20)]
    areas = world.test.masks.sum(dim=(1, 2)).view(4, 20)
    assert (areas == torch.tensor([0, 256, 144, 64])[:, None]).all()
    assert world.test.labels.tolist() == [0] * 20 + [1] * 60


def test_a_patch_is_as_bright_and_as_striped_as_what_is_around_it():
    """Mean one half and variance C²/2 on whole periods, inside the patch and outside."""
    test = Static(noise=0.0, patches=(16,), each=10).test
    for image, mask in zip(test.images[10:, 0] / 255, test.masks[10:], strict=True):
        for part in (image[mask], image[~mask]):
            assert part.mean() == pytest.approx(0.5, abs=0.01)
            assert part.var() == pytest.approx(CONTRAST**2 / 2, rel=0.05)


def test_a_patch_runs_the_other_way():
    test = Static(noise=0.0, patches=(16,), each=10).test
    for image, mask in zip(test.images[10:, 0].float(), test.masks[10:], strict=True):
        rows, columns = (torch.nonzero(mask.any(dim=d)).flatten() for d in (1, 0))
        patch = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert torch.allclose(patch[1:, 1:], patch[:-1, :-1], atol=1)  # constant along x − y
        assert not torch.allclose(patch[1:, :-1], patch[:-1, 1:], atol=1)
        assert torch.allclose(patch[PERIOD:], patch[:-PERIOD], atol=1)


def loud(images: torch.Tensor) -> torch.Tensor:
    """Steps to the next pixel that no stripe makes: 2 C sin(π · 2 / 8) at most."""
    grey = images[:, 0] / 255
    steps = (grey[:, 1:, 1:] - grey[:, :-1, :-1]).abs()
    return steps > 2.1 * CONTRAST * np.sin(2 * np.pi / PERIOD)


def test_a_screen_is_loud_and_no_patch_touches_it(world):
    for steps in loud(world.train.images):
        at = torch.nonzero(steps)
        assert len(at) > 50 and (at.amax(dim=0) - at.amin(dim=0) <= SCREEN).all()
    inside = world.test.masks[:, 1:, 1:] & world.test.masks[:, :-1, :-1]
    assert not (loud(world.test.images) & inside).any()


def test_squares_that_share_an_edge_touch():
    at = np.array([10, 10])
    assert touching(at, 5, np.array([15, 10]), 3) and not touching(at, 5, np.array([16, 10]), 3)
    assert touching(at, 5, np.array([7, 7]), 3) and not touching(at, 5, np.array([6, 7]), 3)


def test_the_same_seed_draws_the_same_world_and_another_another():
    one, again, other = (Static(train=3, each=3, seed=s).test.images for s in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_no_room_is_refused():
    with pytest.raises(ValueError, match="Ask for 52 pixels"):
        Static(size=48)
    with pytest.raises(ValueError, match="Ask for 20 pixels"):
        Static(size=16, patches=())
    assert Static(size=52, train=1, each=1).test.images.shape[-1] == 52


def test_a_category_is_a_world_or_one_of_mvtec_ad(tmp_path):
    assert open_category(tmp_path, "static", 64).noise == 0.3
    off = open_category(tmp_path, "stripes", 64)
    assert off.noise == 0 and off.category == "stripes"
    with pytest.raises(DataError, match="screw"):
        open_category(tmp_path, "screw", 64)
