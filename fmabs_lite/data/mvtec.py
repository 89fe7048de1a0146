"""MVTec AD in its official layout (chapter 01; Bergmann et al., CVPR 2019).

    <root>/<category>/train/good/000.png
    <root>/<category>/test/<good or defect>/000.png
    <root>/<category>/ground_truth/<defect>/000_mask.png
"""

import difflib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fmabs_lite.data.files import image_files, read_image, read_mask, resize, resize_mask
from fmabs_lite.data.folder import DataError, listing

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


class MVTecAD:
    """One category of MVTec AD, read on first use of `.train` or `.test` (both `Images`).

    Images become `size` x `size` by area average, masks by `resize_mask`. PNG, JPEG and TIFF,
    grey and RGB are read alike. Raises DataError naming the path and the remedy if the category
    is missing, a file is unreadable, or images and masks do not match.
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
        """The sound images to learn from."""
        return self._read([(path, None) for path in self._images("train/good")])

    @cached_property
    def test(self) -> Images:
        """Sound and defective images with their masks."""
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
        masks = {_image_stem(path): path for path in image_files(folder)} if folder.is_dir() else {}
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
        images = torch.empty((len(pairs), 3, self.size, self.size), dtype=torch.uint8)
        masks = torch.zeros((len(pairs), self.size, self.size), dtype=torch.bool)
        for number, (path, mask_path) in enumerate(pairs):
            image = read_image(path)
            small = resize(image, (self.size, self.size)).transpose(2, 0, 1)
            images[number] = torch.from_numpy(np.ascontiguousarray(small))
            if mask_path is not None:
                mask = read_mask(mask_path, image.shape[:2])
                masks[number] = torch.from_numpy(resize_mask(mask, self.size))
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
