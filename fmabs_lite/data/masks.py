"""Masks: which pixels are anomalous, however a file stores that (chapter 01)."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from fmabs_lite.data.files import JPEG_START, decoded, listed, read_bytes, resize
from fmabs_lite.data.folder import DataError

NEARLY_ALL = 0.95  # of a picture: a mask that covers as much is taken to be inverted
BLURRED = 0.25  # of the largest value: below this, a lossy format's traces around a defect


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read the mask of a defective picture as bool (H, W), by the rule of `read_marks`.

    Args:
        size: (H, W) of the mask's picture.
    Raises:
        DataError: if the file cannot be read, is of another size, or says of a defective picture
            that nothing of it is a defect, or nearly everything, as an inverted mask does.
    """
    mask = read_marks(path)
    if mask.shape != tuple(size):
        raise DataError(
            f"{path} is {mask.shape[0]} x {mask.shape[1]} pixels, its image is {size[0]} x "
            f"{size[1]}. A mask must have its image's size: get both from one source."
        )
    if not mask.any():
        raise DataError(
            f"{path} is the mask of a defective picture and is empty. Mark the defect with values "
            "above 0 and everything else with 0, or move the picture to the normal ones."
        )
    refuse_inverted(mask, str(path))
    return mask


def read_marks(path: Path) -> np.ndarray:
    """Read a mask as bool (H, W): anything above zero is a defect, whatever the file's depth.

    Grey levels, class numbers and colours all count, of 1, 8, 16 or 32 bits. Where transparency
    varies and colour does not, the mask is what can be seen at all; where the colours of a palette
    tell nothing apart, it is what has a number above 0 in it. Lossy formats leave traces around a
    defect, so of these only what is above a quarter of the largest value counts.

    Raises DataError if the file cannot be read, or has a palette of which it is not known what it
    means.
    """
    data = read_bytes(path)
    # Only JPEG turns a mask as it turns its picture, by a note of the camera's; it has no alpha.
    jpeg = data.startswith(JPEG_START)
    flag = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR if jpeg else cv2.IMREAD_UNCHANGED
    levels = one_channel(decoded(path, flag))
    if jpeg or b"VP8 " in data[:64]:
        return levels > BLURRED * levels.max()
    numbers = palette_numbers(path)
    return levels > 0 if numbers is None else palette_marks(levels > 0, numbers, path)


def one_channel(levels: np.ndarray) -> np.ndarray:
    """What is above zero in grey, colours or transparency, (H, W) of (H, W) or (H, W, 3 or 4)."""
    if levels.ndim == 2:
        return levels
    colour = levels[..., :3]
    if levels.shape[2] == 3:
        return colour.max(axis=2)
    alpha = levels[..., 3]
    varied = (colour != colour[:1, :1]).any()
    return colour.max(axis=2) * (alpha > 0) if varied or alpha.min() else alpha


def palette_numbers(path: Path) -> np.ndarray | None:
    """The numbers (H, W) of a palette's colours; None for a file without a palette."""
    try:
        with Image.open(path) as image:
            return np.asarray(image) if image.mode == "P" else None
    except UnidentifiedImageError:  # 16 bits a colour, and other kinds that have no palette
        return None


def palette_marks(coloured: np.ndarray, numbers: np.ndarray, path: Path) -> np.ndarray:
    """What a palette marks, bool (H, W), of what is not black in it and of its colours' numbers.

    Raises DataError where black is not the lowest number: by numbers such a mask says one thing,
    by colours another.
    """
    if coloured.all() or not coloured.any():
        return numbers > 0
    if coloured[numbers == numbers.min()].any():
        raise DataError(
            f"{path} has a palette in which black is not colour 0: it is not known which of the "
            "two is normal. Save it with grey levels, 0 where nothing is wrong."
        )
    return coloured


def refuse_inverted(mask: np.ndarray, what: str) -> None:
    """Raise DataError where a mask, bool (H, W), covers nearly all of its picture."""
    if (share := mask.mean()) > NEARLY_ALL:
        raise DataError(
            f"{what} covers {share:.0%} of its picture, as an inverted mask does. Mark the defect "
            "with values above 0 and everything else with 0."
        )


def seems_inverted(mask: np.ndarray) -> bool:
    """Whether a mask covers most of its picture, with all four corners; one alone proves little."""
    return bool(mask.mean() > 0.5 and mask[[0, 0, -1, -1], [0, -1, 0, -1]].all())


def refuse_inverted_set(count: int, total: int, folder: Path) -> None:
    """Raise DataError where `count` of the `total` masks in `folder` seem inverted: most of all."""
    if 2 * count > total:
        raise DataError(
            f"{count} of the {total} masks in {folder} cover more than half of their pictures, and "
            "all four corners, as inverted ones do. Mark defects with values above 0 and all else "
            "with 0."
        )


def resize_mask(mask: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize a mask (H, W) to a bool array: average over each new pixel's area, then >= 0.5.

    A new pixel is anomalous when at least half of it was. `size` is (H, W), or one number for
    a square. Chapter 01 compares this rule with truncation and > 0. Masks that are not bool yet
    are taken to have two values; `read_marks` and `shrink_masks` know the others.
    """
    size = (size, size) if isinstance(size, int) else size
    binary = (mask > mask.max() / 2).astype(np.float32)
    return resize(binary, size) >= 0.5


def shrink_masks(
    masks: Iterable[np.ndarray], size: tuple[int, int], source: Path
) -> Iterator[np.ndarray]:
    """The masks of a clip's frames, (H, W) each, as bool `size` each: above zero is a defect.

    Raises DataError, naming `source` and the frame, where one covers nearly all of its frame.
    """
    for number, mask in enumerate(masks):
        refuse_inverted(mask > 0, f"{source}: the mask of frame {number}")
        yield resize_mask(mask > 0, size)


def tell_lost(lost: Sequence[str], total: int, size: tuple[int, int]) -> None:
    """One warning that names what had a mask, and has none at `size` = (H, W); `total` had one."""
    if lost:
        warnings.warn(
            f"{len(lost)} of {total} masks are empty at {size[0]} x {size[1]} pixels, their "
            f"defects being too small: {listed(lost)}. These stay anomalous, results by pixel miss "
            "them. A larger size keeps them.",
            stacklevel=2,
        )
