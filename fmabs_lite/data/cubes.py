"""Objects followed for a moment: what lies inside a box in consecutive frames (chapter 12)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fmabs_lite.data.clips import Clip
from fmabs_lite.data.files import resize
from fmabs_lite.data.folder import DataError


class Cubes:
    """One cube for each box: the same box cut out of `length` frames, resized (chapter 12).

    `cubes[numbers]` is a uint8 tensor (B, length, C, size, size); `cubes.where` (len, 2) says
    which frame each cube judges: (number of its clip, frame). A box too near to the start or the
    end of its clip for all its frames is left out, so a clip's first frames have no cubes.

    Args:
        boxes: for each clip int (K, 5): frame, x0, y0, x1, y1, as `objects` returns them.
        size: side of the square that every box is resized to; shapes are not kept.
        judged: "last", the frame of the box is the last of the cube; "middle", the middle one.
        every: take the boxes of every n-th frame only.
    Raises:
        ValueError: for an argument that does not fit.
        DataError: when no cube is left, or the clips differ in shape.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        boxes: Sequence[np.ndarray],
        length: int,
        size: int = 32,
        judged: str = "last",
        every: int = 1,
    ) -> None:
        refuse_unfit_cubes(clips, boxes, length, judged)
        self.clips, self.length, self.size = list(clips), length, size
        self.before = length - 1 if judged == "last" else length // 2
        kept = []
        for number, (clip, found) in enumerate(zip(clips, boxes, strict=True)):
            first = found[:, 0] - self.before
            fits = (first >= 0) & (first + length <= len(clip)) & (found[:, 0] % every == 0)
            kept.append(np.insert(found[fits], 0, number, axis=1))
        self.index = np.concatenate(kept)  # clip, frame, x0, y0, x1, y1
        if not len(self.index):
            raise DataError(
                f"There are no cubes of {length} frames: {sum(map(len, boxes))} boxes in "
                f"{len(clips)} clips, the longest of {max(map(len, clips))} frames. Use a smaller "
                "`length`, or a lower threshold when looking for objects."
            )
        self.where = self.index[:, :2]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, numbers: Tensor | Sequence[int] | int) -> Tensor:
        rows = self.index[torch.as_tensor(numbers).reshape(-1).numpy()]
        channels = self.clips[0].frames.shape[1]
        batch = np.empty((len(rows), self.length, channels, self.size, self.size), np.uint8)
        for cube, (clip, judged, x0, y0, x1, y1) in zip(batch, rows, strict=True):
            first = judged - self.before
            cut = self.clips[clip].frames[first : first + self.length, :, y0:y1, x0:x1]
            for small, frame in zip(cube, cut.transpose(0, 2, 3, 1), strict=True):
                pixels = resize(np.ascontiguousarray(frame), (self.size, self.size))
                small[:] = np.atleast_3d(pixels).transpose(2, 0, 1)
        return torch.from_numpy(batch)

    __getitems__ = __getitem__  # the name under which PyTorch asks for many at once


def refuse_unfit_cubes(
    clips: Sequence[Clip], boxes: Sequence[np.ndarray], length: int, judged: str
) -> None:
    """Raise an error that says which clip's boxes do not fit, before anything is cut."""
    if judged not in ("last", "middle"):
        raise ValueError(f"judged is {judged!r}; choose 'last' or 'middle'.")
    if length < 1:
        raise ValueError(f"A cube has at least one frame; length is {length}.")
    if len(boxes) != len(clips):
        raise ValueError(f"There are boxes for {len(boxes)} clips, but {len(clips)} clips.")
    shapes = {clip.frames.shape[1:] for clip in clips}
    if len(shapes) > 1:
        raise DataError(f"The clips' frames differ in shape (C, H, W): {sorted(shapes)}.")
    for clip, found in zip(clips, boxes, strict=True):
        frames, _, height, width = clip.frames.shape
        frame, x0, y0, x1, y1 = np.asarray(found).reshape(-1, 5).T
        inside = (x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= width) & (y1 <= height)
        inside &= (frame >= 0) & (frame < frames)
        if not inside.all():
            raise ValueError(
                f"Clip {clip.name} has {frames} frames of {height}×{width} pixels, and the box "
                f"{found[~inside][0].tolist()} (frame, x0, y0, x1, y1) is empty or outside. Look "
                "for the objects again, in the clip as it was loaded here."
            )
