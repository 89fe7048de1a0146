"""UCSD Ped2, from UCSD's own tree or from MNAD's folders of frames (chapter 01).

    <root>/Train/Train001/001.tif             or  <root>/training/frames/01/000.jpg
    <root>/Test/Test001/001.tif               or  <root>/testing/frames/01/000.jpg
    <root>/Test/Test001_gt/001.bmp            or  <root>/testing/masks/01/000.png
    <root>/ped2.mat                               key gt: first and last abnormal frame, from 1

Mahadevan et al., CVPR 2010.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from fmabs_lite.data.clips import Clip, find_clips, frame_masks, load_frames
from fmabs_lite.data.files import each, frame_files, read_mat
from fmabs_lite.data.folder import DataError
from fmabs_lite.data.masks import read_marks


class UCSDPed2:
    """UCSD Ped2, decoded on first use of `.train` or `.test` (both lists of `Clip`).

    `size` is (H, W). Frame labels come from `ped2.mat` where it is there, else from the masks:
    a frame is abnormal when any pixel is. Raises DataError naming the path and the remedy if
    something is missing, a clip has a gap, or labels do not match the frames.
    """

    def __init__(
        self, root: Path | str, size: tuple[int, int] = (128, 192), grey: bool = True
    ) -> None:
        self.root = Path(root)
        self.size = size
        self.grey = grey

    @cached_property
    def train(self) -> list[Clip]:
        """Clips of people walking, to learn from."""
        return [
            Clip(f"{number:02d}", load_frames(path, self.size, self.grey))
            for number, path in self._clips("Train", "training/frames").items()
        ]

    @cached_property
    def test(self) -> list[Clip]:
        """Clips with frame labels, and pixel masks where the data set has them."""
        found = self._clips("Test", "testing/frames")
        intervals = self._intervals(list(found))
        clips = []
        for number, path in found.items():
            frames = load_frames(path, self.size, self.grey)
            masks, labels = self._masks(number, path, len(frames))
            if intervals is not None:
                labels = self._fill(number, intervals[number], len(frames))
            if labels is None:
                raise DataError(
                    f"Clip {path} has no labels: neither {self.root / 'ped2.mat'} nor a folder "
                    f"of masks ({path.name}_gt) is there. Add one of them."
                )
            clips.append(Clip(f"{number:02d}", frames, labels, masks))
        return clips

    def _clips(self, *places: str) -> dict[int, Path]:
        for place in places:
            folder = self.root / place
            if folder.is_dir():
                return find_clips(folder)
        raise DataError(
            f"{self.root} has neither of the folders {' and '.join(places)}. Unpack UCSD Ped2 "
            f"there (in UCSD's archive it is the folder UCSDped2)."
        )

    def _masks(
        self, number: int, clip: Path, count: int
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        for folder in (clip.with_name(f"{clip.name}_gt"), self.root / "testing/masks" / clip.name):
            if folder.is_dir():
                break
        else:
            return None, None
        files = frame_files(folder)
        if len(files) != count:
            raise DataError(
                f"{folder} holds {len(files)} masks for the {count} frames of {clip}. "
                f"Unpack both again."
            )

        return frame_masks(files, self.size, lambda: each(read_marks, files), folder)

    def _intervals(self, numbers: list[int]) -> dict[int, np.ndarray] | None:
        path = self.root / "ped2.mat"
        if not path.is_file():
            return None
        from scipy.io import loadmat

        what = "Ped2's label file (a cell array `gt` with rows first and last frame)"
        cells = np.ravel(read_mat(path, "gt", what, loadmat))
        try:
            intervals = [np.asarray(cell, dtype=int).reshape(2, -1) for cell in cells]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{path} is not {what}. Get it again, or remove it to use the masks."
            ) from error
        if len(intervals) != len(numbers):
            raise DataError(
                f"{path} labels {len(intervals)} clips, but {self.root} has {len(numbers)} test "
                f"clips. Unpack UCSD Ped2 again."
            )
        return dict(zip(numbers, intervals, strict=True))

    def _fill(self, number: int, intervals: np.ndarray, count: int) -> np.ndarray:
        labels = np.zeros(count, np.int8)
        for first, last in intervals.T:
            if not 1 <= first <= last <= count:
                raise DataError(
                    f"{self.root / 'ped2.mat'} calls frames {first} to {last} of clip "
                    f"{number:02d} abnormal, but that clip has {count} frames. A frame is "
                    f"missing, or the labels are of another version: get both again."
                )
            labels[first - 1 : last] = 1
        return labels
