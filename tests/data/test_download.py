"""Fetching data sets from a server on this machine that drops, truncates and alters."""

import hashlib
import io
import json
import os
import re
import runpy
import shutil
import sys
import tarfile
import threading
import warnings
import zipfile
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import savemat

from fmabs_lite.data import MVTecAD
from fmabs_lite.data.fetch import SOURCES, archive, fetch, placing
from fmabs_lite.data.fetch.archive import Archive, DiskFull, FetchError, download, unpack
from fmabs_lite.press import cli

SCRIPTS = Path(__file__).resolve().parents[2] / "data_scripts"
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
    for name, value in {"CHUNK": 1000, "TIMEOUT": (2, 2), "PAUSE": 0.001}.items():
        monkeypatch.setattr(archive, name, value)


def fetched(one, folder):
    return download(one, folder / "downloads", folder / "checksums.json").read_bytes()


def ranges(server):
    return [asked for _, asked in server.log]


# --- download ------------------------------------------------------------------------------


def test_plain_download_is_not_repeated(server, tmp_path):
    server.files["/a.zip"] = PAYLOAD
    one = Archive("a.zip", (server.at + "/a.zip",))
    assert fetched(one, tmp_path) == PAYLOAD
    assert os.listdir(tmp_path / "downloads") == ["a.zip"]  # no .part, no state left
    assert fetched(one, tmp_path) == PAYLOAD
    assert len(server.log) == 1


def test_a_dropped_connection_is_resumed(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop", "drop", "503"]
    assert fetched(Archive("a.zip", (server.at + "/a.zip",)), tmp_path) == PAYLOAD
    starts = [int(asked[6:-1]) for asked in ranges(server) if asked]
    assert 0 < starts[0] <= len(PAYLOAD) / 2 < starts[-1] < len(PAYLOAD)


def test_an_interrupted_run_goes_on_next_time(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop"] + ["404"]
    one = Archive("a.zip", (server.at + "/a.zip",))
    with pytest.raises(FetchError, match=r"a\.zip\.part.*\n?.*Run again"):
        fetched(one, tmp_path)
    have = (tmp_path / "downloads" / "a.zip.part").stat().st_size
    assert 0 < have < len(PAYLOAD)
    assert fetched(one, tmp_path) == PAYLOAD
    assert server.log[-1][1] == f"bytes={have}-"


def test_a_server_that_ignores_range_starts_anew(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop", "ignore range"]
    assert fetched(Archive("a.zip", (server.at + "/a.zip",)), tmp_path) == PAYLOAD
    assert len(server.log) == 2 and ranges(server)[1]


def test_a_file_that_changed_meanwhile_is_not_mixed(server, tmp_path):
    server.files["/a.zip"], server.faults["/a.zip"] = PAYLOAD, ["drop", "404"]
    one = Archive("a.zip", (server.at + "/a.zip",))
    with pytest.raises(FetchError):
        fetched(one, tmp_path)
    server.files["/a.zip"] = PAYLOAD[::-1]
    assert fetched(one, tmp_path) == PAYLOAD[::-1]


@pytest.mark.parametrize("size", [len(PAYLOAD), len(PAYLOAD) + 1])
def test_a_part_that_is_complete_or_too_long(server, tmp_path, size):
    server.files["/a.zip"] = PAYLOAD
    part = tmp_path / "downloads" / "a.zip.part"
    part.parent.mkdir()
    part.write_bytes((PAYLOAD + b"x")[:size])
    url = server.at + "/a.zip"
    archive.write_text(part.with_name("a.zip.part.json"), json.dumps({"url": url, "validator": ""}))
    assert fetched(Archive("a.zip", (url,)), tmp_path) == PAYLOAD
    assert len(server.log) == (1 if size == len(PAYLOAD) else 2)


@pytest.mark.parametrize("fault", ["alter", "truncate"])
def test_wrong_bytes_are_refused_and_a_mirror_tried(server, tmp_path, fault):
    server.files["/a.zip"] = server.files["/mirror/a.zip"] = PAYLOAD
    server.faults["/a.zip"] = [fault]
    one = Archive("a.zip", (server.at + "/a.zip",), DIGEST)
    with pytest.raises(FetchError, match="a.zip.part is not the file it should be.*altered"):
        fetched(one, tmp_path)
    assert not (tmp_path / "downloads").exists()
    server.faults["/a.zip"] = [fault]
    both = Archive("a.zip", (server.at + "/a.zip", server.at + "/mirror/a.zip"), DIGEST)
    assert fetched(both, tmp_path) == PAYLOAD


def test_what_was_recorded_at_first_use_is_compared(server, tmp_path):
    server.files["/a.zip"] = PAYLOAD
    one = Archive("a.zip", (server.at + "/a.zip",))
    fetched(one, tmp_path)
    file = tmp_path / "downloads" / "a.zip"
    archive.record(one, file, archive.sha256(file), tmp_path / "checksums.json")
    entry = json.loads((tmp_path / "checksums.json").read_text())["a.zip"]
    assert entry == {"sha256": DIGEST, "bytes": len(PAYLOAD), "known from": "first use"}
    file.unlink()
    server.faults["/a.zip"] = ["alter"]
    with pytest.raises(FetchError, match="checksums.json"):
        fetched(one, tmp_path)


def test_an_altered_archive_on_disk_is_named(server, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip").write_bytes(b"something else")
    with pytest.raises(FetchError, match=r"Delete .*downloads/a\.zip and run again"):
        fetched(Archive("a.zip", (), DIGEST), tmp_path)


def test_not_found_then_a_mirror(server, tmp_path):
    server.files["/mirror/a.zip"] = PAYLOAD
    one = Archive("a.zip", (server.at + "/gone/a.zip",), DIGEST)
    with pytest.raises(FetchError, match=r"gone/a\.zip\n.*404[\s\S]*--from FILE"):
        fetched(one, tmp_path)
    assert fetched(one.behind(server.at + "/mirror/"), tmp_path) == PAYLOAD
    assert one.behind(server.at + "/x/a.zip").urls[0] == server.at + "/x/a.zip"


def test_a_dead_server_is_given_up(tmp_path):
    with pytest.raises(FetchError, match="127.0.0.1"):
        fetched(Archive("a.zip", ("http://127.0.0.1:9/a.zip",)), tmp_path)


def test_too_small_a_disk_is_seen_beforehand(server, tmp_path, monkeypatch):
    server.files["/a.zip"] = PAYLOAD
    nearly_full = shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)
    with pytest.raises(DiskFull, match="0 MB are needed"):
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
        unpack(tmp_path / "evil.tar.xz", tmp_path / "in" / "side")
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
        unpack(tmp_path / "evil.zip", tmp_path / "in" / "side")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.zip", "in", "side"]


def test_a_broken_archive_is_named(tmp_path):
    tar_with(tmp_path / "a.tar.xz", "fine/b.txt")
    whole = (tmp_path / "a.tar.xz").read_bytes()
    for broken in (whole[:-60], b"no archive at all"):
        (tmp_path / "a.tar.xz").write_bytes(broken)
        with pytest.raises(FetchError, match="a.tar.xz cannot be unpacked.*download it again"):
            unpack(tmp_path / "a.tar.xz", tmp_path / "in")


# --- the data sets, by the command ---------------------------------------------------------


@dataclass
class Set:
    """A tiny data set: its folder, the archive of it, and `fmabs-lite data --fetch` for it."""

    name: str
    given: Path
    packed: Path
    to: Path
    online: tuple[str, ...] = ()  # the options with which it is downloaded

    def run(self, *more):
        options = ["data", "--fetch", self.name, "--to", self.to, *more]
        return CliRunner().invoke(cli.main, [str(option) for option in options])

    def __call__(self, *more) -> str:
        """What a run prints that ends well."""
        done = self.run(*more)
        assert done.exit_code == 0, done.output
        return done.output

    def fails(self, *more) -> str:
        """The one message of a run that does not."""
        done = self.run(*more)
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
        return done.output.partition("Error: ")[2]

    def placed(self) -> list[str]:
        return listing(self.to / self.name)

    def damage(self) -> bytes:
        """Change the archive's last byte; returns it as it was."""
        whole = self.packed.read_bytes()
        self.packed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        return whole


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def paint(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), noise)  # does not pack well: worth resuming


def outline(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.tri(40, 50, dtype=np.uint8) * 255)


def film(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, size)
    for frame in frames:
        writer.write(frame)
    writer.release()


def pack(folder, name):
    """An archive of a folder whose files and folders are read-only, as MVTec packs them."""

    def read_only(info):
        info.mode = 0o555 if info.isdir() else 0o444
        return info

    target = folder.parents[1] / name
    with tarfile.open(target, f"w:{target.suffix[1:]}") as tar:
        tar.add(folder, folder.name, filter=read_only)
    return target


def serve(server, packed, urls=True):
    """The archive as the server has it."""
    server.files[f"/{packed.name}"] = content = packed.read_bytes()
    addresses = (f"{server.at}/{packed.name}",) if urls else ()
    return Archive(packed.name, addresses, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def mvtec(server, tmp_path, monkeypatch):
    root = tmp_path / "given" / "screw"
    for name in ("train/good/000", "train/good/001", "train/good/002", "test/good/000"):
        paint(root / f"{name}.png", 0)
    for k in range(2):
        paint(root / f"test/scratch_head/{k:03d}.png", k)
        outline(root / f"ground_truth/scratch_head/{k:03d}_mask.png")
    one = Set("mvtec", root, pack(root, "screw.tar.xz"), tmp_path / "data")
    monkeypatch.setattr(SOURCES["mvtec"], "contents", {serve(server, one.packed): ("screw",)})
    monkeypatch.setattr(SOURCES["mvtec"], "counts", {"screw": (3, 3)})
    return one


@pytest.fixture
def dtd(server, tmp_path, monkeypatch):
    root = tmp_path / "given" / "dtd"
    for k, name in enumerate(("banded/banded_0001", "banded/banded_0002", "woven/woven_0001")):
        paint(root / "images" / f"{name}.jpg", k)
    (root / "labels").mkdir()
    (root / "labels" / "train1.txt").write_text("banded/banded_0001.jpg\n")
    one = Set("dtd", root, pack(root, "dtd-r1.0.1.tar.gz"), tmp_path / "data")
    monkeypatch.setattr(SOURCES["dtd"], "contents", {serve(server, one.packed): ("images",)})
    return one


@pytest.fixture
def shanghaitech(server, tmp_path, monkeypatch):
    root = tmp_path / "given" / "shanghaitech"
    noise = np.random.default_rng(0).integers(0, 255, (7, 36, 64, 3), dtype=np.uint8)
    film(root / "training" / "videos" / "01_001.avi", noise[:4])
    (root / "testing" / "frames" / "01_0014").mkdir(parents=True)
    for k, frame in enumerate(noise[4:]):
        assert cv2.imwrite(str(root / f"testing/frames/01_0014/{k:03d}.jpg"), frame)
    masks = np.zeros((3, 36, 64), np.uint8)
    masks[2, :9] = 1
    for kind, labels in (("frame", masks.any((1, 2)).astype(np.uint8)), ("pixel", masks)):
        (root / "testing" / f"test_{kind}_mask").mkdir()
        np.save(root / "testing" / f"test_{kind}_mask" / "01_0014.npy", labels)
    packed = pack(root, "shanghaitech.tar.gz")
    one = Set("shanghaitech", root, packed, tmp_path / "data", ("--mirror", server.at))
    contents = {serve(server, packed, urls=False): ("training", "testing")}
    monkeypatch.setattr(SOURCES["shanghaitech"], "contents", contents)
    return one


@pytest.fixture
def avenue(server, tmp_path, monkeypatch):
    """One training and one test video of three frames, in two archives."""
    masks = np.empty((1, 3), object)
    masks[:] = [[(k == 2) * np.tri(36, 64, dtype=np.uint8) for k in range(3)]]
    savemat(tmp_path / "1_label.mat", {"volLabel": masks})
    film(tmp_path / "01.avi", [np.full((36, 64, 3), 80 * k, np.uint8) for k in range(3)])
    members = {
        "Avenue_Dataset.zip": {
            "Avenue Dataset/training_videos/01.avi": "01.avi",
            "Avenue Dataset/testing_videos/01.avi": "01.avi",
        },
        "ground_truth_demo.zip": {
            "ground_truth_demo/testing_label_mask/1_label.mat": "1_label.mat",
            "ground_truth_demo/testing_videos/decoy.avi": "01.avi",
        },
    }
    contents = {}
    wanted = (("training_videos", "testing_videos"), ("ground_truth_demo",))
    for (name, inside), folders in zip(members.items(), wanted, strict=True):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            for member, source in inside.items():
                packed.write(tmp_path / source, member)
        contents[serve(server, tmp_path / name)] = folders
    monkeypatch.setattr(SOURCES["avenue"], "contents", contents)
    return Set("avenue", tmp_path, tmp_path / "Avenue_Dataset.zip", tmp_path / "data")


@pytest.fixture(params=["mvtec", "dtd", "shanghaitech"])
def one_set(request):
    """Each of the sets that are one archive."""
    return request.getfixturevalue(request.param)


PRINTED = {
    "mvtec": ["CC BY-NC-SA 4.0", "screw: 3 training images, 3 test images (good 1, scratch_head 2"],
    "dtd": ["for research purposes", "2 of 47 classes, 3 of 5640 pictures", "a part of DTD"],
    "shanghaitech": [
        "Luo, Liu and Gao", "training: 1 of 330 videos, 4 frames",
        "testing: 1 of 107 videos, 3 frames", "1 abnormal test frames; 1 videos have pixel masks",
        "not the whole of ShanghaiTech Campus (1 of 330 training, 1 of 107 testing, 3 of 40791 fr",
    ],
}  # fmt: skip
PLACED = {"mvtec": ["screw"], "dtd": ["images"], "shanghaitech": ["testing", "training"]}


def test_a_set_is_downloaded_once_and_told(one_set, server, tmp_path):
    server.faults[f"/{one_set.packed.name}"] = ["drop"]
    printed = one_set(*one_set.online)
    for line in (*PRINTED[one_set.name], f"make book DATA={tmp_path / 'data'}"):
        assert line in printed
    assert ranges(server)[1]  # the second request asked for the rest only
    assert sorted(os.listdir(tmp_path / "data")) == ["checksums.json", one_set.name]
    assert sorted(os.listdir(tmp_path / "data" / one_set.name)) == PLACED[one_set.name]
    assert all(os.access(path, os.W_OK) for path in (tmp_path / "data").rglob("*"))
    asked, before = len(server.log), listing(tmp_path / "data")
    one_set()
    assert (len(server.log), listing(tmp_path / "data")) == (asked, before)


def test_a_defect_too_small_for_the_report_is_not_warned_of(mvtec):
    speck = np.zeros((40, 50), np.uint8)
    speck[5, 6] = 255
    assert cv2.imwrite(str(mvtec.given / "ground_truth/scratch_head/000_mask.png"), speck)
    with pytest.warns(UserWarning, match="1 of 2 masks are empty at 32 x 32"):
        _ = MVTecAD(mvtec.given.parent, "screw", size=32).test
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "3 training images, 3 test images" in mvtec("--from", mvtec.given)


def test_a_dry_run_touches_nothing(one_set, server, tmp_path):
    printed = one_set("--dry-run", "--mirror", "http://nearer/")
    assert f"http://nearer/{one_set.packed.name}" in printed
    assert (server.at in printed) == (one_set.name != "shanghaitech")
    assert "would be taken from" in one_set("--dry-run", "--from", tmp_path)
    assert not server.log and not (tmp_path / "data").exists()


@pytest.mark.parametrize("how", [(), ("--copy",)])
def test_from_a_folder_or_one_above_it(one_set, server, tmp_path, how):
    (tmp_path / "images").mkdir()  # of something else
    one_set.packed.unlink()  # an archive would be taken first
    for source in (one_set.given, one_set.given.parent, tmp_path):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        assert PRINTED[one_set.name][1] in one_set("--from", source, *how)
        for name in PLACED[one_set.name]:
            assert (tmp_path / "data" / one_set.name / name).is_symlink() == (not how)
    assert not server.log


def test_from_an_archive_unless_it_was_altered(one_set, server, tmp_path):
    whole = one_set.damage()
    says = f"{one_set.packed.name} is not the file it should be"
    assert says in one_set.fails("--from", one_set.packed)
    assert not (tmp_path / "data" / one_set.name).exists()
    one_set.packed.write_bytes(whole)
    assert PRINTED[one_set.name][1] in one_set("--from", one_set.packed)
    assert one_set.packed.exists() and not server.log


def test_nothing_is_taken_from_nowhere(one_set, tmp_path):
    assert "no such file or folder" in one_set.fails("--from", tmp_path / "nowhere")
    assert not (tmp_path / "data").exists()


def test_without_a_folder_named_it_is_the_cache(mvtec, tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mvtec, "to", "")
    assert f'data = "{tmp_path / "cache" / "data"}"' in mvtec()
    assert (tmp_path / "cache" / "data" / "mvtec" / "screw" / "train").is_dir()
    fetch("mvtec", str(tmp_path / "other"), source=mvtec.given)  # the same in Python
    assert (tmp_path / "other" / "mvtec" / "screw").is_symlink()


def test_an_unknown_set_or_category_is_told_what_there_is(mvtec, dtd):
    assert "screw, or all" in mvtec.fails("--category", "scruw")
    assert "dtd has none" in dtd.fails("--category", "screw")
    dtd.name = "imagenet"
    assert "mvtec, avenue, dtd, shanghaitech" in dtd.fails()


@pytest.mark.parametrize("options", [["--to", "data"], ["--fetch", "dtd", "--data", "data"]])
def test_options_that_do_not_go_together_are_refused(options):
    done = CliRunner().invoke(cli.main, ["data", *options])
    assert done.exit_code == 2 and "--fetch" in done.output


def test_categories_are_chosen_one_by_one_or_all():
    chosen = SOURCES["mvtec"].chosen
    names = [name for (name,) in chosen(["zipper", "cable"]).values()]
    assert names == ["zipper", "cable"] and len(chosen(["all"])) == 15
    assert list(chosen([]).values()) == [("screw",)]


def test_an_incomplete_category_is_named(mvtec):
    (mvtec.given / "train" / "good" / "001.png").unlink()
    says = mvtec.fails("--from", mvtec.given)
    assert re.search(r"screw holds 2 training and 3 test.*has 3 and 3", says)
    shutil.rmtree(mvtec.to)
    assert "no folder named screw" in mvtec.fails("--from", mvtec.given / "train")


def test_killed_while_unpacking(mvtec, server, monkeypatch):
    """A half-unpacked category is never taken for a whole one."""
    with monkeypatch.context() as killed:
        killed.setattr(placing, "place_found", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped = mvtec.run()
    assert stopped.exit_code == 130 and "run again to go on" in stopped.output
    assert not (mvtec.to / "mvtec").exists()
    assert "3 training images" in mvtec() and len(server.log) == 1  # the archive was kept


def test_a_zip_made_on_a_mac_holds_no_second_category(mvtec, tmp_path):
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as packed:
        packed.writestr("__MACOSX/screw/._x.png", b"none of the data")
    assert "no folder named screw" in mvtec.fails("--from", tmp_path / "mac.zip")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        packed.writestr("__MACOSX/screw/._x.png", b"none of the data")
        for path in mvtec.given.rglob("*.png"):
            packed.write(path, Path("set", path.relative_to(mvtec.given.parent)))
        packed.writestr("set/screw/train/good/._000.png", b"none of the data")
    assert PRINTED["mvtec"][1] in mvtec("--from", tmp_path / "set.zip")
    assert "screw/train/good/000.png" in mvtec.placed()
    assert not any("._x" in name for name in mvtec.placed())


def test_a_folder_beside_that_holds_something_else(dtd, shanghaitech, tmp_path):
    (tmp_path / "other" / "images").mkdir(parents=True)
    (tmp_path / "other" / "training").mkdir(parents=True)
    assert "other/images holds no folders" in dtd.fails("--from", tmp_path / "other")
    assert "other/training holds no clips" in shanghaitech.fails("--from", tmp_path / "other")
    shutil.rmtree(shanghaitech.given / "testing" / "test_frame_mask")
    assert "no frame labels" in shanghaitech.fails("--from", shanghaitech.given)
    assert not (tmp_path / "data").exists()


def test_dtd_unpacked_into_a_folder_of_its_own_is_there(dtd, server, tmp_path):
    shutil.copytree(dtd.given, tmp_path / "data" / "dtd-r1.0.1" / "dtd")
    assert f"In {tmp_path}/data/dtd-r1.0.1/dtd. " in dtd() and not server.log


def test_avenue_is_two_archives(avenue, server):
    printed = avenue()
    assert "testing: 1 of 21 videos, 3 frames" in printed and "1 abnormal test frames" in printed
    assert "not the whole of CUHK Avenue" in printed and "for research only" in printed
    assert "testing_videos/01.avi" in avenue.placed()
    assert "testing_videos/decoy.avi" not in avenue.placed()
    assert avenue() and len(server.log) == 2


def test_avenue_from_archives_one_by_one(avenue, server, tmp_path):
    assert "ground_truth_demo.zip" in avenue.fails("--from", tmp_path / "Avenue_Dataset.zip")
    assert avenue("--from", tmp_path / "ground_truth_demo.zip") and not server.log


def test_small_frames_do_not_stay_in_the_cache(avenue, tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))
    avenue()
    assert os.environ["FMABS_CACHE"] == str(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# --- ShanghaiTech: in parts, by hand -------------------------------------------------------


@pytest.fixture
def parts(tmp_path, shanghaitech):
    """A folder with the archive in seven parts, and something else."""
    packed = shanghaitech.packed.read_bytes()
    folder, step = tmp_path / "parts", -(-len(packed) // 7)
    folder.mkdir()
    for number, letter in enumerate("abcdefg"):
        piece = packed[number * step : (number + 1) * step]
        (folder / f"shanghaitech.tar.gz.a{letter}").write_bytes(piece)
    (folder / "shanghaitech.tar.gz.asc").write_text("a signature, say")
    return folder


def changed(monkeypatch, **values):
    """The tiny ShanghaiTech's archive with other properties."""
    ((one, folders),) = SOURCES["shanghaitech"].contents.items()
    contents = {replace(one, **values): folders}
    monkeypatch.setattr(SOURCES["shanghaitech"], "contents", contents)


def test_it_is_said_that_no_address_is_known_and_what_to_do(shanghaitech, server):
    says = r"no training and no testing\.\nOpen https://svip-[\s\S]*to \.ag[\s\S]*--from"
    assert re.search(says, shanghaitech.fails())
    assert "no address is known for training, testing.\nOpen" in shanghaitech("--dry-run")
    assert not server.log and not shanghaitech.to.exists()


def test_another_file_on_a_mirror_is_refused(shanghaitech, server):
    server.files["/shanghaitech.tar.gz"] = b"another file"
    says = shanghaitech.fails("--mirror", server.at)
    assert "shanghaitech.tar.gz.part is not the file it should be" in says
    assert not (shanghaitech.to / "shanghaitech").exists()


@pytest.mark.parametrize("source", ["parts", "parts/shanghaitech.tar.gz.ac"])
def test_from_its_parts(shanghaitech, parts, server, tmp_path, source):
    printed = shanghaitech("--from", tmp_path / source)
    assert "joining 7 parts" in printed and "SHA-256 is the one that anomalib had" in printed
    assert "testing: 1 of 107 videos, 3 frames" in printed
    assert sorted(os.listdir(shanghaitech.to)) == ["checksums.json", "shanghaitech"]
    assert len(list(parts.iterdir())) == 8 and not server.log  # the reader's files are left


def test_from_parts_of_another_release(shanghaitech, parts, monkeypatch):
    changed(monkeypatch, sha256="0" * 64)
    assert "their SHA-256 is not the one that anomalib had" in shanghaitech("--from", parts)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("aa", "shanghaitech.tar.gz.aa is missing"),
        ("ad", "shanghaitech.tar.gz.ad is missing: download this part"),
        ("ag", r"cannot be unpacked.*joined from shanghaitech.tar.gz.aa to .*\.af.*seven parts"),
    ],
)
def test_with_a_part_missing(shanghaitech, parts, lost, says):
    (parts / f"shanghaitech.tar.gz.{lost}").unlink()
    assert re.search(says, shanghaitech.fails("--from", parts))
    assert not (shanghaitech.to / "shanghaitech").exists()
    assert not list(shanghaitech.to.glob("downloads/joined*"))


def test_the_archive_is_found_in_a_folder(shanghaitech, tmp_path):
    (tmp_path / "downloads").mkdir()
    shanghaitech.packed.rename(tmp_path / "downloads" / "shanghaitech.tar.gz")
    assert "testing: 1 of 107" in shanghaitech("--from", tmp_path / "downloads")


def test_room_is_needed_for_its_masks(shanghaitech, parts, server, monkeypatch):
    changed(monkeypatch, unpacked=10**18)
    for how in (["--from", parts], ["--from", shanghaitech.packed], ["--mirror", server.at]):
        assert "are needed" in shanghaitech.fails(*how)
    assert not (shanghaitech.to / "shanghaitech").exists()


# --- what is known, and what is said of it -------------------------------------------------


def test_the_lists_are_sound():
    sources = SOURCES.values()
    archives = [one for source in sources for one in (*source.contents, *source.also)]
    assert len(archives) == 20 and len({one.sha256 for one in archives}) == 20
    assert all(re.fullmatch("[0-9a-f]{64}", one.sha256) for one in archives)
    assert all(url.endswith("/" + one.name) for one in archives for url in one.urls)
    assert np.sum(list(SOURCES["mvtec"].counts.values()), axis=0).tolist() == [3629, 1725]


@pytest.mark.parametrize("name", SOURCES)
def test_help_of_script_and_command_says_what_is_not_verified(name, monkeypatch, capsys):
    script = SCRIPTS / f"download_{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(script), run_name="__main__")
    command = CliRunner().invoke(cli.main, ["data", "--fetch", name, "--help"]).output
    assert "could not be verified: " in SOURCES[name].notes
    for printed in (capsys.readouterr().out, command):
        assert printed.startswith("Usage: ") and printed.endswith(SOURCES[name].notes + "\n")
