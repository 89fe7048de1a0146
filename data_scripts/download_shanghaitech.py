"""Put ShanghaiTech Campus, which you download in a browser, into DIR/shanghaitech and check it.

    python data_scripts/download_shanghaitech.py --to data --from ~/Downloads
    python data_scripts/download_shanghaitech.py --to data --from ~/Downloads/shanghaitech.tar.gz
    python data_scripts/download_shanghaitech.py --to data --mirror http://localhost:8000/

No address is known that a script can fetch: the official page links to OneDrive, for browsers.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

from fmabs_lite.data import DataFolder, ShanghaiTech, fetch
from fmabs_lite.data.fetch import Archive, FetchError
from fmabs_lite.data.folder import NAMES
from fmabs_lite.data.shanghaitech import campus_labels

PAGE = "https://svip-lab.github.io/dataset/campus_dataset.html"
LICENCE = (
    "ShanghaiTech Campus, ShanghaiTech University: its page has the terms.\n"
    "Cite Luo, Liu and Gao, ICCV 2017, https://doi.org/10.1109/ICCV.2017.45"
)
BY_HAND = f"""\
Open {PAGE} in a browser and follow its OneDrive link. It has served
shanghaitech.tar.gz in seven parts, shanghaitech.tar.gz.aa to .ag, about 6.5 GB together. Put them
into one folder (unpack the .zip if OneDrive made one of them) and run again with --from FOLDER.
Not this set: the crowd-counting ShanghaiTech, with part_A and part_B."""
EPILOG = f"""\
{BY_HAND}

--from takes the folder with the parts or with shanghaitech.tar.gz, that file itself, or a folder
that is unpacked already. --mirror takes the address of shanghaitech.tar.gz, or of the folder it is
in, on a server that you trust; an interrupted download is continued by the next run. Unpacked the
set takes about 23 GB, most of it pixel masks. The training videos need not be cut into frames.

What could not be verified: nothing was fetched when this script was written, not even the page,
so its terms are not known here (anomalib names the BSD 2-Clause licence). The SHA-256 of
shanghaitech.tar.gz is the one that anomalib had for an address which is gone (anomalib issue
1991); since 2026 anomalib, too, asks for a download by hand (pull request 3673). That the parts on
OneDrive make the same file is not known: joined, they are compared with it, the result is printed,
and their own SHA-256 is recorded. A shanghaitech.tar.gz that differs from it is refused; if there
is a new one, unpack it yourself and pass the folder with --from. The counts that are compared at
the end (330 and 107 videos, 40 791 test frames, 17 326 of them abnormal) are those that public
code reports.

Files go through DIR/downloads, their checksums stand in DIR/checksums.json.
"""
ARCHIVE = Archive(
    "shanghaitech.tar.gz",
    sha256="c13a827043b259ccf8493c9d9130486872992153a9d714fe229e523cd4c94116",
    size=6_500_000_000,
)
PART = re.compile(re.escape(ARCHIVE.name) + r"\.a[a-z]")
UNPACKED = 23_000_000_000  # bytes, about
CONTENTS = ("training", "testing")
WHOLE = {"training": 330, "testing": 107}  # videos
WHOLE_FRAMES = (40_791, 17_326)  # of the test videos: all, abnormal


def main(argv: list[str] | None = None) -> int:
    args = fetch.arguments(__doc__, EPILOG).parse_args(argv)
    here = DataFolder(args.to)
    target = here.shanghaitech if here.has("shanghaitech") else args.to / "shanghaitech"
    missing = [name for name in CONTENTS if not (target / name).exists()]
    print(LICENCE)
    if args.dry_run:
        plan(args, missing, target)
        return 0
    if missing and args.source:
        take(args.source, missing, target, args.to, "copy" if args.copy else "link")
    elif missing and args.mirror:
        fetch.need_space(args.to, ARCHIVE.size + UNPACKED)
        fetch.get(ARCHIVE.behind(args.mirror), missing, target, args.to)
    elif missing:
        raise FetchError(f"{target} has no {' and no '.join(missing)} videos.\n{BY_HAND}")
    return report(target)


def plan(args, missing: list[str], target: Path) -> None:
    """Say what `main` would do."""
    if not missing:
        print("nothing would be taken, all is there")
    elif args.source:
        print(f"would be taken from {args.source}: {', '.join(missing)}")
    elif args.mirror:
        fetch.print_plan([ARCHIVE.behind(args.mirror)], target)
    else:
        print(f"nothing can be downloaded by this script.\n{BY_HAND}")


def take(source: Path, wanted: list[str], target: Path, data: Path, how: str) -> None:
    """Use the archive, its parts, or a folder of the unpacked set, or one above it."""
    if (source / ARCHIVE.name).is_file():
        source = source / ARCHIVE.name
    elif PART.fullmatch(source.name) and source.is_file():
        source = source.parent  # one part stands for all
    if parts := find_parts(source):
        take_parts(parts, wanted, target, data)
        return
    if source.is_dir():
        if not any((source / name).is_dir() for name in CONTENTS):
            source = next(iter(fetch.find(source, NAMES["shanghaitech"]).values()), source)
        check_layout(source)  # many a folder has one named `training`: take no other
    elif source.is_file():
        fetch.need_space(data, UNPACKED)
    archive = ARCHIVE if source.name == ARCHIVE.name else Archive(source.name)
    fetch.take(archive, source, wanted, data, target=target, how=how)


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


def take_parts(parts: list[Path], wanted: list[str], target: Path, data: Path) -> None:
    """Join the parts, say whether they make the known file, and unpack it."""
    size = sum(part.stat().st_size for part in parts)
    fetch.need_space(data, size + UNPACKED)
    joined = data / "downloads" / f"joined-{ARCHIVE.name}"
    joined.parent.mkdir(parents=True, exist_ok=True)
    print(f"joining {len(parts)} parts, {fetch.megabytes(size)} ...")
    try:
        with joined.open("wb") as whole:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, whole, fetch.CHUNK)
        same = fetch.sha256(joined) == ARCHIVE.sha256
        print(f"their SHA-256 is {'' if same else 'not '}the one that anomalib had")
        fetch.check(Archive(joined.name), joined, data / "checksums.json")
        fetch.take_packed(joined, wanted, target, data)
    except FetchError as error:
        raise FetchError(
            f"{error}. It was joined from {parts[0].name} to {parts[-1].name} in "
            f"{parts[0].parent}; the official set has had seven parts, up to .ag."
        ) from error
    finally:
        joined.unlink(missing_ok=True)
        fetch.remove_if_empty(joined.parent)


def check_layout(folder: Path) -> None:
    """Raise DataError if `folder` does not hold videos and labels as the chapters read them."""
    campus = ShanghaiTech(folder)
    campus.videos("training"), campus.videos("testing"), campus_labels(folder)


def report(target: Path) -> int:
    """Decode every video as the chapters will, and print what there is.

    Raises DataError for a video or a label file that is missing, damaged or of another length.
    """
    print("decoding every video once, small, to see that all can be read; this takes a while ...")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FMABS_CACHE"] = cache  # these small frames are of no later use
        campus = ShanghaiTech(target, size=(18, 32))
        clips = {"training": campus.train, "testing": campus.test}
        for split, found in clips.items():
            frames = sum(len(clip) for clip in found)
            print(f"{split}: {len(found)} of {WHOLE[split]} videos, {frames} frames")
        abnormal = sum(int(clip.labels.sum()) for clip in campus.test)
        masks = sum(clip.masks is not None for clip in campus.test)
        print(f"labels: {abnormal} abnormal test frames; {masks} videos have pixel masks")
    counts = {split: len(found) for split, found in clips.items()}
    if counts != WHOLE or (frames, abnormal) != WHOLE_FRAMES:
        print(
            f"This is not the whole of ShanghaiTech Campus ({WHOLE_FRAMES[0]} test frames, "
            f"{WHOLE_FRAMES[1]} abnormal): results on it are not those of the benchmark."
        )
    print(f"In {target}. Use it with: make book DATA={target.parent}")
    return 0


if __name__ == "__main__":
    fetch.run(main)
