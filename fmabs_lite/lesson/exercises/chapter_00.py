"""Checks of the exercises of chapter 00: start here."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("00.1")
def _batch_bytes(batch_bytes):
    assert batch_bytes != 16 * 128 * 128 * 4, "A colour image has three channels."
    assert batch_bytes != 16 * 3 * 128 * 128, "So many numbers; each takes 4 bytes."
    assert batch_bytes == 16 * 3 * 128 * 128 * 4, "Multiply images, channels, height, width, bytes."


@exercise("00.2")
def _error_map(error_map):
    import torch

    images = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    got = error_map(images, torch.zeros(2, 3, 4, 5))
    assert got.shape == (2, 4, 5), f"The map's shape is (2, 4, 5), not {tuple(got.shape)}."
    value = float(got[0, 0, 0])
    assert abs(value - 0.5) > 1e-6, "Square the difference before you average."
    assert abs(value - 1.25) > 1e-6, "Average over the channels; yours is the sum."
    noise = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = (noise[0] - noise[1]).square().mean(1)
    assert torch.allclose(error_map(*noise), expected), "Not the mean of the squared differences."


@exercise("00.3")
def _alarms(alarms):
    import numpy as np

    scores, sound = np.array([0.1, 0.5, 0.50001, 3.0]), np.array([0.2, 0.5, 0.3])
    got = np.asarray(alarms(scores, sound))
    assert got.shape == (4,), "Give one answer for each of `scores`."
    assert got.tolist() != [False, True, True, True], "Larger than the largest; equal is no alarm."
    assert got.tolist() == [False, False, True, True], "Compare with the largest sound score."
    assert not np.any(alarms(sound, sound)), "No sound training image raises an alarm."
