"""Where data sets lie: the reader's folder, or the drawn sets in the cache (chapter 01)."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

NAMES = {
    "mvtec": ("mvtec", "mvtec_ad", "mvtec_anomaly_detection"),
    "avenue": ("avenue", "Avenue Dataset", "Avenue_Dataset"),
    "ped2": ("ucsd_ped2", "ped2", "UCSDped2", "UCSD_Anomaly_Dataset.v1p2/UCSDped2"),
    "shanghaitech": ("shanghaitech", "ShanghaiTech", "shanghai", "shtech"),
    "dtd": ("dtd", "dtd-r1.0.1"),
}


class DataError(ValueError):
    """Data that is missing, damaged or inconsistent; the message names the file and the remedy."""


CLUTTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r", "lost+found",
           "$recycle.bin", "system volume information", "@eadir", "#recycle"}  # fmt: skip


def listing(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what systems and editors leave behind (chapter 01).

    Left out are hidden names (.DS_Store, ._000.png, .ipynb_checkpoints) and those of Windows, of
    disks and their servers, and of archives made on a Mac. Whoever lists files of a data set does
    it by this.
    """
    return sorted(path for path in folder.iterdir() if not is_clutter(path.name))


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is none of a data set's."""
    return name.startswith(".") or name.lower() in CLUTTER


def files_below(folder: Path) -> list[Path]:
    """All files of a data set below its folder, sorted by path; see `listing`."""
    found = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_clutter(name)]
        found += [Path(root, name) for name in names if not is_clutter(name)]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


@cache
def checksum(folder: Path) -> str:
    """SHA-256 over every file of a data set: its relative path, its size and its bytes.

    Files are taken in the order of their paths, so two copies of a data set agree wherever they
    lie; what systems leave behind (.DS_Store, Thumbs.db) is left out.
    """
    total = hashlib.sha256()
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def cache_dir() -> Path:
    """Folder for drawn data and decoded frames: `$FMABS_CACHE`, else `~/.cache/fmabs-lite`."""
    return expanded(os.environ.get("FMABS_CACHE") or "~/.cache/fmabs-lite").absolute()


def expanded(path: Path | str) -> Path:
    """A path with the home folder in the place of `~`.

    Raises DataError where no home folder is known: of a user who is not there, or of one without
    an entry in the system's list of users and without HOME.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(
            f"{path}: no home folder is known to put in the place of its ~. Write the whole path; "
            "for the cache, set FMABS_CACHE to a folder that can be written."
        ) from None


def beside(path: Path) -> Path:
    """A free name beside `path`, to be renamed to it: whoever opens `path` finds it whole or not.

    What is made under it has the permissions that the user's umask gives; those of `tempfile` are
    for this user alone, and a cache may be shared.
    """
    return path.with_name(f".{path.name}-{uuid4().hex}.part")


@contextmanager
def keeping(what: str, path: Path) -> Iterator[None]:
    """Say, with the system's reason, that `what` could not be kept at `path`, and the remedy."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: could not keep {what}. Free some space, or set FMABS_CACHE to a "
            "folder on another disk that you may write to",
            str(path),
        ) from error


class DataFolder:
    """A folder that holds data sets, each under one of the names it is usually unpacked to.

    `root` is the folder; `drawn` says whether its contents were drawn by this package.
    """

    def __init__(self, root: Path | str, drawn: bool = False) -> None:
        self.root = Path(root)
        self.drawn = drawn

    def __repr__(self) -> str:
        return f"DataFolder({str(self.root)!r}, drawn={self.drawn})"

    @property
    def mvtec(self) -> Path:
        """Folder of MVTec AD. Raises DataError if there is none."""
        return self._find("mvtec", "MVTec AD")

    @property
    def avenue(self) -> Path:
        """Folder of CUHK Avenue. Raises DataError if there is none."""
        return self._find("avenue", "CUHK Avenue")

    @property
    def ped2(self) -> Path:
        """Folder of UCSD Ped2. Raises DataError if there is none."""
        return self._find("ped2", "UCSD Ped2")

    @property
    def shanghaitech(self) -> Path:
        """Folder of ShanghaiTech Campus. Raises DataError if there is none."""
        return self._find("shanghaitech", "ShanghaiTech Campus")

    @property
    def dtd(self) -> Path:
        """Folder of the Describable Textures Dataset. Raises DataError if there is none."""
        return self._find("dtd", "DTD, the Describable Textures Dataset,")

    def has(self, key: str) -> bool:
        """Whether the set "mvtec", "avenue", "ped2", "shanghaitech" or "dtd" is here."""
        return any((self.root / name).is_dir() for name in NAMES[key])

    def _find(self, key: str, title: str) -> Path:
        for name in NAMES[key]:
            if (self.root / name).is_dir():
                return self.root / name
        raise DataError(
            f"{title} is not in {self.root}: it has no folder named {_either(NAMES[key])}. "
            f"Put the data set there under one of these names, or leave `data` empty "
            f"to use the drawn sets."
        )


def open_data(data: str = "") -> DataFolder:
    """Open the folder of real data sets named by `data`; empty means the drawn ones.

    The drawn sets are made on first use and kept in the cache. In a notebook a banner says
    which of the two the reader is looking at. Raises DataError if the folder does not exist or
    holds none of the sets.
    """
    from fmabs_lite.data.banner import show_banner  # which knows the sets by this module

    if data:
        folder = DataFolder(expanded(data))
    else:
        folder = DataFolder(_drawn_root(), drawn=True)
    if not folder.root.is_dir():
        raise DataError(
            f"The data folder {folder.root} does not exist. Check the path given as `data`, or "
            f"leave it empty to use the drawn sets."
        )
    if not any(folder.has(key) for key in NAMES):
        names = [names[0] for names in NAMES.values()]
        raise DataError(
            f"The data folder {folder.root} holds none of the sets: it has no folder named "
            f"{_either(names)}. Name the folder above them, or leave `data` empty to use the "
            f"drawn sets."
        )
    show_banner(folder)
    return folder


def _drawn_root() -> Path:
    from fmabs_lite.data.drawn import minis  # drawing needs more than reading does

    root = cache_dir() / f"minis-{minis.edition()}"
    if root.is_dir():
        return root
    unfinished = beside(root)
    try:
        with keeping("the drawn sets", root):
            unfinished.mkdir(parents=True)
        minis.draw_minis(unfinished, progress=True)
        try:
            unfinished.rename(root)
        except OSError:
            if not root.is_dir():  # else another process was faster, and drew the same
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return root


def _either(names) -> str:
    names = [f"'{name}'" for name in names]
    return ", ".join(names[:-1]) + " or " + names[-1]
