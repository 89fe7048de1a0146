"""Your own pictures: folders or lists of files, with masks or without (the last chapter)."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fmabs_lite.data.files import is_image, listed
from fmabs_lite.data.folder import DataError, files_below
from fmabs_lite.data.masks import read_marks
from fmabs_lite.data.mvtec import Images, read_pairs

MASK_ENDINGS = ("_mask", "_label", "_ground_truth", "_gt")
FEWEST = 5  # normal pictures of which some can be held out
Pictures = str | Path | Iterable[str | Path]


class Photo(NamedTuple):
    """Where a picture lies, its mask if it has one, and what is wrong with it, or "good"."""

    path: Path
    mask: Path | None = None
    defect: str = "good"


class Photos:
    """Pictures of your own, as `Images`: `.train`, `.held_out` and `.test`.

    Normal pictures to learn from; others that set a threshold; and a third set of them beside all
    anomalous ones, to be judged. Folders are searched with their subfolders. Files that are no
    pictures are left out, and named in one warning.

    Args:
        normal: a folder, a file, or a list of both.
        anomalous: the same; None where there are none, or where the masks tell. The folder a
            picture lies in names its defect.
        masks: the same. A mask has its picture's name, perhaps with `_mask`, `_label`, `_gt` or
            `_ground_truth` behind it; of several such masks, the one in the most similar folders.
            With masks and without `anomalous`, pictures whose mask shows something are anomalous,
            and those whose mask is empty or missing are normal.
        size: height and width in pixels, or one number for both.
        test: normal pictures to be judged. None takes them of `normal`.
        share: of `normal` is held out, and as many again are judged if `test` is None.
        seed: of this split.
    Raises:
        DataError: naming the files, where pictures are too few, given twice, damaged, or without
            a mask while others have one.
    """

    def __init__(
        self,
        normal: Pictures,
        anomalous: Pictures | None = None,
        masks: Pictures | None = None,
        size: int | tuple[int, int] = 256,
        test: Pictures | None = None,
        share: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.masked = masks is not None
        known, self.skipped = pictures(masks)
        found = []
        for given in (normal, anomalous, test):
            some, no_pictures = pictures(given)
            found.append([path for path in some if path not in set(known)])
            self.skipped += no_pictures
        good, bad, judged = found
        if self.masked and anomalous is None:
            good, bad = by_their_masks(good, known)
        elif self.masked:
            bad = with_masks(bad, known)
        else:
            bad = [Photo(path, None, path.parent.name) for path in bad]
        refuse_twice([*good, *judged, *(photo.path for photo in bad)])
        parts = split(good, share, 1 if judged else 2, seed)
        self._train, self._held_out, judged = parts if len(parts) == 3 else [*parts, judged]
        self._test = [*map(Photo, judged), *bad]
        tell_skipped(self.skipped)
        used = {photo.mask for photo in bad}
        if anomalous is not None:
            tell_skipped([mask for mask in known if mask not in used], "masks of no picture")

    @cached_property
    def train(self) -> Images:
        """The normal pictures to learn from."""
        return self._read(list(map(Photo, self._train)))

    @cached_property
    def held_out(self) -> Images:
        """Normal pictures that were not learnt from: they set a threshold."""
        return self._read(list(map(Photo, self._held_out)))

    @cached_property
    def test(self) -> Images:
        """Other normal pictures, and all anomalous ones. `masks` is None if none were given."""
        return self._read(self._test)

    def _read(self, photos: list[Photo]) -> Images:
        images, masks = read_pairs([(photo.path, photo.mask) for photo in photos], self.size)
        defects = [photo.defect for photo in photos]
        labels = torch.tensor([int(defect != "good") for defect in defects])
        names = [str(photo.path) for photo in photos]
        return Images(images, masks if self.masked else None, labels, defects, names)


def pictures(given: Pictures | None) -> tuple[list[Path], list[Path]]:
    """The pictures in folders and lists of files, sorted within each; and what is none."""
    if given is None:
        return [], []
    found: list[Path] = []
    for one in [given] if isinstance(given, (str, Path)) else given:
        path = Path(one).expanduser()
        if not path.exists():
            raise DataError(f"{path} does not exist. Name a folder with pictures, or a picture.")
        found += files_below(path) if path.is_dir() else [path]
    if not found:
        raise DataError(f"{given} holds no files. Name a folder with pictures, or pictures.")
    return [p for p in found if is_image(p)], [p for p in found if not is_image(p)]


def name_of(mask: Path) -> str:
    """The name, without its ending, of the picture that a mask belongs to."""
    ending = next((end for end in MASK_ENDINGS if mask.stem.lower().endswith(end)), "")
    return mask.stem[: len(mask.stem) - len(ending)]


def matched(paths: Sequence[Path], masks: Sequence[Path]) -> dict[Path, Path]:
    """The mask of each picture that has one, see `Photos`.

    Raises:
        DataError: where two masks fit a picture, or two pictures a mask.
    """
    named = defaultdict(list)
    for mask in masks:
        named[name_of(mask)].append(mask)
    belongs: dict[Path, Path] = {}
    for path in paths:
        near = {mask: shared_folders(path, mask) for mask in named[path.stem]}
        best = [mask for mask, count in near.items() if count == max(near.values())]
        if len(best) > 1:
            raise DataError(f"{path} has two masks, {best[0]} and {best[1]}. Leave one of them.")
        if best:
            belongs[path] = best[0]
    owners: dict[Path, Path] = {}
    for path, mask in belongs.items():
        if owners.setdefault(mask, path) != path:
            raise DataError(
                f"{mask} fits two pictures, {owners[mask]} and {path}. Put masks into folders of "
                "the same names as the pictures' folders."
            )
    return belongs


def shared_folders(one: Path, other: Path) -> int:
    """How many folders, counted from the file upwards, two paths have in common by name."""
    pairs = zip(one.absolute().parts[-2::-1], other.absolute().parts[-2::-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def by_their_masks(paths: list[Path], masks: list[Path]) -> tuple[list[Path], list[Photo]]:
    """Normal pictures, and anomalous ones: those whose mask shows something."""
    belongs = matched(paths, masks)
    shows = {path for path, mask in belongs.items() if read_marks(mask).any()}
    bad = [Photo(path, belongs[path], "anomalous") for path in paths if path in shows]
    return [path for path in paths if path not in shows], bad


def with_masks(paths: list[Path], masks: list[Path]) -> list[Photo]:
    """Anomalous pictures with their masks. Raises DataError if one has none."""
    belongs = matched(paths, masks)
    if bare := [path for path in paths if path not in belongs]:
        raise DataError(
            f"{len(bare)} of {len(paths)} anomalous pictures have no mask: {listed(bare)}. "
            f"A mask is named like its picture, such as {bare[0].stem}_mask.png. Add what is "
            "missing, or give no masks, for results by image only."
        )
    return [Photo(path, belongs[path], path.parent.name) for path in paths]


def refuse_twice(paths: Sequence[Path]) -> None:
    """Raise DataError where one file was given twice: a picture learnt from must not judge."""
    seen: set[Path] = set()
    twice = [path for path in paths if path.resolve() in seen or seen.add(path.resolve())]
    if twice:
        raise DataError(f"Given twice: {listed(twice)}. A picture can be in one part only.")


def split(paths: list[Path], share: float, parts: int, seed: int) -> list[list[Path]]:
    """The pictures to learn from, and `parts` other parts of a share each, drawn with a seed."""
    each = round(share * len(paths))
    if not 0 < share * parts < 1:
        raise ValueError(f"share is {share}; {parts} such parts must leave some to learn from.")
    if len(paths) < FEWEST or each < 1:
        raise DataError(
            f"There are {len(paths)} normal pictures, of which {share:.0%} are {each}. Give at "
            f"least {max(FEWEST, round(1 / share))}: some have to be held out."
        )
    order = [paths[k] for k in np.random.default_rng(seed).permutation(len(paths))]
    cuts = [order[k * each : (k + 1) * each] for k in range(parts)]
    return [sorted(part) for part in (order[parts * each :], *cuts)]


def tell_skipped(paths: list[Path], what: str = "no pictures") -> None:
    """One warning that names the files which were left out, if there are any."""
    if paths:
        warnings.warn(f"{len(paths)} files are {what} and were left out: {listed(paths)}.",
                      stacklevel=3)  # fmt: skip
