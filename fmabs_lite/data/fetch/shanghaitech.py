"""ShanghaiTech Campus, which you download in a browser (Luo, Liu and Gao, ICCV 2017).

No address is known that a program can fetch: the official page links to OneDrive, for browsers.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fmabs_lite.data.fetch import placing
from fmabs_lite.data.fetch.archive import (
    CHUNK,
    Archive,
    FetchError,
    check,
    disk,
    megabytes,
    need_space,
    record,
    remove_if_empty,
)
from fmabs_lite.data.fetch.source import Videos
from fmabs_lite.data.folder import NAMES
from fmabs_lite.data.shanghaitech import ShanghaiTech, campus_labels

ARCHIVE = Archive(
    "shanghaitech.tar.gz",
    sha256="c13a827043b259ccf8493c9d9130486872992153a9d714fe229e523cd4c94116",
    size=6_500_000_000,
    unpacked=23_000_000_000,
)
PART = re.compile(re.escape(ARCHIVE.name) + r"\.a[a-z]")
BY_HAND = """\
Open https://svip-lab.github.io/dataset/campus_dataset.html in a browser and follow its OneDrive
link. It has served shanghaitech.tar.gz in seven parts, shanghaitech.tar.gz.aa to .ag, about 6.5 GB
together. Put them into one folder (unpack the .zip if OneDrive made one of them) and run again
with --from FOLDER. Not this set: the crowd-counting ShanghaiTech, with part_A and part_B."""


class Campus(Videos):
    key = "shanghaitech"
    title = "ShanghaiTech Campus"
    licence = (
        "ShanghaiTech Campus, ShanghaiTech University: its page has the terms.\n"
        "Cite Luo, Liu and Gao, ICCV 2017, https://doi.org/10.1109/ICCV.2017.45"
    )
    by_hand = BY_HAND
    notes = f"""\
{BY_HAND}

--from takes the folder with the parts or with shanghaitech.tar.gz, that file itself, or a folder
that is unpacked already. --mirror takes the address of shanghaitech.tar.gz, or of the folder it is
in, on a server that you trust. Unpacked the set takes about 23 GB, most of it pixel masks. The
training videos need not be cut into frames.

What could not be verified: nothing was fetched when this was written, not even the page, so its
terms are not known here (anomalib names the BSD 2-Clause licence). The SHA-256 of
shanghaitech.tar.gz is the one that anomalib had for an address which is gone (anomalib issue
1991); since 2026 anomalib, too, asks for a download by hand (pull request 3673). That the parts on
OneDrive make the same file is not known: joined, they are compared with it, the result is printed,
and their own SHA-256 is recorded. A shanghaitech.tar.gz that differs from it is refused; if there
is a new one, unpack it yourself and pass the folder with --from. The counts that are compared at
the end (330 and 107 videos, 40 791 test frames, 17 326 of them abnormal) are those that public
code reports."""
    contents = {ARCHIVE: ("training", "testing")}
    whole = {"training": 330, "testing": 107, "frames": 40_791, "abnormal": 17_326}

    def videos(self, target: Path, size: tuple[int, int]) -> ShanghaiTech:
        return ShanghaiTech(target, size=size)

    def take(self, source: Path, wanted: list[str], target: Path, data: Path, how: str) -> None:
        """Use the parts of the archive, if these are what there is; else as every source."""
        if PART.fullmatch(source.name) and source.is_file():
            source = source.parent  # one part stands for all
        parts = [] if (source / ARCHIVE.name).is_file() else find_parts(source)
        if parts:
            (archive,) = self.contents
            take_parts(archive, parts, wanted, target, data)
        else:
            super().take(source, wanted, target, data, how)

    def locate(self, source: Path, wanted: list[str]) -> Path:
        """The archive, or the folder of the unpacked set, in `source` or below it."""
        if (source / ARCHIVE.name).is_file():
            return source / ARCHIVE.name
        if source.is_dir():
            if not any((source / name).is_dir() for name in wanted):
                source = next(iter(placing.find(source, NAMES[self.key]).values()), source)
            check_layout(source)  # many a folder has one named `training`: take no other
        return source


CAMPUS = Campus()


def find_parts(folder: Path) -> list[Path]:
    """The parts `shanghaitech.tar.gz.aa`, `.ab` ... in `folder`, in order.

    Raises FetchError when one between the first and the last is missing.
    """
    if not folder.is_dir():
        return []
    parts = sorted(path for path in folder.iterdir() if PART.fullmatch(path.name))
    for number, part in enumerate(parts):
        due = f"{ARCHIVE.name}.a{chr(ord('a') + number)}"
        if part.name != due:
            raise FetchError(f"{folder / due} is missing: download this part, too, and run again")
    return parts


def take_parts(
    archive: Archive, parts: list[Path], wanted: list[str], target: Path, data: Path
) -> None:
    """Join the parts, say whether they make the known file, and unpack it."""
    size = sum(part.stat().st_size for part in parts)
    need_space(data, size + archive.unpacked)
    joined, checksums = data / "downloads" / f"joined-{archive.name}", data / "checksums.json"
    joined.parent.mkdir(parents=True, exist_ok=True)
    print(f"joining {len(parts)} parts, {megabytes(size)} ...")
    try:
        with disk(joined), joined.open("wb") as whole:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, whole, CHUNK)
        digest = check(Archive(joined.name), joined, checksums)
        same = digest == archive.sha256
        print(f"their SHA-256 is {'' if same else 'not '}the one that anomalib had")
        placing.take_packed(joined, archive.unpacked, wanted, target, data)
        record(Archive(joined.name), joined, digest, checksums)
    except FetchError as error:
        raise FetchError(
            f"{error}. It was joined from {parts[0].name} to {parts[-1].name} in "
            f"{parts[0].parent}; the official set has had seven parts, up to .ag."
        ) from error
    finally:
        joined.unlink(missing_ok=True)
        remove_if_empty(joined.parent)


def check_layout(folder: Path) -> None:
    """Raise DataError if `folder` does not hold videos and labels as the chapters read them."""
    campus = ShanghaiTech(folder)
    campus.videos("training"), campus.videos("testing"), campus_labels(folder)
