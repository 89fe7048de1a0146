"""What reading pictures costs here and by anomalib's data module."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from rounds import THEIRS, Comparison, sets

from fmabs_lite.data import MVTecAD
from fmabs_lite.data.files import image_files, read_image
from fmabs_lite.data.folder import cache_dir
from fmabs_lite.loading import to_float
from fmabs_lite.training import best_device

try:
    from anomalib.data import MVTecAD as Module
    from torchvision.transforms.v2 import Resize
except ImportError:
    Module = None

CATEGORY, SIZE = "screw", 256


def comparisons(tiny: bool) -> Iterator[Comparison]:
    """All of this file; with `tiny`, at sizes at which only that it runs can be seen."""
    few = 2 if tiny else 16
    with tempfile.TemporaryDirectory() as folder:
        as_published(Path(folder), few, 64 if tiny else 1024)
        before = os.environ.get("FMABS_CACHE")
        os.environ["FMABS_CACHE"] = f"{folder}/cache"  # a cache that may be emptied
        yield reading(Path(folder), few)
        os.environ.pop("FMABS_CACHE")
        os.environ |= {} if before is None else {"FMABS_CACHE": before}


def as_published(root: Path, few: int, side: int) -> None:
    """Some normal pictures of a category in the official layout, grey and enlarged to `side`²."""
    source = sets().mvtec / CATEGORY / "train" / "good"
    rng = np.random.default_rng(0)
    for number, path in enumerate(islice(image_files(source), few)):
        picture = cv2.resize(
            read_image(path, grey=True), (side, side), interpolation=cv2.INTER_CUBIC
        )
        grained = (picture + rng.normal(0, 2, picture.shape)).round().clip(0, 255).astype(np.uint8)
        for place in ("train/good", "test/good", "test/bent"):
            write(root / CATEGORY / place / f"{number:03d}.png", grained)
        mask = np.zeros_like(grained)
        mask[side // 4 : side // 2, side // 4 : side // 2] = 255
        write(root / CATEGORY / "ground_truth/bent" / f"{number:03d}_mask.png", mask)


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


def reading(root: Path, many: int) -> Comparison:
    side = read_image(root / CATEGORY / "train/good/000.png").shape[0]

    def ours() -> object:
        return to_float(MVTecAD(root, CATEGORY, SIZE).train.images, best_device())

    def first() -> object:
        shutil.rmtree(cache_dir() / "frames", ignore_errors=True)
        return ours()

    runs: dict[str, Callable] = {"ours, the first time": first, "ours, from the cache": ours,
                                 "ours, from the cache, again": ours}  # fmt: skip
    if Module is not None:
        module = Module(root, CATEGORY, many, many, 0, augmentations=Resize((SIZE, SIZE)))
        module.prepare_data()
        module.setup()
        runs[THEIRS] = lambda: [batch.image for batch in module.train_dataloader()]
    return Comparison(
        "Reading MVTec AD's pictures",
        f"{many} grey PNG of {side}² in the official layout, as floats of {SIZE}². anomalib's data "
        "module reads them so for every epoch, in this process, with PyTorch's resizing. Our first "
        "time also fills the cache.",
        "picture", many, runs, goals={"ours, the first time": 2, "ours, from the cache": 20},
        why="Most of the time is the unpacking of the PNG, which is the same on both sides.",
    )  # fmt: skip
