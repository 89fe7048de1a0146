"""Optical flow as two more channels of a clip."""

import numpy as np
import pytest
import torch

from fmabs_lite.data import Clip, Cubes
from fmabs_lite.data.flow import dis, pixels, to_levels, with_flow


def moving_clip(shift=(2, 1), frames=4, size=48) -> Clip:
    """A smooth pattern that moves to the right and down by so many pixels a frame."""
    rng = np.random.default_rng(0)
    world = rng.integers(0, 256, (2 * size // 4, 2 * size // 4)).astype(np.uint8)
    world = world.repeat(4, axis=0).repeat(4, axis=1)
    cut = [world[size - t * shift[1] :, size - t * shift[0] :][:size, :size] for t in range(frames)]
    return Clip("a", np.stack(cut)[:, None])


def test_flow_points_where_things_go_in_pixels():
    clip = moving_clip((2, 1))
    inner = dis(clip.frames[0], clip.frames[1])[:, 12:-12, 12:-12]
    assert np.median(inner[0]) == pytest.approx(2, abs=0.2)
    assert np.median(inner[1]) == pytest.approx(1, abs=0.2)


def test_bytes_hold_flow_to_half_a_step_and_cut_what_is_larger():
    flow = np.array([0.0, 1 / 32, -3.3, 7.9, 20.0, -20.0])
    back = pixels(torch.from_numpy(to_levels(flow)).double() / 255).numpy()
    assert np.abs(back - flow)[:4].max() <= 1 / 32 + 1e-9
    assert back[4] == pytest.approx(127 / 16) and back[5] == -8


def test_a_clip_keeps_its_frames_and_gets_two_channels():
    clip = moving_clip()
    both = with_flow(clip)
    assert both.frames.shape == (4, 3, 48, 48) and both.frames.dtype == np.uint8
    assert (both.frames[:, :1] == clip.frames).all()
    assert (both.frames[0, 1:] == 128).all()  # frame 0 has no flow
    assert np.median(both.frames[1:, 1, 12:-12, 12:-12]) == pytest.approx(128 + 32, abs=3)


def test_cubes_cut_flow_like_a_picture():
    both = with_flow(moving_clip())
    cube = Cubes([both], [np.array([[3, 8, 8, 40, 40]])], length=3, size=16)[[0]]
    assert cube.shape == (1, 3, 3, 16, 16)
    assert float(pixels(cube[0, 1:, 1].float() / 255).median()) == pytest.approx(2, abs=0.2)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="'farneback'; choose one of dis, raft"):
        with_flow(moving_clip(), how="farneback")
