"""DTD, the Describable Textures Dataset, all classes in one archive (Cimpoi et al., CVPR 2014)."""

from __future__ import annotations

from pathlib import Path

from fmabs_lite.data.dtd import DTD
from fmabs_lite.data.fetch.archive import Archive
from fmabs_lite.data.fetch.placing import find
from fmabs_lite.data.fetch.source import Source

PAGE = "https://www.robots.ox.ac.uk/~vgg/data/dtd/"


class Textures(Source):
    key = "dtd"
    licence = (
        "DTD, Visual Geometry Group, University of Oxford: for research purposes.\n"
        "Cite Cimpoi et al., CVPR 2014, https://doi.org/10.1109/CVPR.2014.461"
    )
    notes = f"""\
Official page: {PAGE}
625 MB. Of the archive only the pictures are kept, not its labels.

What could not be verified: the page prints no checksum. The address is the page's own; the
SHA-256 and the size are those of TensorFlow Datasets, and anomalib prints the same SHA-256.
torchvision gives an MD5 for this address, which is not used here. The file was not fetched when
this was written. A file that differs from its SHA-256 is refused."""
    archive = Archive(
        "dtd-r1.0.1.tar.gz",
        (PAGE + "download/dtd-r1.0.1.tar.gz",),
        "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
        625_239_812,
    )
    contents = {archive: ("images",)}
    whole = (47, 5640)  # classes, pictures

    def target(self, data: Path) -> Path:
        """The folder of the pictures' folder: unpacked by hand, `dtd` is in one of its own."""
        found = super().target(data)
        return found / "dtd" if (found / "dtd" / "images").is_dir() else found

    def locate(self, source: Path, wanted: list[str]) -> Path:
        """The folder `dtd`, or one above it; one that holds something else is a DataError."""
        if source.is_dir():
            source = find(source, ["dtd"]).get("dtd", source)
            DTD(source)  # many a folder has one named `images`
        return source

    def report(self, target: Path, names: list[str]) -> None:
        """Read every picture, and count them."""
        print("reading every picture once, small, to see that all of them can be read")
        textures = DTD(target, size=32)
        classes, pictures = len(textures.classes), len(textures.images)
        print(f"{classes} of {self.whole[0]} classes, {pictures} of {self.whole[1]} pictures")
        if (classes, pictures) != self.whole:
            print("This is a part of DTD: DRAEM takes its anomalies from all of it.")


TEXTURES = Textures()
