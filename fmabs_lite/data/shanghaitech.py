"""ShanghaiTech Campus, from its videos or from frames (chapter 13).

    <root>/training/videos/01_001.avi             or  <root>/training/frames/01_001/000.jpg
    <root>/testing/frames/01_0014/000.jpg
    <root>/testing/test_frame_mask/01_0014.npy    0 or 1 for each frame
    <root>/testing/test_pixel_mask/01_0014.npy    a mask for each frame; may be left out
    <root>/../labels/frame_labels_shanghai.npy    the labels of all videos in a row; a check

In a name, the scene (which is the camera) comes first, then the video. Luo, Liu and Gao,
ICCV 2017. The crowd-counting set of the same name, with part_A and part_B, is another one.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from fmabs_lite.data.clips import (
    Clip,
    find_beside,
    find_clips,
    find_folder,
    frame_masks,
    load_frames,
)
from fmabs_lite.data.files import keyed, read_array
from fmabs_lite.data.folder import DataError, listing

TITLE = "ShanghaiTech Campus (not the crowd-counting set of that name)"
VIDEO_FOLDERS = {
    "training": ("training/videos", "training/frames", "training"),
    "testing": ("testing/frames", "testing/videos", "testing"),
}
LABEL_FOLDERS = ("testing/test_frame_mask", "test_frame_mask", "frame_masks")
MASK_FOLDERS = ("testing/test_pixel_mask", "test_pixel_mask")
CHECK_FILE = "frame_labels_shanghai.npy"


class ShanghaiTech:
    """ShanghaiTech Campus, decoded on first use of `.train` or `.test` (both lists of `Clip`).

    `size` is (H, W). `scenes` selects cameras by number, e.g. [1, 4] or ["01", "04"]. `every` = k
    keeps the first of every k training videos of each scene, whole: the full set has 330, of
    274 515 frames. Clips are named like "01_0014" and come in the order of scene and number. The
    labels are checked against `frame_labels_shanghai.npy` where that file is there; `Clip.masks`
    is None without pixel masks. Raises DataError naming the path and the remedy if something is
    missing, breaks off, or does not match its labels.
    """

    def __init__(
        self,
        root: Path | str,
        size: tuple[int, int] = (144, 256),
        grey: bool = True,
        scenes: Sequence[int | str] | None = None,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; 1 keeps all training videos, 5 a fifth of them.")
        self.root = Path(root)
        self.size = size
        self.grey = grey
        self.scenes = None if scenes is None else [int(scene) for scene in scenes]
        self.every = every

    @cached_property
    def train(self) -> list[Clip]:
        """Clips of ordinary life, to learn from."""
        videos = self.videos("training")
        kept: list[Path] = []
        for scene in sorted({scene for scene, _ in videos}):
            kept += [path for (of, _), path in videos.items() if of == scene][:: self.every]
        return [Clip(_name(path), load_frames(path, self.size, self.grey)) for path in kept]

    @cached_property
    def test(self) -> list[Clip]:
        """Clips with frame labels, and pixel masks where the data set has them."""
        videos = self.videos("testing").values()
        labels = campus_labels(self.root)
        for path in videos:
            if _name(path) not in labels:
                raise DataError(
                    f"Test video {path} has no labels: {_name(path)}.npy is missing in "
                    f"{_label_folder(self.root)}. Unpack {TITLE} again."
                )
        return [self._test_clip(path, labels[_name(path)]) for path in videos]

    def videos(self, split: str) -> dict[tuple[int, int], Path]:
        """Paths of the chosen scenes' videos, "training" or "testing", by scene and number."""
        folder = find_folder(self.root, VIDEO_FOLDERS[split], f"{split} videos", TITLE)
        videos = find_clips(folder, scene_and_number)
        here = {scene for scene, _ in videos}
        for scene in self.scenes or []:
            if scene not in here:
                present = ", ".join(f"{number:02d}" for number in sorted(here))
                raise DataError(
                    f"Scene {scene:02d}, asked for by `scenes`, has no videos in {folder}. "
                    f"Scenes there: {present}."
                )
        chosen = here if self.scenes is None else self.scenes
        return {place: path for place, path in videos.items() if place[0] in chosen}

    def _test_clip(self, video: Path, labels: np.ndarray) -> Clip:
        frames = load_frames(video, self.size, self.grey)
        if len(frames) != len(labels):
            raise DataError(
                f"{video} holds {len(frames)} frames, but {_name(video)}.npy in "
                f"{_label_folder(self.root)} labels {len(labels)}. The video or its labels are "
                f"incomplete: unpack both again."
            )
        return Clip(_name(video), frames, labels, self._masks(video, len(frames)))

    def _masks(self, video: Path, count: int) -> np.ndarray | None:
        folders = [self.root / place for place in MASK_FOLDERS if (self.root / place).is_dir()]
        if not folders:
            return None
        path = folders[0] / f"{_name(video)}.npy"
        masks = read_array(path)
        if masks.ndim != 3 or len(masks) != count:
            raise DataError(
                f"{path} has the shape {masks.shape}, but should hold {count} masks, one for each "
                f"frame of {video}. Unpack it again, or remove {folders[0]} to do without masks."
            )
        return frame_masks([path], self.size, lambda: masks, path)[0]


def campus_labels(root: Path | str) -> dict[str, np.ndarray]:
    """Frame labels of every test video by name, int8 (T,), also of videos that are not there.

    Raises DataError if they are missing or damaged, or if `frame_labels_shanghai.npy`, where it is
    there, says otherwise.
    """
    root = Path(root)
    folder = _label_folder(root)
    arrays = [path for path in listing(folder) if path.suffix == ".npy"]
    files = keyed(arrays, lambda path: scene_and_number(path.stem, path))
    if not files:
        raise DataError(f"{folder} holds no labels (01_0014.npy ...). Unpack {TITLE} again.")
    labels = {path.stem: _read_labels(path) for path in files.values()}
    check, _ = find_beside(root, CHECK_FILE)
    if check is not None:
        _compare(labels, folder, check)
    return labels


def scene_and_number(name: str, path: Path) -> tuple[int, int]:
    """The two numbers of a video, e.g. (1, 14) in '01_0014'. `path` is for the error message."""
    match = re.fullmatch(r"(\d+)_(\d+)", name)
    if not match:
        raise DataError(
            f"{path}: its name is not a scene and a number, such as 01_0014. Give it the name it "
            f"has in the official data set, or move it elsewhere."
        )
    return int(match.group(1)), int(match.group(2))


def _name(video: Path) -> str:
    return video.name if video.is_dir() else video.stem


def _label_folder(root: Path) -> Path:
    return find_folder(root, LABEL_FOLDERS, "frame labels", TITLE)


def _read_labels(path: Path) -> np.ndarray:
    labels = np.array(read_array(path)).reshape(-1)
    if not labels.size or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"{path} should hold a 0 or a 1 for each frame: it is damaged or of another version. "
            f"Unpack {TITLE} again."
        )
    return labels.astype(np.int8)


def _compare(labels: dict[str, np.ndarray], folder: Path, check: Path) -> None:
    """Raise DataError where the file `check` and the labels in `folder` differ."""
    other, count = _read_labels(check), sum(map(len, labels.values()))
    if len(other) != count:
        raise DataError(
            f"{check} holds {len(other)} labels, but the {len(labels)} files in {folder} hold "
            f"{count}. Both must cover all test videos: get both again, or remove {check.name}."
        )
    for name, own in labels.items():
        mine, other = other[: len(own)], other[len(own) :]
        if (mine != own).any():
            raise DataError(
                f"{check} and {folder / name}.npy disagree, first at frame "
                f"{np.flatnonzero(mine != own)[0]} (from 0). One of them is of another version: "
                f"get both again, or remove {check.name}."
            )
