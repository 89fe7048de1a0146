"""Optical flow: where each pixel of a frame came from, as two more channels (chapter 15)."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from fmabs_lite.data.cache import cached
from fmabs_lite.data.clips import Clip

METHODS = ("dis", "raft")
LEVELS = 16  # of grey for one pixel of motion; ±8 pixels fit into a byte
STILL = 128  # the level of no motion


def with_flow(clip: Clip, how: str = "dis", weights: Path | str | None = None) -> Clip:
    """The clip with its flow as two more channels: uint8 (T, C + 2, H, W); cached (chapter 15).

    The flow of frame t leads from frame t − 1 to t, in pixels to the right and down; frame 0 has
    none. It is kept as bytes, 128 + 16 · pixels, so that `Cubes` cuts it like a picture and `fit`
    is given bytes. `pixels` undoes this.

    Args:
        how: "dis", OpenCV's dense inverse search, which needs no weights; or "raft", torchvision's
            network.
        weights: a file with RAFT's weights, in place of torchvision's download.
    Raises:
        ValueError: for an unknown `how`.
        RuntimeError: when RAFT's weights cannot be had.
    """
    if how not in METHODS:
        raise ValueError(f"how is {how!r}; choose one of {', '.join(METHODS)}.")
    frames = clip.frames
    find = dis if how == "dis" else raft(None if weights is None else str(weights))

    def make() -> Iterator[np.ndarray]:
        flow = np.full((2, *frames.shape[2:]), STILL, np.uint8)
        for t, frame in enumerate(frames):
            if t:
                flow = to_levels(find(frames[t - 1], frame))
            yield np.concatenate([frame, flow])

    source = getattr(frames, "filename", None)
    if source is None:  # frames that were made in memory
        both = np.stack(list(make()))
    else:
        both = cached([Path(source)], f"flow {how} {LEVELS} {weights}", make)
    return Clip(clip.name, both, clip.labels, clip.masks)


def to_levels(flow: np.ndarray) -> np.ndarray:
    """Pixels of motion to bytes; beyond ±8 pixels they are cut."""
    return (STILL + LEVELS * flow).round().clip(0, 255).astype(np.uint8)


def pixels(levels: torch.Tensor) -> torch.Tensor:
    """Bytes, divided by 255, to pixels of motion; exact to half a step, 1/32 of a pixel."""
    return (255 * levels - STILL) / LEVELS


def dis(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Flow (2, H, W) between frames uint8 (C, H, W), by dense inverse search (Kroeger, 2016)."""
    grey = [np.ascontiguousarray(f[0] if len(f) == 1 else f.mean(axis=0).round().astype(np.uint8))
            for f in (before, now)]  # fmt: skip
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(*grey, None).transpose(2, 0, 1)


@lru_cache(maxsize=1)
def raft(weights: str | None = None):
    """torchvision's RAFT as a function of two frames (Teed and Deng, 2020)."""
    from torchvision.models import optical_flow

    if weights is not None:
        network = optical_flow.raft_large(weights=None)
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    else:
        try:
            network = optical_flow.raft_large(weights="DEFAULT")
        except OSError as error:  # no connection: URLError is one
            raise RuntimeError(
                f"RAFT's weights cannot be downloaded ({error}). Give a file with them as "
                "`weights`, or use how='dis', which needs none."
            ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.eval().to(device)

    @torch.no_grad()
    def find(before: np.ndarray, now: np.ndarray) -> np.ndarray:
        pair = [torch.from_numpy(np.array(f)).to(device).float().div(127.5).sub(1).expand(3, -1, -1)
                for f in (before, now)]  # fmt: skip
        height, width = pair[0].shape[1:]
        room = (0, -width % 8, 0, -height % 8)  # RAFT divides both by eight
        padded = [torch.nn.functional.pad(f[None], room, mode="replicate") for f in pair]
        return network(*padded)[-1][0, :, :height, :width].cpu().numpy()

    return find
