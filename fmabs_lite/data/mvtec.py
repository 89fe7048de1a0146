"""MVTec AD in its official layout (chapter 01; Bergmann et al., CVPR 2019).

<root>/<category>/train/good/000.png
<root>/<category>/test/<good or defect>/000.png
<root>/<category>/ground_truth/<defect>/000_mask.png
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fmabs_lite.data.cache import cached
from fmabs_lite.data.files import each, image_files, keyed, read_image, resize
from fmabs_lite.data.folder import DataError, listing
from fmabs_lite.data.masks import (
    read_mask,
    refuse_inverted_set,
    resize_mask,
    seems_inverted,
    tell_lost,
)

__all__ = ["Images", "MVTecAD", "resize_mask"]


@dataclass
class Images:
    """Images of one category, with what is known about each.

    images: uint8 (N, 3, H, W), red, green, blue. masks: bool (N, H, W), True where anomalous, or
    None where nobody knows (see `Photos`); then there are results by image only. labels: int64
    (N,), 1 = anomalous, by the image's folder. defects: 'good' or the name of the defect's folder.
    names: paths relative to the category's folder.
    """

    images: Tensor
    masks: Tensor | None
    labels: Tensor
    defects: list[str]
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)


def read_pairs(
    pairs: Sequence[tuple[Path, Path | None]], size: tuple[int, int], keep: bool = False
) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, H, W) and masks bool (N, H, W), each at `size` = (H, W).

    A pair is an image and its mask, or None where nothing is wrong. With `keep` they are decoded
    once, and then read from the cache. Warns of masks in which shrinking leaves no pixel. Raises
    DataError naming all files that cannot be read, and for masks that seem inverted.
    """
    images = np.empty((len(pairs), 3, *size), np.uint8)
    masks = np.empty((len(pairs), *size), bool)
    files = [path for pair in pairs for path in pair if path is not None]
    rows = decode_pairs(pairs, size)
    if keep:
        rows = cached(
            files, f"pictures with masks {tuple(size)}", lambda: decode_pairs(pairs, size)
        )
    for number, row in enumerate(rows):
        images[number], masks[number] = row[:3], row[3]
    masked = [(k, path) for k, (_, path) in enumerate(pairs) if path is not None]
    # The nearest folder's own name only: a warning may be published with a page.
    lost = [f"{path.parent.name}/{path.name}" for k, path in masked if not masks[k].any()]
    tell_lost(lost, len(masked), size)
    return torch.from_numpy(images), torch.from_numpy(masks)


def decode_pairs(
    pairs: Sequence[tuple[Path, Path | None]], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """For each pair uint8 (4, H, W): red, green, blue, and 1 where its mask marks a defect.

    Raises DataError as `read_pairs`, at the end.
    """

    def read(pair: tuple[Path, Path | None]) -> tuple[np.ndarray, np.ndarray | None]:
        image = read_image(pair[0])
        return image, None if pair[1] is None else read_mask(pair[1], image.shape[:2])

    inverted = 0
    for image, mask in each(read, pairs):
        row = np.zeros((4, *size), np.uint8)
        row[:3] = resize(image, size).transpose(2, 0, 1)
        if mask is not None:
            row[3] = resize_mask(mask, size)
            inverted += seems_inverted(mask)
        yield row
    masked = [path for _, path in pairs if path is not None]
    if masked:
        refuse_inverted_set(inverted, len(masked), masked[0].parents[1])


class MVTecAD:
    """One category of MVTec AD, read on first use of `.train` or `.test` (both `Images`).

    Decoded once, then read from the cache, as long as no file changes in size or time.
    Images become `size` x `size` by area average, masks by `resize_mask`. PNG, JPEG, TIFF, BMP
    and WebP of 8 bits, grey and RGB, are read alike; of a mask, all above zero counts, whatever
    its depth, and one that vanishes by shrinking is told. Raises DataError naming the path and the
    remedy if the category is missing, files are unreadable, or images and masks do not match.
    """

    def __init__(self, root: Path | str, category: str, size: int = 256) -> None:
        self.folder = Path(root) / category
        self.category = category
        self.size = size
        present = self.categories(root)
        if category not in present:
            raise DataError(_missing_category(root, category, present))

    @staticmethod
    def categories(root: Path | str) -> list[str]:
        """Names of the categories that are in `root`: its folders with a folder `train`."""
        if not Path(root).is_dir():
            raise DataError(f"{root} does not exist. Name the folder that holds the categories.")
        return [path.name for path in listing(Path(root)) if (path / "train").is_dir()]

    @cached_property
    def train(self) -> Images:
        """The normal images to learn from."""
        return self._read([(path, None) for path in self._images("train/good")])

    @cached_property
    def test(self) -> Images:
        """Normal and defective images with their masks."""
        folder = self.folder / "test"
        found = listing(folder) if folder.is_dir() else []
        defects = [path.name for path in found if path.is_dir()]
        if not defects:
            raise DataError(f"{folder} is missing or empty. Unpack '{self.category}' again.")
        pairs = []
        for defect in defects:
            images = self._images(f"test/{defect}")
            masks = [None] * len(images) if defect == "good" else self._masks(defect, images)
            pairs += zip(images, masks, strict=True)
        self._check_for_orphans(defects)
        return self._read(pairs)

    def _images(self, inside: str) -> list[Path]:
        folder = self.folder / inside
        files = image_files(folder) if folder.is_dir() else []
        if not files:
            raise DataError(f"{folder} holds no images. Unpack '{self.category}' again.")
        return files

    def _masks(self, defect: str, images: list[Path]) -> list[Path]:
        folder = self.folder / "ground_truth" / defect
        masks = keyed(image_files(folder), _image_stem) if folder.is_dir() else {}
        keyed(images, lambda path: path.stem)  # of two images, whose would the mask be?
        for image in images:
            if image.stem not in masks:
                raise DataError(
                    f"{image} is anomalous by its folder but has no mask: neither "
                    f"{image.stem}_mask.png nor {image.stem}.png is in {folder}. Add the mask."
                )
        for stem in sorted(set(masks) - {image.stem for image in images}):
            raise DataError(
                f"{masks[stem]} is a mask without its image: {stem}.png is not in "
                f"{self.folder / 'test' / defect}. Add the image, or remove the mask."
            )
        return [masks[image.stem] for image in images]

    def _check_for_orphans(self, defects: list[str]) -> None:
        folder = self.folder / "ground_truth"
        known = {*defects, "good"}
        for path in listing(folder) if folder.is_dir() else []:
            if path.is_dir() and path.name not in known:
                raise DataError(
                    f"{path} holds masks without their images: there is no folder "
                    f"{self.folder / 'test' / path.name}. Add the images, or remove the masks."
                )

    def _read(self, pairs: list[tuple[Path, Path | None]]) -> Images:
        images, masks = read_pairs(pairs, (self.size, self.size), keep=True)
        defects = [path.parent.name for path, _ in pairs]
        return Images(
            images=images,
            masks=masks,
            labels=torch.tensor([int(defect != "good") for defect in defects]),
            defects=defects,
            names=[path.relative_to(self.folder).as_posix() for path, _ in pairs],
        )


def _image_stem(mask: Path) -> str:
    return mask.stem.removesuffix("_mask")


def _missing_category(root: Path | str, category: str, present: list[str]) -> str:
    close = difflib.get_close_matches(category.lower(), present, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    here = ", ".join(present) if present else "none"
    return (
        f"There is no category '{category}' in {root} (a folder with train/good in it). "
        f"Categories there: {here}.{hint}"
    )
