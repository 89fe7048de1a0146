"""What video costs: decoding frames, cutting cubes, and one training step of each system."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from rounds import Comparison, sets

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.data import Avenue, Cubes, objects
from fmabs_lite.data.clips import decode_video, load_frames
from fmabs_lite.detector import Detector
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models.jigsaw import Jigsaw
from fmabs_lite.models.mnad import Mnad
from fmabs_lite.models.pkgnet import PkgNet
from fmabs_lite.models.prior import imagenet

SIZE = (108, 192)


def bare(path: Path) -> int:
    """Decode all frames and throw them away."""
    video, count = cv2.VideoCapture(str(path)), 0
    while video.read()[0]:
        count += 1
    return count


def decoding(path: Path) -> dict[str, Callable]:
    """What is measured: name → a function without arguments."""
    return {
        "OpenCV alone": lambda: bare(path),
        "again": lambda: bare(path),
        "decode_video, grey": lambda: sum(1 for _ in decode_video(path, grey=True)),
        "decode_video, colour": lambda: sum(1 for _ in decode_video(path, grey=False)),
        "from the cache, resized": lambda: np.array(load_frames(path, SIZE, grey=True)),
    }


def cutting(cubes: Cubes, numbers: torch.Tensor) -> dict[str, Callable]:
    """The same for cubes."""
    held = cubes[range(len(cubes))]
    return {
        "from memory": lambda: held[numbers].clone(),
        "again": lambda: held[numbers].clone(),
        "cut from the frames": lambda: cubes[numbers],
    }


def step_of(detector: Detector, batch: torch.Tensor) -> Callable:
    """Prepare a batch, and one step of Adam."""
    optimiser = torch.optim.Adam(detector.train().parameters(), lr=1e-4)

    def step() -> None:
        loss = detector.loss(detector.prepare(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def steps(count: int) -> dict[str, Callable]:
    """The same for a step on `count` cubes or windows."""
    cubes, puzzles = torch.rand(count, 5, 1, 32, 32), torch.rand(count, 7, 1, 64, 64)
    windows = torch.rand(count, 5, 1, 64, 96)
    prior = imagenet("efficientnet_lite0", None)  # it takes as long with weights

    def pkgnet(width: int = 8, **others) -> PkgNet:
        return PkgNet(width=width, channels=1, **others)

    def boosted(detector: Detector, teacher: Detector, channels: int) -> Boosted:
        return Boosted(detector, teacher.network, attention=SpatioChannelAttention(channels))

    return {
        "PKG-Net": step_of(pkgnet(), cubes),
        "again": step_of(pkgnet(), cubes),
        "PKG-Net, width 18": step_of(pkgnet(18), cubes),
        "PKG-Net, width 18, imitates": step_of(pkgnet(18, prior=prior), cubes),
        "PKG-Net + SCA": step_of(boosted(pkgnet(), pkgnet(), 64), cubes),
        "MNAD": step_of(Mnad(channels=1, width=8), windows),
        "MNAD + SCA": step_of(
            boosted(Mnad(channels=1, width=8), Mnad(channels=1, width=8), 64), windows
        ),
        "Jigsaw": step_of(Jigsaw(width=8, channels=1), puzzles),
    }


def comparisons(tiny: bool) -> Iterator[Comparison]:
    """All of this file; with `tiny`, at sizes at which only that it runs can be seen."""
    cv2.setNumThreads(1)
    root = sets().avenue
    path = sorted((root / "testing_videos").glob("*.avi"))[0]
    frames, side = bare(path), " × ".join(map(str, SIZE))
    yield Comparison(
        "Decoding a video",
        f"One .avi of {frames} frames, beside a bare loop of OpenCV that does nothing with them. "
        f"From the cache each is copied, at {side} pixels and in grey.",
        "frame", frames, decoding(path), against="OpenCV alone", share=1 if frames < 200 else 1 / 3,
    )  # fmt: skip
    clips = Avenue(root, SIZE).test[:1]
    cubes = Cubes(clips, [objects(clip) for clip in clips], length=5)
    many = 4 if tiny else 256
    chosen = torch.randint(len(cubes), (many,))
    yield Comparison(
        "Cutting cubes",
        "Five frames at 32² around what moves, out of the memory map of the frames.",
        "cube", many, cutting(cubes, chosen), against="a second",
        goals={"cut from the frames": 10_000},
    )  # fmt: skip
    many = 2 if tiny else 16
    yield Comparison(
        "A training step of the systems for video",
        f"Loss, backward and Adam in fp32 on {many} cubes or windows: small networks, an eighth of "
        "the published widths, or 18 channels where EfficientNet-Lite0 is imitated; frames of "
        "64 × 96 for MNAD.", "window", many, steps(many), against="PKG-Net", share=1 / 2,
    )  # fmt: skip
