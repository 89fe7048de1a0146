"""Reading single image files, with an error that names the file when that fails."""

import re
from pathlib import Path

import cv2
import numpy as np

from fmabs_lite.data.folder import DataError, listing

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


def image_files(folder: Path) -> list[Path]:
    """The image files in `folder`, sorted by name; see `listing` for what is left out."""
    return [path for path in listing(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def frame_files(folder: Path) -> list[Path]:
    """The frames in `folder` in the order of the numbers that end their names.

    Raises DataError if there is none, if a name has no number, or if a number is missing.
    """
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} holds no image files. Unpack the frames of this clip again.")
    numbered = sorted((number_in(path.stem, path), path) for path in files)
    for (before, _), (number, path) in zip(numbered, numbered[1:], strict=False):
        if number != before + 1:
            what = "appears twice" if number == before else f"is followed by {number}"
            raise DataError(
                f"{folder}: frame {before} {what} ({path.name}); the frames of a clip must be "
                f"numbered without gaps. Unpack this clip again."
            )
    return [path for _, path in numbered]


def number_in(name: str, path: Path) -> int:
    """The number that ends `name`, e.g. 7 in 'Test007'. `path` is for the error message."""
    match = re.search(r"(\d+)$", name)
    if not match:
        raise DataError(
            f"{path}: its name does not end in a number. Give it the name it has in the "
            f"official data set, or move it elsewhere."
        )
    return int(match.group(1))


def read_image(path: Path, grey: bool = False) -> np.ndarray:
    """Read an image as uint8, (H, W) if `grey`, else (H, W, 3) in the order red, green, blue.

    Raises DataError if the file cannot be decoded or breaks off early.
    """
    data = path.read_bytes()
    # OpenCV only warns of a JPEG that breaks off, and fills the rest with grey.
    cut_off = data.startswith(JPEG_START) and JPEG_END not in data[-1024:]
    image = None
    if data and not cut_off:
        flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        except cv2.error:
            image = None
    if image is None:
        raise DataError(
            f"{path} cannot be read as an image ({len(data)} bytes): it is damaged or was not "
            f"copied in full. Get this file again."
        )
    return image if grey else image[..., ::-1]


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to `size` = (H, W): area average where it shrinks, bilinear where it grows."""
    if image.shape[:2] == tuple(size):
        return image
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), (size[1], size[0]), interpolation=how)


def resize_mask(mask: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize a mask (H, W) to a bool array: average over each new pixel's area, then >= 0.5.

    A new pixel is anomalous when at least half of it was. `size` is (H, W), or one number for
    a square. Any value above half of the mask's largest counts as anomalous, so masks of 0 and
    1, of 0 and 255, and those stored as JPEG read the same. Chapter 01 compares this rule with
    truncation and > 0.
    """
    size = (size, size) if isinstance(size, int) else size
    binary = (mask > mask.max() / 2).astype(np.float32)
    return resize(binary, size) >= 0.5
