"""Checks of the exercises of chapter 03: reconstruction."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("03.1")
def _reconstruction_map(error_map):
    import torch

    images = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    got = error_map(images, torch.zeros(2, 3, 4, 5))
    assert got.shape == (2, 4, 5), f"The map's shape is (2, 4, 5), not {tuple(got.shape)}."
    assert abs(float(got[0, 0, 0]) - 1.25 / 3) < 1e-6, "Square first, then average over channels."


@exercise("03.2")
def _code_numbers(code_numbers):
    assert code_numbers(64, 32, 3) != 32 * 64 * 64 // 8, "Both height and width are halved."
    assert code_numbers(64, 32, 3) == 32 * 8 * 8, "Three halvings of 64 leave 8 × 8 positions."
    assert code_numbers(256, 1024, 4) == 262_144, "Right for 64, wrong for 256 with 4 strides."


@exercise("03.3")
def _shortcut(shortcut):
    import numpy as np

    labels = np.array([0, 0, 1, 1])
    assert abs(shortcut(np.array([4.0, 3.0, 2.0, 1.0]), labels) - 1) < 1e-9, (
        "A score that is always lower for the defective separates as well as one always higher."
    )
    assert abs(shortcut(np.array([1.0, 2.0, 3.0, 4.0]), labels) - 1) < 1e-9, "Higher counts too."
    assert abs(shortcut(np.ones(4), labels) - 0.5) < 1e-9, "Equal values separate nothing: 0.5."


@exercise("03.4")
def _erased(erased):
    import torch

    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    got = erased(images, 2, 3, 4)
    assert torch.equal(images, given), "Your function changed its input; work on a clone."
    inside = got[:, :, 2:6, 3:7]
    assert torch.allclose(inside, images.mean((2, 3), keepdim=True).expand_as(inside)), (
        "Inside the square stands the mean of the whole image, channel by channel."
    )
    got[:, :, 2:6, 3:7] = images[:, :, 2:6, 3:7]
    assert torch.equal(got, images), "Outside the square nothing changes."
