"""Videos as clips of decoded frames, kept in the cache, and windows over them (chapter 01)."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from fmabs_lite.data.cache import cached
from fmabs_lite.data.files import (
    each,
    frame_files,
    image_files,
    keyed,
    listed,
    number_in,
    read_image,
    resize,
)
from fmabs_lite.data.folder import DataError, listing
from fmabs_lite.data.masks import shrink_masks, tell_lost

Key = TypeVar("Key", int, tuple[int, int])
Masks = Callable[[], Iterable[np.ndarray]]
UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp"}
OTHER_VIDEOS = {".mp4", ".m4v", ".mkv", ".mov", ".mpg", ".mpeg", ".wmv", ".webm", ".flv"}


@dataclass
class Clip:
    """One video.

    frames: uint8 (T, C, H, W), C = 1 grey or 3 red, green, blue; a read-only memory map.
    labels: int8 (T,), 1 = abnormal; None for training clips. masks: bool (T, H, W), True where
    abnormal; None where the data set has none.
    """

    name: str
    frames: np.ndarray
    labels: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)


class Windows:
    """All runs of `length` consecutive frames in `clips`; none crosses from clip to clip.

    `windows[numbers]` is a uint8 tensor (B, length, C, H, W); `windows.index[k]` says where
    window k begins: (number of its clip, first frame). Raises DataError if every clip is
    shorter than `length`, or if the clips' frames differ in shape.
    """

    def __init__(self, clips: Sequence[Clip], length: int) -> None:
        if length < 1:
            raise ValueError(f"A window has at least one frame; length is {length}.")
        shapes = {clip.frames.shape[1:] for clip in clips}
        if len(shapes) > 1:
            raise DataError(f"The clips' frames differ in shape (C, H, W): {sorted(shapes)}.")
        self.clips = list(clips)
        self.length = length
        self.index = [
            (number, first)
            for number, clip in enumerate(self.clips)
            for first in range(len(clip.frames) - length + 1)
        ]
        if not self.index:
            longest = max((len(clip.frames) for clip in clips), default=0)
            raise DataError(
                f"No window of {length} frames fits: there are {len(self.clips)} clips, and the "
                f"longest has {longest} frames. Use a smaller `length`."
            )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, numbers: Tensor | Sequence[int] | int) -> Tensor:
        places = [self.index[k] for k in torch.as_tensor(numbers).reshape(-1).tolist()]
        shape = self.clips[0].frames.shape[1:]
        batch = np.empty((len(places), self.length, *shape), np.uint8)
        for row, (clip, first) in enumerate(places):
            batch[row] = self.clips[clip].frames[first : first + self.length]
        return torch.from_numpy(batch)

    __getitems__ = __getitem__  # the name under which PyTorch asks for many at once


def find_folder(root: Path, places: Sequence[str], what: str, title: str) -> Path:
    """The first of the folders `places` in `root` that is there; it holds `what` of set `title`.

    Raises DataError if there is none.
    """
    for place in places:
        if (root / place).is_dir():
            return root / place
    raise DataError(
        f"{root} has no {what}: looked for the folders {', '.join(places)}. Unpack {title} there."
    )


def find_beside(root: Path, name: str) -> tuple[Path | None, str]:
    """The file `name` of public evaluation code, and the folders where it may lie, for messages."""
    places = [root, root / "labels", root.parent / "labels"]
    found = [place / name for place in places if (place / name).is_file()]
    return (found[0] if found else None), ", ".join(map(str, places))


def find_clips(folder: Path, key: Callable[[str, Path], Key] = number_in) -> dict[Key, Path]:
    """The clips in `folder` by number: .avi files, and folders of numbered images.

    `key(name, path)` gives a clip's number, or numbers, and the clips come in their order. Of a
    video and a folder of the same name the video is taken. Raises DataError if there is no clip,
    if two have one number, and for what is a clip by its name but cannot be read as one.
    """
    clips = [path for path in listing(folder) if is_clip(path)]
    videos = {path.stem for path in clips if not path.is_dir()}
    clips = [path for path in clips if not path.is_dir() or path.name not in videos]
    if not clips:
        raise DataError(
            f"{folder} holds no clips: neither .avi files nor folders of numbered images. "
            f"Unpack the data set again."
        )
    return keyed(clips, lambda path: key(path.name if path.is_dir() else path.stem, path))


def is_clip(path: Path) -> bool:
    """Whether a file or folder among the clips of a set is one of them.

    Raises DataError for a download that was not finished, a video in another format, and a folder
    that is numbered as a clip and holds no frames: left out, they would be missed by nobody.
    """
    suffix = path.suffix.lower()
    if suffix in UNFINISHED:
        raise DataError(
            f"{path} is a download that was not finished. Let it finish, or remove it and "
            f"download the video again."
        )
    if path.name.endswith("_gt"):
        return False  # UCSD puts the masks of Test001 into Test001_gt, among the clips
    if not path.is_dir():
        if suffix in OTHER_VIDEOS:
            raise DataError(
                f"{path} is a video in a format that is not read. Convert it: ffmpeg -i "
                f"{path.name} -c:v mjpeg -q:v 2 {path.stem}.avi"
            )
        return suffix == ".avi"
    frames = image_files(path)
    if not frames and path.name[-1:].isdigit():
        names = [inside.name for inside in listing(path)]
        what = f"only {listed(names)}" if names else "nothing"
        raise DataError(
            f"{path} is a clip by its name and holds no frames that can be read, {what}. Unpack it "
            "again, or move it elsewhere."
        )
    return bool(frames)


def load_frames(source: Path, size: tuple[int, int], grey: bool) -> np.memmap:
    """Frames of a video file, or of a folder of numbered images: uint8 (T, C, H, W).

    Decoded once, then read from the cache. `size` is (H, W). Raises DataError if the video
    breaks off or is damaged, or if a frame is missing or unreadable.
    """
    if source.is_dir():
        files = frame_files(source)
        images = each(lambda path: read_image(path, grey), files)
    else:
        files = [source]
        images = decode_video(source, grey)

    def make() -> Iterator[np.ndarray]:
        for image in images:
            frame = resize(image, size)
            yield frame[None] if grey else frame.transpose(2, 0, 1)

    return cached(files, f"frames {tuple(size)} grey={grey}", make)


def frame_masks(
    sources: Sequence[Path], size: tuple[int, int], read: Masks, source: Path
) -> tuple[np.memmap, np.ndarray]:
    """A clip's masks, bool (T, H, W) at `size` = (H, W), and its marked frames; cached.

    `read()` gives one mask (H, W) a frame, out of the files `sources`. Warns of frames whose
    masks shrinking leaves empty, and raises DataError, naming `source`, for one that is inverted.
    """
    marked = marked_frames(sources, read)
    # The rule is part of the name: masks that another one made are made again.
    masks = cached(sources, f"masks > 0 {tuple(size)}", lambda: shrink_masks(read(), size, source))
    lost = cached(sources, f"lost {tuple(size)}", lambda: (marked == 1) & ~masks.any((1, 2)))
    frames = [f"frame {number} of {source.name}" for number in np.flatnonzero(lost)]
    tell_lost(frames, int(marked.sum()), size)
    return masks, marked


def marked_frames(sources: Sequence[Path], read: Masks) -> np.ndarray:
    """Which frames a clip's masks, as `read()` gives them, mark at all: int8 (T,); cached."""
    return np.array(
        cached(sources, "any > 0", lambda: np.array([(m > 0).any() for m in read()], np.int8))
    )


def decode_video(path: Path, grey: bool) -> Iterator[np.ndarray]:
    """Frames of a video file: uint8 (H, W) if `grey`, else (H, W, 3) red, green, blue.

    Raises DataError, at the end, where fewer could be decoded than the file states.
    """
    _check_length(path)
    colours = cv2.COLOR_BGR2GRAY if grey else cv2.COLOR_BGR2RGB
    video = cv2.VideoCapture(str(path))
    stated = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    try:
        count = 0
        while True:
            more, frame = video.read()
            if not more:
                break
            count += 1
            yield cv2.cvtColor(frame, colours)
    finally:
        video.release()
    if not count:
        raise DataError(
            f"{path} cannot be decoded as a video. Download it again, or give the frames as a "
            f"folder {path.with_suffix('').name}/0000.jpg, 0001.jpg, ..."
        )
    if count < stated:  # OpenCV leaves out what it cannot decode, without a word
        raise DataError(
            f"{path} states {stated} frames and only {count} can be decoded: it is damaged inside. "
            "Download it again."
        )


def _check_length(path: Path) -> None:
    # An .avi states its length; OpenCV plays one that breaks off without a word.
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return
    stated, found = struct.unpack("<I", head[4:])[0] + 8, path.stat().st_size
    if found < stated:
        raise DataError(
            f"{path} breaks off: it has {found} bytes and states {stated}. Download it again."
        )
