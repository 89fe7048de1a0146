"""What video costs: decoding frames, cutting cubes, and one training step of each system.

    python tests/benchmarks/bench_video.py [rounds]

Decoding: one drawn .avi of Avenue, in grey at 108×192, beside a bare OpenCV loop that does nothing
with its frames; "from the cache" copies every frame of the memory map that the second reading
gets. Cutting: cubes of five frames at 32² around what moves, beside the same cubes from memory.
Step: loss, backward and Adam on small networks (an eighth of the published widths, or 30 where
EfficientNet-Lite0 is imitated; frames of 64×96 for MNAD), fp32, in windows or cubes a second.

All take turns in every round; the ratio is the median of the rounds' ratios to the first row, the
spread that of their quartiles, and the row "again" the noise of this run. Times are those of one
thread on the processor. Nothing here is a pass mark.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from rounds import compare

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.data import Avenue, Cubes, objects, open_data
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
        "PKG-Net, width 30": step_of(pkgnet(30), cubes),
        "PKG-Net, width 30, imitates": step_of(pkgnet(30, prior=prior), cubes),
        "PKG-Net + SCA": step_of(boosted(pkgnet(), pkgnet(), 64), cubes),
        "MNAD": step_of(Mnad(channels=1, width=8), windows),
        "MNAD + SCA": step_of(
            boosted(Mnad(channels=1, width=8), Mnad(channels=1, width=8), 64), windows
        ),
        "Jigsaw": step_of(Jigsaw(width=8, channels=1), puzzles),
    }


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    root = open_data().avenue
    path = sorted((root / "testing_videos").glob("*.avi"))[0]
    frames = bare(path)
    compare(f"decoding, {frames} frames", decoding(path), "OpenCV alone", rounds, frames)
    clips = Avenue(root, SIZE).test
    cubes = Cubes(clips, [objects(clip) for clip in clips], length=5)
    chosen = torch.randint(len(cubes), (256,))
    compare("cutting, 256 cubes", cutting(cubes, chosen), "from memory", rounds, 256)
    compare("training step, 16 windows", steps(16), "PKG-Net", rounds, 16)


if __name__ == "__main__":
    main()
