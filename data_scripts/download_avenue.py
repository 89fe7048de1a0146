"""Download CUHK Avenue, the videos and the official pixel labels, into DIR/avenue.

    python data_scripts/download_avenue.py --to data
    python data_scripts/download_avenue.py --to data --from "~/Downloads/Avenue Dataset"
"""

import os
import tempfile
from pathlib import Path

from fmabs_lite.data import Avenue, DataFolder, fetch
from fmabs_lite.data.fetch import Archive

PAGE = "https://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal/dataset.html"
LICENCE = (
    "CUHK Avenue, The Chinese University of Hong Kong: for research only.\n"
    "Cite Lu, Shi and Jia, ICCV 2013, https://doi.org/10.1109/ICCV.2013.338"
)
EPILOG = f"""\
Official page: {PAGE}

What could not be verified: the page prints no checksums. The addresses are the page's own; the
SHA-256 values are those of anomalib, and other public code found the same. The files were not
fetched when this script was written. A file that differs from its SHA-256 is refused.

The second label set in use (3 867 abnormal frames; the official masks have 3 712) is not the
publisher's: it comes with the code of MNAD. As DIR/labels/frame_labels_avenue.npy it is found.

--from takes a folder, or one of the two archives at a time. An interrupted run is continued by
the next one. Files go through DIR/downloads, their checksums stand in DIR/checksums.json.
"""
SERVER = "www.cse.cuhk.edu.hk"
SITES = tuple(
    f"{scheme}{home}/projects/detectabnormal"
    for scheme in (f"https://{SERVER}", f"http://{SERVER}")
    for home in ("/~leojia", "/leojia")
)
VIDEOS = Archive(
    "Avenue_Dataset.zip",
    tuple(f"{site}/Avenue_Dataset.zip" for site in SITES),
    "fc9cb8432a11ca79c18aa180c72524011411b69d3b0ff27c8816e41c0de61531",
    813_227_845,
)
LABELS = Archive(
    "ground_truth_demo.zip",
    tuple(f"{site}/ground_truth_demo.zip" for site in SITES),
    "60fec1728ec8f73a58aad3aeb5729d70a805a47e0b8eb4bf91ab67ef06386d77",
    931_269,
)
CONTENTS = {VIDEOS: ("training_videos", "testing_videos"), LABELS: ("ground_truth_demo",)}
WHOLE = {"training": 16, "testing": 21}  # videos


def main(argv: list[str] | None = None) -> int:
    args = fetch.arguments(__doc__, EPILOG).parse_args(argv)
    here = DataFolder(args.to)
    target = here.avenue if here.has("avenue") else args.to / "avenue"
    missing = {
        archive: [name for name in names if not (target / name).exists()]
        for archive, names in CONTENTS.items()
    }
    wanted = [name for names in missing.values() for name in names]
    archives = [archive for archive, names in missing.items() if names]
    print(LICENCE)
    if args.dry_run:
        what = f"would be taken from {args.source}" if args.source else "would be downloaded"
        print(f"{what}: {', '.join(wanted) or 'nothing, all is there'}")
        if not args.source:
            fetch.print_plan([archive.behind(args.mirror) for archive in archives], target)
        return 0
    if args.source and wanted:
        known = {archive.name: archive for archive in archives}
        archive = known.get(args.source.name, Archive(args.source.name))
        how = "copy" if args.copy else "link"
        fetch.take(archive, args.source, wanted, args.to, target=target, how=how)
    elif not args.source:
        for archive in archives:
            fetch.get(archive.behind(args.mirror), missing[archive], target, args.to)
    return report(target)


def report(target: Path) -> int:
    """Decode every video as the chapters will, and print what there is.

    Raises DataError for a video or a label file that is missing, damaged or of another length.
    """
    print("decoding every video once, small, to see that all of them can be read ...")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FMABS_CACHE"] = cache  # these small frames are of no later use
        avenue = Avenue(target, size=(36, 64))
        clips = {"training": avenue.train, "testing": avenue.test}
        for split, found in clips.items():
            frames = sum(len(clip) for clip in found)
            print(f"{split}: {len(found)} of {WHOLE[split]} videos, {frames} frames")
        abnormal = sum(int(clip.labels.sum()) for clip in avenue.test)
        print(f"labels: {abnormal} abnormal test frames")
    if any(len(found) < WHOLE[split] for split, found in clips.items()):
        print("This is a part of Avenue: results on it are not those of the benchmark.")
    print(f"In {target}. Use it with: make book DATA={target.parent}")
    return 0


if __name__ == "__main__":
    fetch.run(main)
