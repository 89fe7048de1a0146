"""CUHK Avenue: the videos, and the official pixel labels (Lu, Shi and Jia, ICCV 2013)."""

from __future__ import annotations

from pathlib import Path

from fmabs_lite.data.avenue import Avenue
from fmabs_lite.data.fetch.archive import Archive
from fmabs_lite.data.fetch.source import Videos

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


class AvenueSource(Videos):
    key = "avenue"
    title = "CUHK Avenue"
    licence = (
        "CUHK Avenue, The Chinese University of Hong Kong: for research only.\n"
        "Cite Lu, Shi and Jia, ICCV 2013, https://doi.org/10.1109/ICCV.2013.338"
    )
    notes = """\
Official page: https://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal/dataset.html
Two archives, 814 MB together; --from takes a folder, or one of the two at a time.

What could not be verified: the page prints no checksums. The addresses are the page's own; the
SHA-256 values are those of anomalib, and other public code found the same. The files were not
fetched when this was written. A file that differs from its SHA-256 is refused.

The second label set in use (3 867 abnormal frames; the official masks have 3 712) is not the
publisher's: it comes with the code of MNAD. As DIR/labels/frame_labels_avenue.npy it is found."""
    contents = {VIDEOS: ("training_videos", "testing_videos"), LABELS: ("ground_truth_demo",)}
    whole = {"training": 16, "testing": 21}

    def videos(self, target: Path, size: tuple[int, int]) -> Avenue:
        return Avenue(target, size=size)


AVENUE = AvenueSource()
