"""Reading single image files, with an error that names the file when that fails."""

import re
from pathlib import Path

import cv2
import numpy as np

from fmabs_lite.data.folder import DataError, listing

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
LOSSY = {".jpg", ".jpeg"}
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
NEARLY_ALL = 0.95  # of a picture: a mask that covers as much is taken to be inverted


def image_files(folder: Path) -> list[Path]:
    """The image files in `folder`, sorted by name; see `listing` for what is left out."""
    return [path for path in listing(folder) if is_image(path)]


def is_image(path: Path) -> bool:
    """Whether a file is of a format that is read, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES


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
    image = decoded(path, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    return image if grey else image[..., ::-1]


def decoded(path: Path, flag: int) -> np.ndarray:
    """The pixels of a file as OpenCV decodes them. Errors: see `read_image`."""
    data = path.read_bytes()
    # OpenCV only warns of a JPEG that breaks off, and fills the rest with grey.
    cut_off = data.startswith(JPEG_START) and not jpeg_ends(data)
    image = None
    if data and not cut_off:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        except cv2.error:
            image = None
    if image is None:
        raise DataError(
            f"{path} cannot be read as an image ({len(data)} bytes): it is damaged or was not "
            f"copied in full. Get this file again."
        )
    return image


def jpeg_ends(data: bytes) -> bool:
    """Whether a JPEG's picture comes to its end. Cameras may write more behind that, and a small
    picture with an end of its own before."""
    at = len(JPEG_START)
    while data[at : at + 1] == b"\xff":
        if data[at + 1 : at + 2] == b"\xda":  # here the picture begins
            return JPEG_END in data[at:]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a mask as bool (H, W): anything above zero is a defect, whatever the file's depth.

    Grey levels, class numbers and colours all count, of 1, 8 or 16 bits. Where transparency varies
    and colour does not, the mask is what can be seen at all. A JPEG blurs the edges of a mask, so
    of that only what is above half of its largest value counts.

    Args:
        size: (H, W) of the mask's image.
    Raises:
        DataError: if the file cannot be read, is of another size, or says of a defective picture
            that nothing of it is a defect, or nearly everything, as an inverted mask does.
    """
    levels = decoded(path, cv2.IMREAD_UNCHANGED)
    if levels.ndim == 3 and levels.shape[2] == 4:
        colour, alpha = levels[..., :3], levels[..., 3]
        varied = (colour != colour[:1, :1]).any()
        levels = colour.max(axis=2) * (alpha > 0) if varied or alpha.min() else alpha
    elif levels.ndim == 3:
        levels = levels.max(axis=2)
    mask = levels > (levels.max() / 2 if path.suffix.lower() in LOSSY else 0)
    if mask.shape != tuple(size):
        raise DataError(
            f"{path} is {mask.shape[0]} x {mask.shape[1]} pixels, its image is {size[0]} x "
            f"{size[1]}. A mask must have its image's size: get both from one source."
        )
    share = mask.mean()
    if not mask.any() or share > NEARLY_ALL:
        what = f"covers {share:.0%} of it, as an inverted one does" if share else "is empty"
        raise DataError(
            f"{path} is the mask of a defective picture and {what}. Mark the defect with values "
            "above 0 and everything else with 0, or move the picture to the normal ones."
        )
    return mask


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
