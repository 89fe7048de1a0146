"""Download the Describable Textures Dataset, from which DRAEM makes anomalies, into DIR/dtd.

    python data_scripts/download_dtd.py --to data
    python data_scripts/download_dtd.py --to data --from ~/Downloads/dtd-r1.0.1.tar.gz

625 MB, all classes in one archive.
"""

from pathlib import Path

from fmabs_lite.data import DTD, DataFolder, fetch
from fmabs_lite.data.fetch import Archive

PAGE = "https://www.robots.ox.ac.uk/~vgg/data/dtd/"
LICENCE = (
    "DTD, Visual Geometry Group, University of Oxford: for research purposes.\n"
    "Cite Cimpoi et al., CVPR 2014, https://doi.org/10.1109/CVPR.2014.461"
)
EPILOG = f"""\
Official page: {PAGE}

What could not be verified: the page prints no checksum. The address is the page's own; the
SHA-256 and the size are those of TensorFlow Datasets, and anomalib prints the same SHA-256.
torchvision gives an MD5 for this address, which is not used here. The file was not fetched when
this script was written. A file that differs from its SHA-256 is refused.

Of the archive only the pictures are kept, not its labels. An interrupted run is continued by the
next one. Files go through DIR/downloads, their checksums stand in DIR/checksums.json.
"""
ARCHIVE = Archive(
    "dtd-r1.0.1.tar.gz",
    (PAGE + "download/dtd-r1.0.1.tar.gz",),
    "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
    625_239_812,
)
WHOLE = (47, 5640)  # classes, pictures


def main(argv: list[str] | None = None) -> int:
    args = fetch.arguments(__doc__, EPILOG).parse_args(argv)
    here = DataFolder(args.to)
    target = here.dtd if here.has("dtd") else args.to / "dtd"
    missing = not any((target / inside).exists() for inside in ("images", "dtd/images"))
    archive = ARCHIVE.behind(args.mirror)
    print(LICENCE)
    if args.dry_run:
        what = f"would be taken from {args.source}" if args.source else "would be downloaded"
        print(f"{what}: {'images' if missing else 'nothing, all is there'}")
        if not args.source:
            fetch.print_plan([archive] if missing else [], target)
        return 0
    if args.source and missing:
        take(args.source, target, args.to, "copy" if args.copy else "link")
    elif missing:
        fetch.get(archive, ["images"], target, args.to)
    return report(target)


def take(source: Path, target: Path, data: Path, how: str) -> None:
    """Use the folder `dtd`, one above it, or the official archive."""
    if source.is_dir():
        source = fetch.find(source, ["dtd"]).get("dtd", source)
        DTD(source)  # many a folder has one named `images`: take none that holds something else
    archive = ARCHIVE if source.name == ARCHIVE.name else Archive(source.name)
    fetch.take(archive, source, ["images"], data, target=target, how=how)


def report(target: Path) -> int:
    """Read every picture as the chapters will, and print what there is.

    Raises DataError for a class without pictures and for a picture that cannot be read.
    """
    print("reading every picture once, small, to see that all of them can be read ...")
    textures = DTD(target, size=32)
    classes, pictures = len(textures.classes), len(textures.images)
    print(f"{classes} of {WHOLE[0]} classes, {pictures} of {WHOLE[1]} pictures")
    if (classes, pictures) != WHOLE:
        print("This is a part of DTD: DRAEM takes its anomalies from all of it.")
    print(f"In {target}. Use it with: make book DATA={target.parent}")
    return 0


if __name__ == "__main__":
    fetch.run(main)
