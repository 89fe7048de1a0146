"""The download scripts against a server on this machine that drops, truncates and alters."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from fmabs_lite.data import fetch
from fmabs_lite.data.fetch import Archive, FetchError

SCRIPTS = Path(__file__).resolve().parents[2] / "data_scripts"
sys.path.insert(0, str(SCRIPTS))

import download_avenue  # noqa: E402
import download_dtd  # noqa: E402
import download_mvtec  # noqa: E402
import download_shanghaitech  # noqa: E402

PAYLOAD = np.random.default_rng(0).bytes(40_000)
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; a path's faults are spent one a request, then it behaves."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.log.append((self.path, asked))
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else ""
        body = self.server.files.get(self.path)
        if body is None or fault in ("404", "503"):
            self.reply(503 if fault == "503" else 404, b"")
            return
        if fault == "alter":
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "truncate":
            body = body[: len(body) // 2]
        tag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if fault == "ignore range" or self.headers.get("If-Range", tag) != tag:
            start = 0
        status, headers = (206 if start else 200), {"ETag": tag}
        if start >= len(body):
            self.reply(416, b"", **{"Content-Range": f"bytes */{len(body)}"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.reply(status, body[start:], drop=fault == "drop", **headers)

    def reply(self, status, body, drop=False, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if drop else body)
        self.close_connection = drop

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.faults, server.log = {}, {}, []
        server.daemon_threads = True
        server.at = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setattr(fetch, "CHUNK", 1000)
    monkeypatch.setattr(fetch, "TIMEOUT", (2, 2))
    download = fetch.download
    monkeypatch.setattr(fetch, "download", lambda *a: download(*a, pause=0.001))


def fetched(archive, folder):
    return fetch.download(archive, folder / "downloads", folder / "checksums.json").read_bytes()


def ranges(server):
    return [asked for _, asked in server.log]


# --- download ------------------------------------------------------------------------------


def test_plain_download_is_recorded_and_not_repeated(server, tmp_path):
    server.files["/a.zip"] = PAYLOAD
    archive = Archive("a.zip", (server.at + "/a.zip",))
    assert fetched(archive, tmp_path) == PAYLOAD
    entry = json.loads((tmp_path / "checksums.json").read_text())["a.zip"]
    assert entry == {"sha256": DIGEST, "bytes": len(PAYLOAD), "known from": "first use"}
    assert os.listdir(tmp_path / "downloads") == ["a.zip"]  # no .part, no state left
    assert fetched(archive, tmp_path) == PAYLOAD
    assert len(server.log) == 1


def test_a_dropped_connection_is_resumed(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop", "drop", "503"]
    assert fetched(Archive("a.zip", (server.at + "/a.zip",)), tmp_path) == PAYLOAD
    starts = [int(asked[6:-1]) for asked in ranges(server) if asked]
    assert 0 < starts[0] <= len(PAYLOAD) / 2 < starts[-1] < len(PAYLOAD)


def test_an_interrupted_run_goes_on_next_time(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop"] + ["404"]
    archive = Archive("a.zip", (server.at + "/a.zip",))
    with pytest.raises(FetchError, match=r"a\.zip\.part.*\n?.*Run again"):
        fetched(archive, tmp_path)
    have = (tmp_path / "downloads" / "a.zip.part").stat().st_size
    assert 0 < have < len(PAYLOAD)
    assert fetched(archive, tmp_path) == PAYLOAD
    assert server.log[-1][1] == f"bytes={have}-"


def test_a_server_that_ignores_range_starts_anew(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop", "ignore range"]
    assert fetched(Archive("a.zip", (server.at + "/a.zip",)), tmp_path) == PAYLOAD
    assert len(server.log) == 2 and ranges(server)[1]


def test_a_file_that_changed_meanwhile_is_not_mixed(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop", "404"]
    archive = Archive("a.zip", (server.at + "/a.zip",))
    with pytest.raises(FetchError):
        fetched(archive, tmp_path)
    server.files["/a.zip"] = PAYLOAD[::-1]
    assert fetched(archive, tmp_path) == PAYLOAD[::-1]


@pytest.mark.parametrize("size", [len(PAYLOAD), len(PAYLOAD) + 1])
def test_a_part_that_is_complete_or_too_long(server, tmp_path, size):
    server.files["/a.zip"] = PAYLOAD
    part = tmp_path / "downloads" / "a.zip.part"
    part.parent.mkdir()
    part.write_bytes((PAYLOAD + b"x")[:size])
    url = server.at + "/a.zip"
    fetch.write_text(part.with_name("a.zip.part.json"), json.dumps({"url": url, "validator": ""}))
    assert fetched(Archive("a.zip", (url,)), tmp_path) == PAYLOAD
    assert len(server.log) == (1 if size == len(PAYLOAD) else 2)


@pytest.mark.parametrize("fault", ["alter", "truncate"])
def test_wrong_bytes_are_refused_and_a_mirror_tried(server, tmp_path, fault):
    server.files["/a.zip"] = server.files["/mirror/a.zip"] = PAYLOAD
    server.faults["/a.zip"] = [fault]
    archive = Archive("a.zip", (server.at + "/a.zip",), DIGEST)
    with pytest.raises(FetchError, match="a.zip.part is not the file it should be.*altered"):
        fetched(archive, tmp_path)
    assert not (tmp_path / "downloads").exists()
    server.faults["/a.zip"] = [fault]
    both = Archive("a.zip", (server.at + "/a.zip", server.at + "/mirror/a.zip"), DIGEST)
    assert fetched(both, tmp_path) == PAYLOAD


def test_what_was_recorded_at_first_use_is_compared(server, tmp_path):
    server.files["/a.zip"] = PAYLOAD
    archive = Archive("a.zip", (server.at + "/a.zip",))
    fetched(archive, tmp_path)
    (tmp_path / "downloads" / "a.zip").unlink()
    server.faults["/a.zip"] = ["alter"]
    with pytest.raises(FetchError, match="checksums.json"):
        fetched(archive, tmp_path)


def test_an_altered_archive_on_disk_is_named(server, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip").write_bytes(b"something else")
    with pytest.raises(FetchError, match=r"Delete .*downloads/a\.zip and run again"):
        fetched(Archive("a.zip", (), DIGEST), tmp_path)


def test_not_found_then_a_mirror(server, tmp_path):
    server.files["/mirror/a.zip"] = PAYLOAD
    archive = Archive("a.zip", (server.at + "/gone/a.zip",), DIGEST)
    with pytest.raises(FetchError, match=r"gone/a\.zip\n.*404[\s\S]*--from FILE"):
        fetched(archive, tmp_path)
    assert fetched(archive.behind(server.at + "/mirror/"), tmp_path) == PAYLOAD
    assert archive.behind(server.at + "/x/a.zip").urls[0] == server.at + "/x/a.zip"


def test_a_dead_server_is_given_up(tmp_path):
    with pytest.raises(FetchError, match="127.0.0.1"):
        fetched(Archive("a.zip", ("http://127.0.0.1:9/a.zip",)), tmp_path)


def test_too_small_a_disk_is_seen_beforehand(server, tmp_path, monkeypatch):
    server.files["/a.zip"] = PAYLOAD
    nearly_full = shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: nearly_full)
    with pytest.raises(fetch.DiskFull, match="0 MB are needed"):
        fetched(Archive("a.zip", (server.at + "/a.zip", server.at + "/b.zip")), tmp_path)
    assert len(server.log) == 1  # another address would not help
    assert os.listdir(tmp_path / "downloads") == []


# --- unpacking -----------------------------------------------------------------------------


def tar_with(path, name, kind=tarfile.REGTYPE, link=""):
    with tarfile.open(path, "w:xz") as tar:
        for member in ("fine/a.txt", name):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = (kind, link) if member == name else (tarfile.REGTYPE, "")
            info.size = 2 if info.isfile() else 0
            tar.addfile(info, io.BytesIO(b"hi"))


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("fine/../../evil", tarfile.REGTYPE, ""),
        ("/tmp/evil", tarfile.REGTYPE, ""),
        ("C:\\evil", tarfile.REGTYPE, ""),
        ("fine/out", tarfile.SYMTYPE, "/etc"),
        ("fine/hard", tarfile.LNKTYPE, "fine/a.txt"),
        ("fine/pipe", tarfile.FIFOTYPE, ""),
    ],
)
def test_evil_tar_members_are_refused(tmp_path, name, kind, link):
    tar_with(tmp_path / "evil.tar.xz", name, kind, link)
    with pytest.raises(FetchError, match=f"evil.tar.xz: the member {re.escape(repr(name))}"):
        fetch.unpack(tmp_path / "evil.tar.xz", tmp_path / "in" / "side")
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "a.txt", "evil.tar.xz", "fine", "in", "side",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "link"])
def test_evil_zip_members_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o120777 if name == "link" else 0o100644) << 16
        packed.writestr(info, "/etc")
    with pytest.raises(FetchError, match=f"evil.zip: the member '{name}'"):
        fetch.unpack(tmp_path / "evil.zip", tmp_path / "in" / "side")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.zip", "in", "side"]


def test_a_broken_archive_is_named(tmp_path):
    tar_with(tmp_path / "a.tar.xz", "fine/b.txt")
    whole = (tmp_path / "a.tar.xz").read_bytes()
    for broken in (whole[:-60], b"no archive at all"):
        (tmp_path / "a.tar.xz").write_bytes(broken)
        with pytest.raises(FetchError, match="a.tar.xz cannot be unpacked.*download it again"):
            fetch.unpack(tmp_path / "a.tar.xz", tmp_path / "in")


# --- the scripts ---------------------------------------------------------------------------


@pytest.fixture
def category(tmp_path):
    """A tiny `screw` in the official layout, with read-only folders as MVTec packs them."""
    root = tmp_path / "given" / "screw"
    images = {
        "train/good": 3, "test/good": 1, "test/scratch_head": 2, "ground_truth/scratch_head": 2,
    }  # fmt: skip
    for folder, count in images.items():
        (root / folder).mkdir(parents=True)
        for k in range(count):
            name = f"{k:03d}_mask.png" if "ground" in folder else f"{k:03d}.png"
            picture = np.full((40, 40), 200, np.uint8)
            picture[: 10 + k] = 0
            assert cv2.imwrite(str(root / folder / name), picture)
    return root


@pytest.fixture
def mvtec(server, tmp_path, category, monkeypatch):
    """download_mvtec with `screw` served here; calling it gives the exit status."""

    def read_only(info):
        info.mode = 0o555 if info.isdir() else 0o444
        return info

    with tarfile.open(tmp_path / "screw.tar.xz", "w:xz") as tar:
        tar.add(category, "screw", filter=read_only)
    server.files["/screw.tar.xz"] = packed = (tmp_path / "screw.tar.xz").read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    archive = Archive("screw.tar.xz", (server.at + "/screw.tar.xz",), digest, len(packed))
    monkeypatch.setattr(download_mvtec, "ARCHIVES", {"screw": archive})
    monkeypatch.setattr(download_mvtec, "COUNTS", {"screw": (3, 3)})
    return lambda *more: download_mvtec.main(["--to", str(tmp_path / "data"), *map(str, more)])


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_mvtec_downloads_once_and_prints_what_is_there(mvtec, server, tmp_path, capsys):
    server.faults["/screw.tar.xz"] = ["drop"]
    assert mvtec() == 0
    assert "screw: 3 training images, 3 test images (good 1, scratch_head 2)" in (
        printed := capsys.readouterr().out
    )
    assert "CC BY-NC-SA 4.0" in printed and "make book DATA=" in printed
    assert sorted(os.listdir(tmp_path / "data")) == ["checksums.json", "mvtec"]
    assert os.access(tmp_path / "data" / "mvtec" / "screw" / "train" / "good", os.W_OK)
    asked, before = len(server.log), listing(tmp_path / "data")
    assert mvtec() == 0
    assert (len(server.log), listing(tmp_path / "data")) == (asked, before)


def test_mvtec_dry_run_touches_nothing(mvtec, server, tmp_path, capsys):
    assert mvtec("--dry-run", "--mirror", "http://nearer/") == 0
    printed = capsys.readouterr().out
    assert "http://nearer/screw.tar.xz" in printed and server.at in printed
    assert not server.log and not (tmp_path / "data").exists()


@pytest.mark.parametrize("how", [[], ["--copy"]])
def test_mvtec_from_a_folder(mvtec, server, tmp_path, category, how, capsys):
    for source in (category, category.parent, tmp_path):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        assert mvtec("--from", source, *how) == 0
        assert (tmp_path / "data" / "mvtec" / "screw").is_symlink() == (not how)
    assert "3 training images" in capsys.readouterr().out and not server.log


def test_mvtec_from_an_archive(mvtec, server, tmp_path):
    assert mvtec("--from", tmp_path / "screw.tar.xz") == 0
    assert (tmp_path / "screw.tar.xz").exists() and not server.log
    assert listing(tmp_path / "data" / "mvtec" / "screw" / "train")[-1] == "good/002.png"


def test_mvtec_from_an_altered_archive_is_refused(mvtec, tmp_path):
    altered = bytearray((tmp_path / "screw.tar.xz").read_bytes())
    altered[-1] ^= 1
    (tmp_path / "screw.tar.xz").write_bytes(altered)
    with pytest.raises(FetchError, match="screw.tar.xz is not the file it should be"):
        mvtec("--from", tmp_path / "screw.tar.xz")
    assert not (tmp_path / "data").exists()


def test_mvtec_incomplete_folder_is_named(mvtec, tmp_path, category):
    (category / "train" / "good" / "001.png").unlink()
    with pytest.raises(ValueError, match=r"screw holds 2 training and 3 test.*has 3 and 3"):
        mvtec("--from", category)
    with pytest.raises(FetchError, match="no folder named screw"):
        download_mvtec.main(["--to", str(tmp_path / "new"), "--from", str(category / "train")])


def test_mvtec_killed_while_unpacking(mvtec, server, tmp_path, monkeypatch):
    """A half-unpacked category is never taken for a whole one."""
    place_found = fetch.place_found
    monkeypatch.setattr(fetch, "place_found", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        mvtec()
    assert not (tmp_path / "data" / "mvtec").exists()
    monkeypatch.setattr(fetch, "place_found", place_found)
    assert mvtec() == 0 and len(server.log) == 1  # the archive was kept


def test_the_lists_are_sound():
    archives = [*download_mvtec.ARCHIVES.values(), download_mvtec.WHOLE]
    archives += [*download_avenue.CONTENTS, download_dtd.ARCHIVE, download_shanghaitech.ARCHIVE]
    assert len(archives) == 20 and len({a.sha256 for a in archives}) == 20
    assert all(re.fullmatch("[0-9a-f]{64}", a.sha256) for a in archives)
    assert all(url.endswith("/" + a.name) for a in archives for url in a.urls)
    assert np.sum(list(download_mvtec.COUNTS.values()), axis=0).tolist() == [3629, 1725]


@pytest.mark.parametrize(
    "script", [download_mvtec, download_avenue, download_dtd, download_shanghaitech]
)
def test_help_says_what_is_not_verified(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    assert "could not be verified" in capsys.readouterr().out


def test_a_fault_is_one_message_and_a_bad_status(tmp_path):
    command = [sys.executable, str(SCRIPTS / "download_mvtec.py"), "--to", str(tmp_path / "to")]
    command += ["--from", str(tmp_path / "nowhere")]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and not (tmp_path / "to").exists()
    assert failed.stderr.startswith("error: --from ") and "Traceback" not in failed.stderr


@pytest.fixture
def avenue(server, tmp_path, monkeypatch):
    """download_avenue with one training and one test video of three frames served here."""
    masks = np.empty((1, 3), object)
    masks[:] = [[np.full((36, 64), k == 2, np.uint8) for k in range(3)]]
    savemat(tmp_path / "1_label.mat", {"volLabel": masks})
    motion_jpeg = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(tmp_path / "01.avi"), motion_jpeg, 25, (64, 36))
    for k in range(3):
        writer.write(np.full((36, 64, 3), 80 * k, np.uint8))
    writer.release()
    contents = {
        "Avenue_Dataset.zip": {
            "Avenue Dataset/training_videos/01.avi": "01.avi",
            "Avenue Dataset/testing_videos/01.avi": "01.avi",
        },
        "ground_truth_demo.zip": {
            "ground_truth_demo/testing_label_mask/1_label.mat": "1_label.mat",
            "ground_truth_demo/testing_videos/decoy.avi": "01.avi",
        },
    }
    archives = {}
    for name, members in contents.items():
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            for member, source in members.items():
                packed.write(tmp_path / source, member)
        server.files[f"/{name}"] = (tmp_path / name).read_bytes()
        archives[Archive(name, (f"{server.at}/{name}",))] = None
    names = [("training_videos", "testing_videos"), ("ground_truth_demo",)]
    monkeypatch.setattr(download_avenue, "CONTENTS", dict(zip(archives, names, strict=True)))
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))
    return lambda *more: download_avenue.main(["--to", str(tmp_path / "data"), *map(str, more)])


def test_avenue_downloads_videos_and_labels(avenue, server, tmp_path, capsys):
    assert avenue() == 0
    printed = capsys.readouterr().out
    assert "testing: 1 of 21 videos, 3 frames" in printed and "1 abnormal test frames" in printed
    assert "a part of Avenue" in printed and "for research only" in printed
    there = listing(tmp_path / "data" / "avenue")
    assert "testing_videos/01.avi" in there and "testing_videos/decoy.avi" not in there
    assert avenue() == 0 and len(server.log) == 2


def test_avenue_from_archives_one_by_one(avenue, server, tmp_path):
    with pytest.raises(ValueError, match="ground_truth_demo.zip"):
        avenue("--from", tmp_path / "Avenue_Dataset.zip")
    assert avenue("--from", tmp_path / "ground_truth_demo.zip") == 0
    assert not server.log


@pytest.fixture
def textures(tmp_path):
    """A tiny DTD in the official layout: three pictures of two classes, and labels."""
    root = tmp_path / "given" / "dtd"
    for name in ("banded/banded_0001", "banded/banded_0002", "woven/woven_0001"):
        path = root / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), noise)  # does not pack well: worth resuming
    (root / "labels").mkdir()
    (root / "labels" / "train1.txt").write_text("banded/banded_0001.jpg\n")
    return root


@pytest.fixture
def dtd(server, tmp_path, textures, monkeypatch):
    """download_dtd with that served here; calling it gives the exit status."""
    with tarfile.open(tmp_path / "dtd-r1.0.1.tar.gz", "w:gz") as tar:
        tar.add(textures, "dtd")
    server.files["/dtd-r1.0.1.tar.gz"] = packed = (tmp_path / "dtd-r1.0.1.tar.gz").read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    url = server.at + "/dtd-r1.0.1.tar.gz"
    archive = Archive("dtd-r1.0.1.tar.gz", (url,), digest, len(packed))
    monkeypatch.setattr(download_dtd, "ARCHIVE", archive)
    return lambda *more: download_dtd.main(["--to", str(tmp_path / "data"), *map(str, more)])


def test_dtd_downloads_once_and_prints_what_is_there(dtd, server, tmp_path, capsys):
    server.faults["/dtd-r1.0.1.tar.gz"] = ["drop"]
    assert dtd() == 0
    printed = capsys.readouterr().out
    assert "2 of 47 classes, 3 of 5640 pictures" in printed and "a part of DTD" in printed
    assert "for research purposes" in printed and "make book DATA=" in printed
    assert sorted(os.listdir(tmp_path / "data")) == ["checksums.json", "dtd"]
    assert os.listdir(tmp_path / "data" / "dtd") == ["images"]
    assert ranges(server)[1]  # the second request asked for the rest only
    asked, before = len(server.log), listing(tmp_path / "data")
    assert dtd() == 0
    assert (len(server.log), listing(tmp_path / "data")) == (asked, before)


def test_dtd_dry_run_touches_nothing(dtd, server, tmp_path, capsys):
    assert dtd("--dry-run", "--mirror", "http://nearer/") == 0
    printed = capsys.readouterr().out
    assert "http://nearer/dtd-r1.0.1.tar.gz" in printed and server.at in printed
    assert not server.log and not (tmp_path / "data").exists()


@pytest.mark.parametrize("how", [[], ["--copy"]])
def test_dtd_from_a_folder(dtd, server, tmp_path, textures, how):
    (tmp_path / "images").mkdir()  # of something else
    for source in (textures, textures.parent, tmp_path):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        assert dtd("--from", source, *how) == 0
        assert (tmp_path / "data" / "dtd" / "images").is_symlink() == (not how)
    assert not server.log


def test_dtd_from_a_folder_that_holds_something_else(dtd, tmp_path):
    (tmp_path / "other" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match="other/images holds no folders"):
        dtd("--from", tmp_path / "other")
    with pytest.raises(FetchError, match="no such file or folder"):
        dtd("--from", tmp_path / "nowhere")
    assert not (tmp_path / "data").exists()


def test_dtd_from_an_archive(dtd, server, tmp_path):
    packed = tmp_path / "dtd-r1.0.1.tar.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FetchError, match="dtd-r1.0.1.tar.gz is not the file it should be"):
        dtd("--from", packed)
    packed.write_bytes(whole)
    assert dtd("--from", packed) == 0
    assert packed.exists() and not server.log


@pytest.fixture
def campus(tmp_path):
    """A tiny ShanghaiTech Campus in the official layout: two videos, of four and three frames."""
    root = tmp_path / "given" / "shanghaitech"
    (root / "training" / "videos").mkdir(parents=True)
    motion_jpeg = cv2.VideoWriter_fourcc(*"MJPG")
    path = str(root / "training" / "videos" / "01_001.avi")
    writer = cv2.VideoWriter(path, motion_jpeg, 24, (64, 36))
    noise = np.random.default_rng(0).integers(0, 255, (7, 36, 64, 3), dtype=np.uint8)
    for frame in noise[:4]:
        writer.write(frame)  # does not pack well: worth resuming
    writer.release()
    (root / "testing" / "frames" / "01_0014").mkdir(parents=True)
    for index, frame in enumerate(noise[4:]):
        path = root / "testing" / "frames" / "01_0014" / f"{index:03d}.jpg"
        assert cv2.imwrite(str(path), frame)
    masks = np.zeros((3, 36, 64), np.uint8)
    masks[2, :9] = 1
    for kind, labels in (("frame", masks.any((1, 2)).astype(np.uint8)), ("pixel", masks)):
        (root / "testing" / f"test_{kind}_mask").mkdir()
        np.save(root / "testing" / f"test_{kind}_mask" / "01_0014.npy", labels)
    return root


@pytest.fixture
def shanghaitech(server, tmp_path, campus, monkeypatch):
    """download_shanghaitech with that packed here; calling it gives the exit status."""
    with tarfile.open(tmp_path / "shanghaitech.tar.gz", "w:gz") as tar:
        tar.add(campus, "shanghaitech")
    packed = (tmp_path / "shanghaitech.tar.gz").read_bytes()
    server.files["/shanghaitech.tar.gz"] = packed
    archive = Archive("shanghaitech.tar.gz", (), hashlib.sha256(packed).hexdigest(), len(packed))
    monkeypatch.setattr(download_shanghaitech, "ARCHIVE", archive)
    monkeypatch.setattr(download_shanghaitech, "UNPACKED", 100_000)
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))
    to = str(tmp_path / "data")
    return lambda *more: download_shanghaitech.main(["--to", to, *map(str, more)])


@pytest.fixture
def parts(tmp_path, shanghaitech):
    """A folder with the archive in seven parts, and something else."""
    packed = (tmp_path / "shanghaitech.tar.gz").read_bytes()
    folder, step = tmp_path / "parts", -(-len(packed) // 7)
    folder.mkdir()
    for number, letter in enumerate("abcdefg"):
        piece = packed[number * step : (number + 1) * step]
        (folder / f"shanghaitech.tar.gz.a{letter}").write_bytes(piece)
    (folder / "shanghaitech.tar.gz.asc").write_text("a signature, say")
    return folder


def test_shanghaitech_says_that_it_cannot_be_fetched_and_what_to_do(shanghaitech, server, tmp_path):
    says = r"no training and no testing videos\.\nOpen https://svip-[\s\S]*to \.ag[\s\S]*--from"
    with pytest.raises(FetchError, match=says):
        shanghaitech()
    assert not server.log and not (tmp_path / "data").exists()


def test_shanghaitech_from_a_mirror_is_resumed(shanghaitech, server, tmp_path, capsys):
    server.faults["/shanghaitech.tar.gz"] = ["drop"]
    assert shanghaitech("--mirror", server.at) == 0
    printed = capsys.readouterr().out
    assert "training: 1 of 330 videos, 4 frames" in printed and "Luo, Liu and Gao" in printed
    assert "testing: 1 of 107 videos, 3 frames" in printed and "make book DATA=" in printed
    assert "1 abnormal test frames; 1 videos have pixel masks" in printed
    assert "not the whole of ShanghaiTech Campus" in printed
    assert ranges(server)[1]  # the second request asked for the rest only
    assert sorted(os.listdir(tmp_path / "data")) == ["checksums.json", "shanghaitech"]
    assert sorted(os.listdir(tmp_path / "data" / "shanghaitech")) == ["testing", "training"]
    assert shanghaitech() == 0 and len(server.log) == 2  # all is there: nothing is asked for


def test_shanghaitech_from_another_file_on_a_mirror_is_refused(shanghaitech, server, tmp_path):
    server.files["/shanghaitech.tar.gz"] = b"another file"
    with pytest.raises(FetchError, match="shanghaitech.tar.gz.part is not the file it should be"):
        shanghaitech("--mirror", server.at)
    assert not (tmp_path / "data" / "shanghaitech").exists()


@pytest.mark.parametrize("source", ["parts", "parts/shanghaitech.tar.gz.ac"])
def test_shanghaitech_from_its_parts(shanghaitech, parts, server, tmp_path, source, capsys):
    assert shanghaitech("--from", tmp_path / source) == 0
    printed = capsys.readouterr().out
    assert "joining 7 parts" in printed and "SHA-256 is the one that anomalib had" in printed
    assert "testing: 1 of 107 videos, 3 frames" in printed
    assert sorted(os.listdir(tmp_path / "data")) == ["checksums.json", "shanghaitech"]
    assert len(list(parts.iterdir())) == 8 and not server.log  # the reader's files are left


def test_shanghaitech_from_parts_of_another_release(shanghaitech, parts, monkeypatch, capsys):
    archive = Archive("shanghaitech.tar.gz", (), "0" * 64)
    monkeypatch.setattr(download_shanghaitech, "ARCHIVE", archive)
    assert shanghaitech("--from", parts) == 0
    assert "their SHA-256 is not the one that anomalib had" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("aa", "shanghaitech.tar.gz.aa is missing"),
        ("ad", "shanghaitech.tar.gz.ad is missing: download this part"),
        ("ag", r"cannot be unpacked.*joined from shanghaitech.tar.gz.aa to .*\.af.*seven parts"),
    ],
)
def test_shanghaitech_with_a_part_missing(shanghaitech, parts, tmp_path, lost, says):
    (parts / f"shanghaitech.tar.gz.{lost}").unlink()
    with pytest.raises(FetchError, match=says):
        shanghaitech("--from", parts)
    assert not (tmp_path / "data" / "shanghaitech").exists()
    assert not list(tmp_path.glob("data/downloads/joined*"))


@pytest.mark.parametrize("source", ["", "shanghaitech.tar.gz"])
def test_shanghaitech_from_the_archive(shanghaitech, server, tmp_path, source):
    packed = tmp_path / "shanghaitech.tar.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FetchError, match="shanghaitech.tar.gz is not the file it should be"):
        shanghaitech("--from", tmp_path / source)
    packed.write_bytes(whole)
    assert shanghaitech("--from", tmp_path / source) == 0
    assert packed.exists() and not server.log


@pytest.mark.parametrize("how", [[], ["--copy"]])
def test_shanghaitech_from_a_folder(shanghaitech, tmp_path, campus, how):
    for source in (campus, campus.parent):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        assert shanghaitech("--from", source, *how) == 0
        assert (tmp_path / "data/shanghaitech/training").is_symlink() == (not how)


def test_shanghaitech_from_a_folder_that_holds_something_else(shanghaitech, tmp_path, campus):
    (tmp_path / "other" / "training").mkdir(parents=True)
    with pytest.raises(ValueError, match="other/training holds no clips"):
        shanghaitech("--from", tmp_path / "other")
    shutil.rmtree(campus / "testing" / "test_frame_mask")
    with pytest.raises(ValueError, match="no frame labels"):
        shanghaitech("--from", campus)
    with pytest.raises(FetchError, match="no such file or folder"):
        shanghaitech("--from", tmp_path / "nowhere")
    assert not (tmp_path / "data").exists()


def test_shanghaitech_needs_room_for_its_masks(shanghaitech, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(download_shanghaitech, "UNPACKED", 10**18)
    for source in (parts, tmp_path / "shanghaitech.tar.gz"):
        with pytest.raises(fetch.DiskFull, match="are needed"):
            shanghaitech("--from", source)
    assert not (tmp_path / "data" / "shanghaitech").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [([], "by this script"), (["--mirror", "http://nearer/"], "http://nearer/shanghaitech.tar.gz")],
)
def test_shanghaitech_dry_run_touches_nothing(shanghaitech, server, tmp_path, capsys, more, says):
    assert shanghaitech("--dry-run", *more) == 0
    assert says in capsys.readouterr().out
    assert not server.log and not (tmp_path / "data").exists()
