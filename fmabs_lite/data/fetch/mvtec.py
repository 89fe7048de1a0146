"""MVTec AD: one archive for each category (Bergmann et al., IJCV 2021)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fmabs_lite.data.fetch.archive import Archive, FetchError
from fmabs_lite.data.fetch.source import Contents, Source
from fmabs_lite.data.folder import DataError
from fmabs_lite.data.mvtec import MVTecAD

HOST = "https://www.mydrive.ch/shares"
FORMER = f"{HOST}/38536/3830184030e49fe74747669442f0f283/download"  # worked until spring 2026

# category: share of the present link, file number, SHA-256, MB, training images, test images
CATEGORIES = {
    "bottle": (
        "150452/132a93367fb17cdf968dfb5c4013f6e7", "420937370-1629958698",
        "726512129cb3b1f47d4f6cd7c7fc9170db7fc209132249c788fec06029cb5dc3", 156, 209, 83,
    ),
    "cable": (
        "150453/10f960e07fec2838b2cd512586633a32", "420937413-1629958794",
        "1e3d59b80a6a8da5adf32fb0cf311c7b964cde146d6920aef9ca66380999a9cd", 505, 224, 150,
    ),
    "capsule": (
        "150454/e0ce6dd74eb150f46c0d98131b3703f2", "420937454-1629958872",
        "f6a41cb11f1589d552888fe9c43a1adcbcae15b70073e19093322f836d00a2b6", 404, 219, 132,
    ),
    "carpet": (
        "150455/eac7fbce84d93a5094e13f391170eca4", "420937484-1629959013",
        "d9dd5064515a20bd75cf24d223c570579141abd72388beef892780b74dbaa85d", 740, 280, 117,
    ),
    "grid": (
        "150456/bb0b2e3dc804ccb8b4485e01f8e4493b", "420937487-1629959044",
        "d94a9a651cbfaee22c94d06cf8fa8204a590c872362de0489eb34f1645328de8", 161, 264, 78,
    ),
    "hazelnut": (
        "150457/51d49f65e84bdc100ff8035d7dd783ea", "420937545-1629959162",
        "a7f4e7d65a60a235def7236a46fcb854d62e6c6917c16b1ec9cb4ff089d3b0da", 617, 391, 110,
    ),
    "leather": (
        "150458/923030ce14e10a7d147e95d0f8885f6b", "420937607-1629959262",
        "704ffa48b1dc2fc44824aa50442d9febc399dd92a5d6fd8156f8aa0373d15f24", 525, 245, 124,
    ),
    "metal_nut": (
        "150459/c68856a21dca589b0f8ff6d4ee0f18f4", "420937637-1629959294",
        "86e3c8e163ceb19146ad3ddc408e85cc34ae02e0da430e07a73bac6bbb48532a", 166, 220, 115,
    ),
    "pill": (
        "150460/d4f1c04da67034ccc8d8b5fa3e73f244", "420938129-1629960351",
        "ac6ce9ec4ec2a5d67c906d82147bd7431980cf00b78f25d63201a5f17e3a2038", 275, 267, 167,
    ),
    "screw": (
        "150461/242f454cc6385e5693c4fd4b94567d1e", "420938130-1629960389",
        "0a27a365a21e472d19b9fb48cb8e4002b49fabe083bff7f4c16fa57d78154f10", 196, 320, 160,
    ),
    "tile": (
        "150462/5479f0fdc97bc6fa16eab0cb0cf0109f", "420938133-1629960456",
        "392228153b96d0db9f179d3f7c2d63e131e907154883b57309fcbf798643173c", 352, 230, 117,
    ),
    "toothbrush": (
        "150463/895a1a5fb84b958f07417784b060434b", "420938134-1629960477",
        "fe72a34b4b0d074f84e844be7ef8c4f64f7f02f20e25f19c9e3b4a231c8bea77", 110, 60, 42,
    ),
    "transistor": (
        "150464/99b8ea0332438d64fcc2475ee73f9c29", "420938166-1629960554",
        "146b2166c35a1d0cf37ded091366ac01a50338b4ac704632f1239890eaca4449", 403, 213, 100,
    ),
    "wood": (
        "150465/d5b4115b720cdb54d217e75636e6e374", "420938383-1629960649",
        "3757297ac2a266072eb4f25a97f805f5b37fd583492b20bd709f310736c1ea47", 498, 247, 79,
    ),
    "zipper": (
        "150466/bd155b557520edaf692d9bfdb915c24a", "420938385-1629960680",
        "7ab46e0e195da145db30052baea3d3a5d14c5f0e710137c968e0423f02cb942d", 160, 240, 151,
    ),
}  # fmt: skip


class MVTec(Source):
    key = "mvtec"
    licence = (
        "MVTec AD (c) MVTec Software GmbH, CC BY-NC-SA 4.0: not for commercial use.\n"
        "Cite Bergmann et al., IJCV 2021, https://doi.org/10.1007/s11263-020-01400-4"
    )
    notes = """\
Official page: https://www.mvtec.com/research-teaching/datasets/mvtec-ad
All categories together are about 5.3 GB.

What could not be verified: MVTec publishes no checksums, and its addresses have moved more than
once (anomalib issues 3121, 3167, 3441, 3608). The addresses and the SHA-256 values are those that
public code used in 2026, anomalib for the whole archive; several independent projects print the
same values, older and newer ones. They were not fetched when this was written. A file that differs
from its SHA-256 is refused. If MVTec puts out a new one, unpack it yourself and pass the folder
with --from."""
    contents = {
        Archive(
            f"{name}.tar.xz",
            (f"{HOST}/{share}/download/{number}/{name}.tar.xz", f"{FORMER}/{number}/{name}.tar.xz"),
            digest,
            size * 10**6,
        ): (name,)
        for name, (share, number, digest, size, _, _) in CATEGORIES.items()
    }
    counts = {name: (row[4], row[5]) for name, row in CATEGORIES.items()}
    also = (  # only for --from: category by category, an interrupted run loses less
        Archive(
            "mvtec_anomaly_detection.tar.xz",
            sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        ),
    )

    def chosen(self, categories: Sequence[str]) -> Contents:
        """The archives of these categories, in the order given; of the screw if there is none."""
        by_name = {name: archive for archive, (name,) in self.contents.items()}
        names = list(by_name) if "all" in categories else categories or ["screw"]
        for name in names:
            if name not in by_name:
                raise FetchError(f"--category {name}: choose among {', '.join(by_name)}, or all")
        return {by_name[name]: (name,) for name in names}

    def locate(self, source: Path, wanted: list[str]) -> Path:
        """A folder of categories, or the one above a category's own."""
        one = source.name in wanted and (source / "train").is_dir()
        return source.parent if one else source

    def report(self, target: Path, names: list[str]) -> None:
        """Read every image, and compare the counts; with --from a category may be absent."""
        for name in names:
            if not (target / name).exists():
                print(f"{name}: not there")
                continue
            category = MVTecAD(target, name, size=32)
            train, test = len(category.train), len(category.test)
            if (train, test) != self.counts[name]:
                raise DataError(
                    f"{target / name} holds {train} training and {test} test images; MVTec's has "
                    f"{self.counts[name][0]} and {self.counts[name][1]}. Add what is missing, or "
                    "delete this folder and download the category."
                )
            defects = Counter(category.test.defects)
            kinds = ", ".join(f"{defect} {count}" for defect, count in sorted(defects.items()))
            print(f"{name}: {train} training images, {test} test images ({kinds})")


MVTEC = MVTec()
