"""Archives that are refused, a disk that fills up, and that the next try works."""

import errno
import gzip
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fmabs_lite.data.fetch import archive, placing
from fmabs_lite.data.fetch.archive import Archive, DiskFull, FetchError, unpack

MEMBER = "screw/train/good/000.png"


def zipped(path: Path, *names: str, content: bytes = b"a picture") -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name in names or (MEMBER,):
            packed.writestr(zipfile.ZipInfo(name), b"" if name[-1] in "/\\" else content)
    return path


def marked(path: Path, local: int, central: int, value: int) -> Path:
    """Write `value` into the header of a zip's only member, at its two places."""
    data = bytearray(path.read_bytes())
    data[local] = data[data.index(b"PK\x01\x02") + central] = value
    path.write_bytes(data)
    return path


def take(source: Path, data: Path) -> None:
    placing.take(Archive(source.name), source, ["screw"], data / "mvtec", data, "copy")


def tar_gz_with_a_wrong_byte(path: Path) -> Path:
    content = np.random.default_rng(0).bytes(50_000)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        info = tarfile.TarInfo(MEMBER)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    packed = bytearray(gzip.compress(plain.getvalue(), 0))  # stored as it is: no decoder trips
    packed[20_000] ^= 1
    path.write_bytes(packed)
    return path


REFUSED = {
    "with a password": lambda at: marked(zipped(at / "a.zip"), 6, 8, 1),
    "of an unknown compression": lambda at: marked(zipped(at / "a.zip"), 8, 10, 99),
    "with a file where a folder is": lambda at: zipped(at / "a.zip", "screw", "screw/000.png"),
    "damaged inside of a gzip": lambda at: tar_gz_with_a_wrong_byte(at / "a.tar.gz"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_archive_that_cannot_be_unpacked_is_named_with_the_remedy(tmp_path, kind):
    bad = REFUSED[kind](tmp_path)
    with pytest.raises(FetchError, match=rf"{bad.name} cannot be unpacked \(.*pass the folder"):
        take(bad, tmp_path / "data")
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").iterdir())


def test_a_refused_archive_does_not_bar_the_good_one_of_its_name(tmp_path):
    take_it = tmp_path / "a.zip", tmp_path / "data"
    REFUSED["with a password"](tmp_path)
    with pytest.raises(FetchError, match="password"):
        take(*take_it)
    zipped(tmp_path / "a.zip")
    take(*take_it)
    assert (tmp_path / "data/mvtec" / MEMBER).read_bytes() == b"a picture"
    noted = json.loads((tmp_path / "data/checksums.json").read_text())["a.zip"]
    assert noted["sha256"] == archive.sha256(tmp_path / "a.zip")
    zipped(tmp_path / "a.zip", content=b"another")  # what is in use is what others must equal
    with pytest.raises(FetchError, match="not the file it should be"):
        take(*take_it)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_while_unpacking_is_empty_again_for_the_next_try(
    tmp_path, monkeypatch
):
    source = zipped(tmp_path / "a.zip")
    with monkeypatch.context() as patch:
        patch.setattr(archive.shutil, "copyfileobj", full)
        with pytest.raises(DiskFull, match=r"000\.png: the disk is full"):
            take(source, tmp_path / "data")
    assert not (tmp_path / "data/downloads").exists()
    take(source, tmp_path / "data")
    assert (tmp_path / "data/mvtec" / MEMBER).is_file()


def test_a_full_disk_is_said_also_where_checksums_are_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFull, match=r"checksums\.json: the disk is full"):
        archive.write_text(tmp_path / "checksums.json", "{}")


def test_what_a_killed_run_had_unpacked_goes_before_room_is_looked_for(tmp_path, monkeypatch):
    left = tmp_path / "data/downloads/unpacked"
    left.mkdir(parents=True)
    monkeypatch.setattr(placing, "need_space", lambda *_: left.exists() and full())
    take(zipped(tmp_path / "a.zip"), tmp_path / "data")


def test_room_is_looked_for_on_the_disks_that_are_written_to(tmp_path, monkeypatch):
    """The archive lies on one disk, the data folder is another, and the set's a third."""
    for name in ("archive", "data", "set"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/mvtec").symlink_to(tmp_path / "set")
    source = zipped(tmp_path / "archive/a.zip", content=b"0" * 10_000)
    free = {"archive": 0, "data": 10**6, "set": 10**6}
    real = shutil.disk_usage(tmp_path)

    def usage(path):
        inside = Path(path).resolve().relative_to(tmp_path)
        return real._replace(free=free[inside.parts[0]])

    monkeypatch.setattr(shutil, "disk_usage", usage)
    for disk in ("data", "set"):
        with monkeypatch.context() as patch:
            patch.setitem(free, disk, 5_000)
            with pytest.raises(DiskFull):
                take(source, tmp_path / "data")
    take(source, tmp_path / "data")
    assert (tmp_path / "set" / MEMBER).is_file()


def test_a_folder_whose_copy_fills_the_disk_is_removed(tmp_path, monkeypatch):
    (tmp_path / "screw/train").mkdir(parents=True)
    (tmp_path / "screw/train/000.png").write_bytes(b"a picture")
    monkeypatch.setattr(shutil, "copy2", full)
    monkeypatch.setattr(shutil.copytree, "__defaults__", (False, None, full, False, False))
    with pytest.raises(FetchError, match=r"mvtec/screw was not filled \(.*No space left"):
        placing.place(tmp_path / "screw", tmp_path / "data/mvtec/screw", "copy")
    assert list((tmp_path / "data/mvtec").iterdir()) == []


def test_backslashes_in_a_zip_are_folders(tmp_path):
    names = ("screw\\", "screw\\train\\", "screw\\train\\good\\000.png")
    unpack(zipped(tmp_path / "a.zip", *names), tmp_path / "in")
    assert (tmp_path / "in" / MEMBER).read_bytes() == b"a picture"


def test_a_category_three_folders_deep_is_found(tmp_path):
    take(zipped(tmp_path / "a.zip", f"Downloads/sets/mvtec/{MEMBER}"), tmp_path / "data")
    assert (tmp_path / "data/mvtec" / MEMBER).is_file()


def test_two_categories_of_one_name_are_both_named(tmp_path):
    source = zipped(tmp_path / "a.zip", f"old/{MEMBER}", f"new/{MEMBER}")
    with pytest.raises(FetchError, match=r"new/screw and .*old/screw have one name"):
        take(source, tmp_path / "data")
