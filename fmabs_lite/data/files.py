"""Reading single files of a data set, with an error that names the file when that fails."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from fmabs_lite.data.folder import DataError, listing

Item, Got = TypeVar("Item"), TypeVar("Got")
Key = TypeVar("Key", bound=Hashable)
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
OTHER_PICTURES = {".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".pgm", ".ppm", ".pnm", ".exr",
                  ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".psd"}  # fmt: skip
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
NAMED = 5  # files that a message names before it only counts


def image_files(folder: Path) -> list[Path]:
    """The image files in `folder`, sorted by name; see `listing` for what is left out.

    Raises DataError for a picture in a format that is not read: left out, it would be missed by
    nobody. A file that is no picture, such as a licence, is left out.
    """
    files = [path for path in listing(folder) if not path.is_dir()]
    if other := [path for path in files if path.suffix.lower() in OTHER_PICTURES]:
        raise DataError(
            f"{listed(other)}: pictures in this format are not read. Convert them to PNG, or move "
            "them elsewhere."
        )
    return [path for path in files if is_image(path)]


def is_image(path: Path) -> bool:
    """Whether a file is of a format that is read, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def listed(paths: Sequence[Any], most: int = NAMED) -> str:
    """The first of some paths or names, in words."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(map(str, paths[:most])) + more


def keyed(paths: Iterable[Path], key: Callable[[Path], Key]) -> dict[Key, Path]:
    """The paths by what `key` makes of each, such as a number, in its order.

    Raises DataError naming both where it makes the same of two: one of them would be lost.
    """
    found: dict[Key, Path] = {}
    for path in paths:
        other = found.setdefault(key(path), path)
        if other != path:
            raise DataError(
                f"{other} and {path} stand for the same ({key(path)}). Remove the one that does "
                "not belong there, or give it a name of its own."
            )
    return dict(sorted(found.items()))


def each(read: Callable[[Item], Got], items: Iterable[Item]) -> Iterator[Got]:
    """`read(item)` in turn; where some cannot be read, one DataError at the end names them all."""
    faults = []
    for item in items:
        try:
            got = read(item)
        except DataError as error:
            faults.append(str(error))
            continue
        if not faults:  # else nobody will see it
            yield got
    if faults:
        more = [f"... and {len(faults) - NAMED} more files."] if len(faults) > NAMED else []
        raise DataError("\n".join(faults[:NAMED] + more))


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

    Raises DataError if the file cannot be decoded, breaks off early, or has more than 8 bits: by
    which number to divide those is known of the camera, not of one picture.
    """
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    image = decoded(path, flag | cv2.IMREAD_ANYDEPTH, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8:
        raise DataError(
            f"{path} holds values of type {image.dtype} up to {image.max():g}, and pictures are "
            "read with 8 bits, 0 to 255. Divide all pictures of the set by the same number (10 "
            "bits in use: 4, 12 bits: 16, 16 bits: 256; from 0 to 1: 1/255) and save them as uint8."
        )
    return image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # not a view: slow to copy


def decoded(path: Path, *flags: int) -> np.ndarray:
    """The pixels of a file as OpenCV decodes them with the first of `flags` that works.

    Raises DataError if none does, or if the file breaks off early.
    """
    data = read_bytes(path)
    # OpenCV only warns of a JPEG that breaks off, and fills the rest with grey.
    cut_off = data.startswith(JPEG_START) and not jpeg_ends(data)
    for flag in flags if data and not cut_off else ():
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        except cv2.error:
            continue
        if image is not None:
            return image
    raise DataError(
        f"{path} cannot be read as an image ({len(data)} bytes): it is damaged, was not copied in "
        "full, or is of a rare kind. Get this file again, or convert it to PNG."
    )


def read_bytes(path: Path) -> bytes:
    """All of a file. Raises DataError where the system does not give it out."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Check that it is there and yours to read."
        ) from error


def jpeg_ends(data: bytes) -> bool:
    """Whether a JPEG's picture comes to its end. Cameras may write more behind that, and a small
    picture with an end of its own before."""
    at = len(JPEG_START)
    while data[at : at + 1] == b"\xff":
        if data[at + 1 : at + 2] == b"\xda":  # here the picture begins
            return JPEG_END in data[at:]
        if data[at + 1 : at + 2] == b"\xff":  # any number of these may stand before a part
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file, as a read-only memory map. Raises DataError if there is none."""
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        what = "cannot be read as an array" if path.exists() else "is missing"
        raise DataError(f"{path} {what}. Get it again, from where the data set is from.") from error


def read_mat(path: Path, name: str, what: str, load: Callable[[Path], dict]) -> Any:
    """What `load` of scipy.io finds under `name` in a MATLAB file.

    `what` says what file of which set it is, for the message. Raises DataError.
    """
    try:
        return load(path)[name]
    except NotImplementedError as error:  # so SciPy answers to HDF
        raise DataError(
            f"{path} is saved in MATLAB's format 7.3, which is not read. In MATLAB, load it and "
            f"save it again: save('{path.name}', '{name}', '-v7')."
        ) from error
    except Exception as error:  # many kinds for a damaged file
        raise DataError(
            f"{path} is not {what}: it is damaged or of another version. Get it again."
        ) from error


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to `size` = (H, W): area average where it shrinks, bilinear where it grows."""
    if image.shape[:2] == tuple(size):
        return image
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), (size[1], size[0]), interpolation=how)
