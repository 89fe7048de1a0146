"""CUHK Avenue, from its videos or from frames, with either of its label sets (chapter 01).

    <root>/training_videos/01.avi             or  <root>/training/frames/01/0000.jpg
    <root>/testing_videos/01.avi              or  <root>/testing/frames/01/0000.jpg
    <root>/ground_truth_demo/testing_label_mask/1_label.mat     pixel masks, key volLabel
    <root>/../labels/frame_labels_avenue.npy                    the other label set

Lu, Shi and Jia, ICCV 2013.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from fmabs_lite.data.cache import cached
from fmabs_lite.data.clips import (
    Clip,
    find_beside,
    find_clips,
    find_folder,
    frame_masks,
    load_frames,
    marked_frames,
)
from fmabs_lite.data.files import keyed, number_in, read_array, read_mat
from fmabs_lite.data.folder import DataError, listing

LABEL_SETS = ("masks", "intervals")
MASK_FOLDERS = ("ground_truth_demo/testing_label_mask", "testing_label_mask")
LABEL_FILE = "a label file of Avenue (a cell array `volLabel` with one mask a frame)"
INTERVAL_FILE = "frame_labels_avenue.npy"


class Avenue:
    """CUHK Avenue, decoded on first use of `.train` or `.test` (both lists of `Clip`).

    `size` is (H, W). `labels` chooses the frame labels: "masks", a frame is abnormal when any
    pixel of its official mask is (3 712 of 15 324 frames); or "intervals", the label set that
    future-frame prediction and MNAD use (3 867 frames). `Clip.masks` are the official ones in
    both cases. `only` selects test videos by number, e.g. ["17", "20"]; the training videos are
    all that are there. Raises DataError naming the path and the remedy if something is missing,
    breaks off, or does not match its labels.
    """

    def __init__(
        self,
        root: Path | str,
        size: tuple[int, int] = (144, 256),
        grey: bool = True,
        labels: str = "masks",
        only: Sequence[str] | None = None,
    ) -> None:
        if labels not in LABEL_SETS:
            raise ValueError(f"labels is {labels!r}; choose one of {', '.join(LABEL_SETS)}.")
        self.root = Path(root)
        self.size = size
        self.grey = grey
        self.labels = labels
        self.only = None if only is None else [int(name) for name in only]

    @cached_property
    def train(self) -> list[Clip]:
        """Clips of ordinary life, to learn from."""
        videos = find_clips(self._videos("training"))
        return [
            Clip(f"{number:02d}", load_frames(path, self.size, self.grey))
            for number, path in videos.items()
        ]

    @cached_property
    def test(self) -> list[Clip]:
        """Clips with frame labels and pixel masks."""
        folder = self._videos("testing")
        videos = find_clips(folder)
        for number in self.only or []:
            if number not in videos:
                here = ", ".join(f"{present:02d}" for present in videos)
                raise DataError(
                    f"Video {number:02d}, asked for by `only`, is not in {folder}. "
                    f"Videos there: {here}."
                )
        intervals = _interval_labels(self.root) if self.labels == "intervals" else None
        chosen = self.only or videos
        return [self._test_clip(number, videos[number], intervals) for number in chosen]

    def _test_clip(self, number: int, video: Path, intervals: dict | None) -> Clip:
        path = _mask_file(self.root, number)
        masks, marked = frame_masks([path], self.size, lambda: read_masks(path), path)
        frames = load_frames(video, self.size, self.grey)
        if len(frames) != len(masks):
            raise DataError(
                f"{video} decodes to {len(frames)} frames, but {path} labels {len(masks)}. The "
                f"video or its labels are incomplete: get both again."
            )
        labels = marked if intervals is None else intervals[number]
        return Clip(f"{number:02d}", frames, labels, masks)

    def _videos(self, split: str) -> Path:
        places = (f"{split}_videos", f"{split}/frames", split)
        return find_folder(self.root, places, f"{split} videos", "CUHK Avenue")


def frame_labels(root: Path | str, labels: str = "masks") -> dict[str, np.ndarray]:
    """Frame labels of every test video by name, int8 (T,), also of videos that are not there.

    `labels` is "masks" or "intervals", as for `Avenue`, with the same errors.
    """
    root = Path(root)
    if labels == "intervals":
        found = _interval_labels(root)
    else:
        found = {number: _mask_labels(path) for number, path in _mask_files(root).items()}
    return {f"{number:02d}": values for number, values in found.items()}


def _mask_files(root: Path) -> dict[int, Path]:
    for place in MASK_FOLDERS:
        folder = root / place
        there = listing(folder) if folder.is_dir() else []
        files = [path for path in there if path.name.endswith("_label.mat")]
        if files:
            return keyed(files, lambda path: number_in(path.stem.removesuffix("_label"), path))
    raise DataError(
        f"{root} has no labels: {MASK_FOLDERS[0]}/1_label.mat, ... are missing. They come in an "
        f"archive of their own (ground_truth_demo.zip); unpack that here."
    )


def _mask_file(root: Path, number: int) -> Path:
    files = _mask_files(root)
    if number not in files:
        folder = next(iter(files.values())).parent
        raise DataError(
            f"Test video {number:02d} has no labels: {folder / f'{number}_label.mat'} is missing. "
            f"Unpack ground_truth_demo.zip again."
        )
    return files[number]


def _mask_labels(path: Path) -> np.ndarray:
    return marked_frames([path], lambda: read_masks(path))


def _interval_labels(root: Path) -> dict[int, np.ndarray]:
    path = _interval_file(root)
    labels = np.array(read_array(path)).reshape(-1)
    files = _mask_files(root)
    paths = list(files.values())
    lengths = cached(paths, "lengths", lambda: np.array([mask_count(path) for path in paths]))
    if len(labels) != lengths.sum() or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"{path} holds {len(labels)} values, but the {len(files)} files in {paths[0].parent} "
            f"cover {lengths.sum()} frames, each 0 or 1. Both must cover all test videos, also "
            f"those that are not there: get both again."
        )
    parts = np.split(labels.astype(np.int8), np.cumsum(lengths)[:-1])
    return dict(zip(files, parts, strict=True))


def _interval_file(root: Path) -> Path:
    path, looked = find_beside(root, INTERVAL_FILE)
    if path is not None:
        return path
    raise DataError(
        f"labels='intervals' needs {INTERVAL_FILE}, which is in none of {looked}. It comes with "
        f"the code of MNAD; put it there, or use labels='masks'."
    )


def read_masks(path: Path) -> list[np.ndarray]:
    """The official pixel masks of one test video, one uint8 (360, 640) array a frame."""
    from scipy.io import loadmat
    from scipy.sparse import issparse

    cells = read_mat(path, "volLabel", LABEL_FILE, loadmat)
    masks = [mask.toarray() if issparse(mask) else mask for mask in np.ravel(cells)]
    if not masks or any(np.ndim(mask) != 2 for mask in masks):
        raise _not_a_mask_file(path)
    return masks


def mask_count(path: Path) -> int:
    """How many frames the mask file of one test video covers, without reading the masks."""
    from scipy.io import whosmat

    def shapes(path: Path) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, shape, _ in whosmat(path)}

    return int(np.prod(read_mat(path, "volLabel", LABEL_FILE, shapes)))


def _not_a_mask_file(path: Path) -> DataError:
    return DataError(
        f"{path} is not {LABEL_FILE}: it is damaged or of another version. Get it again."
    )
