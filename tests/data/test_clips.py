"""Frames from videos and folders, their cache, and windows over them."""

import errno
import os
import stat
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmabs_lite.data import Clip, DataError, Windows, cache
from fmabs_lite.data import clips as module
from fmabs_lite.data.clips import find_clips, load_frames
from fmabs_lite.data.folder import cache_dir


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))


def write_video(path, values, size=(32, 48), codec="MJPG"):
    """Grey frames of one brightness each; MJPG keeps them within a few levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, size[::-1])
    assert video.isOpened()
    for value in values:
        video.write(np.full((*size, 3), value, np.uint8))
    video.release()


def write_frames(folder, values, first=0, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, value in enumerate(values, first):
        cv2.imwrite(str(folder / f"{number:03d}.{suffix}"), np.full((32, 48), value, np.uint8))


def cache_files():
    return sorted((cache_dir() / "frames").glob("*.npy"))


def test_a_video_and_a_folder_of_its_frames_give_the_same(tmp_path):
    values = [10, 60, 110, 160]
    write_video(tmp_path / "01.avi", values)
    write_frames(tmp_path / "02", values)
    video = load_frames(tmp_path / "01.avi", (16, 24), grey=True)
    folder = load_frames(tmp_path / "02", (16, 24), grey=True)
    assert video.shape == folder.shape == (4, 1, 16, 24)
    assert video.dtype == np.uint8 and isinstance(video, np.memmap)
    assert folder[:, 0, 0, 0].tolist() == values
    assert np.abs(video.astype(int) - folder).max() <= 3


def test_colour_frames_come_as_red_green_blue(tmp_path):
    (tmp_path / "01").mkdir()
    cv2.imwrite(str(tmp_path / "01/000.png"), np.full((8, 8, 3), (1, 2, 3), np.uint8))  # BGR
    frames = load_frames(tmp_path / "01", (8, 8), grey=False)
    assert frames.shape == (1, 3, 8, 8) and frames[0, :, 0, 0].tolist() == [3, 2, 1]


def test_frames_follow_their_numbers_not_their_spelling(tmp_path):
    (tmp_path / "01").mkdir()
    for number in (8, 9, 10):
        cv2.imwrite(str(tmp_path / f"01/frame_{number}.png"), np.full((8, 8), number, np.uint8))
    assert load_frames(tmp_path / "01", (8, 8), grey=True)[:, 0, 0, 0].tolist() == [8, 9, 10]


def test_frames_are_decoded_once(tmp_path, monkeypatch):
    write_frames(tmp_path / "01", [1, 2])
    first = np.array(load_frames(tmp_path / "01", (16, 24), True))
    monkeypatch.setattr(module, "read_image", None)  # a second decoding would fail
    assert np.array_equal(load_frames(tmp_path / "01", (16, 24), True), first)
    assert len(cache_files()) == 1


def test_another_size_or_changed_source_is_decoded_anew(tmp_path):
    write_frames(tmp_path / "01", [1, 2])
    load_frames(tmp_path / "01", (16, 24), True)
    assert load_frames(tmp_path / "01", (8, 12), True).shape == (2, 1, 8, 12)
    write_frames(tmp_path / "01", [1, 200, 3])
    assert load_frames(tmp_path / "01", (16, 24), True)[:, 0, 0, 0].tolist() == [1, 200, 3]
    assert len(cache_files()) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:40],
        lambda data: b"",
        lambda data: b"\0" * len(data),
    ],
)
def test_a_damaged_cache_file_is_made_again(tmp_path, damage):
    write_frames(tmp_path / "01", [5, 6])
    load_frames(tmp_path / "01", (16, 24), True)
    (path,) = cache_files()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert load_frames(tmp_path / "01", (16, 24), True)[:, 0, 0, 0].tolist() == [5, 6]
    assert path.read_bytes() == good


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path, monkeypatch):
    write_frames(tmp_path / "01", [5, 6])

    def fail(file, *rows):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_save_rows", fail)
    with pytest.raises(OSError, match="No space left.*FMABS_CACHE"):
        load_frames(tmp_path / "01", (16, 24), True)
    assert list((cache_dir() / "frames").iterdir()) == []


def test_decoded_frames_that_two_users_share_have_the_permissions_of_the_umask(tmp_path):
    write_frames(tmp_path / "01", [5, 6])
    before = os.umask(0o002)
    try:
        load_frames(tmp_path / "01", (16, 24), True)
    finally:
        os.umask(before)
    (path,) = cache_files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o775


def test_rows_are_kept_as_numpy_would_write_them_together(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (11, 2, 3), np.uint8)
    (tmp_path / "source").write_bytes(b"")
    got = cache.cached([tmp_path / "source"], "rows", lambda: (row.T for row in rows))
    assert np.array_equal(got, rows.transpose(0, 2, 1)) and got.flags["C_CONTIGUOUS"]
    np.save(tmp_path / "whole.npy", got)
    assert cache_files()[0].read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """Counted, not timed: ten and a thousand frames of 64 kB."""
    (tmp_path / "source").write_bytes(b"")
    peaks = []
    for count in (10, 1000):
        rows = (np.full((1, 256, 256), k % 256, np.uint8) for k in range(count))
        tracemalloc.start()
        frames = cache.cached([tmp_path / "source"], f"{count}", lambda rows=rows: rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert frames.shape == (count, 1, 256, 256) and frames[-1, 0, 0, 0] == (count - 1) % 256
    assert peaks[1] < peaks[0] + 2**16


def test_masks_that_another_rule_made_are_made_again(tmp_path):
    source, size = tmp_path / "masks", (4, 6)
    source.write_bytes(b"")
    former = cache_dir() / "frames" / f"{cache._key([source], f'masks {size}')}.npy"
    cache._write(former, lambda file: np.save(file, np.zeros((2, *size), bool)))
    masks, _ = module.frame_masks([source], size, lambda: [np.eye(4, 6)] * 2, source)
    assert masks.sum() == 8


def test_a_gap_between_frames_is_an_error(tmp_path):
    write_frames(tmp_path / "01", [1, 2, 3, 4])
    (tmp_path / "01/002.png").unlink()
    with pytest.raises(DataError, match=r"01: frame 1 is followed by 3.*without gaps"):
        load_frames(tmp_path / "01", (8, 8), True)


def test_a_frame_that_is_there_twice_is_an_error(tmp_path):
    write_frames(tmp_path / "01", [1, 2])
    write_frames(tmp_path / "01", [1], suffix="jpg")
    with pytest.raises(DataError, match="frame 0 appears twice"):
        load_frames(tmp_path / "01", (8, 8), True)


def test_a_frame_without_a_number_is_an_error(tmp_path):
    write_frames(tmp_path / "01", [1, 2])
    (tmp_path / "01/001.png").rename(tmp_path / "01/cover.png")
    with pytest.raises(DataError, match="cover.png.*does not end in a number"):
        load_frames(tmp_path / "01", (8, 8), True)


def test_a_video_that_breaks_off_is_an_error(tmp_path):
    path = tmp_path / "03.avi"
    write_video(path, range(0, 200, 4))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=f"03.avi breaks off.*{len(data)}.*Download it again"):
        load_frames(path, (8, 8), True)
    assert cache_files() == []


@pytest.mark.parametrize("codec", ["MJPG", "XVID"])
def test_a_video_that_is_damaged_inside_is_an_error(tmp_path, codec):
    path = tmp_path / "03.avi"
    write_video(path, range(0, 240, 4), codec=codec)
    data, third = path.read_bytes(), path.stat().st_size // 3
    assert len(load_frames(path, (8, 8), True)) == 60
    path.write_bytes(data[:third] + bytes(3000) + data[third + 3000 :])
    with pytest.raises(DataError, match=r"03.avi states 60 frames and only \d+ can be decoded"):
        load_frames(path, (8, 8), True)


def test_all_broken_frames_are_named(tmp_path):
    write_frames(tmp_path / "01", range(9))
    for number in range(1, 9):
        (tmp_path / f"01/{number:03d}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"(?s)001.png .*002.png .*005.png .*and 3 more files"):
        load_frames(tmp_path / "01", (8, 8), True)


@pytest.mark.parametrize("content", [b"", b"<html>moved</html>" * 20])
def test_a_file_that_is_no_video_is_an_error(tmp_path, content):
    (tmp_path / "03.avi").write_bytes(content)
    with pytest.raises(DataError, match="03.avi cannot be decoded"):
        load_frames(tmp_path / "03.avi", (8, 8), True)


def test_clips_are_found_by_number_and_hidden_files_left_out(tmp_path):
    write_video(tmp_path / "10.avi", [1])
    write_frames(tmp_path / "Test002", [1])
    write_frames(tmp_path / "Test002_gt", [1])
    write_frames(tmp_path / ".Trash01", [1])
    (tmp_path / "readme.txt").write_text("")
    assert find_clips(tmp_path) == {2: tmp_path / "Test002", 10: tmp_path / "10.avi"}


@pytest.mark.parametrize("other", ["1.avi", "copy_of_01.avi"])
def test_two_videos_of_one_number_are_an_error(tmp_path, other):
    write_video(tmp_path / "01.avi", [1])
    write_video(tmp_path / other, [2])
    with pytest.raises(DataError, match=r"01.avi and .*1.avi stand for the same \(1\)"):
        find_clips(tmp_path)


def test_a_video_and_a_folder_of_one_number_are_an_error_unless_they_have_one_name(tmp_path):
    write_video(tmp_path / "01.avi", [1])
    write_frames(tmp_path / "01", [1])
    assert find_clips(tmp_path) == {1: tmp_path / "01.avi"}
    write_frames(tmp_path / "Test001", [1])
    with pytest.raises(DataError, match=r"01.avi and .*Test001 stand for the same"):
        find_clips(tmp_path)


@pytest.mark.parametrize(("inside", "says"), [
    ([], "Test002 is a clip by its name and holds no frames that can be read, nothing"),
    (["000.txt", "001.txt"], "holds no frames that can be read, only 000.txt, 001.txt"),
    (["000.heic"], "Test002/000.heic: pictures in this format are not read"),
])  # fmt: skip
def test_a_clip_without_frames_among_good_ones_is_an_error(tmp_path, inside, says):
    write_frames(tmp_path / "Test001", [1])
    (tmp_path / "Test002").mkdir()
    (tmp_path / "notes").mkdir()  # no clip by its name
    for name in inside:
        (tmp_path / "Test002" / name).write_bytes(b"")
    with pytest.raises(DataError, match=says):
        find_clips(tmp_path)


def test_a_video_in_another_format_is_an_error(tmp_path):
    write_video(tmp_path / "01.avi", [1])
    (tmp_path / "02.MP4").write_bytes(b"a video")
    with pytest.raises(DataError, match="02.MP4 is a video in a format that is not read.*02.avi"):
        find_clips(tmp_path)


def test_a_partial_download_beside_the_videos_is_an_error(tmp_path):
    write_video(tmp_path / "01.avi", [1])
    (tmp_path / "02.avi.part").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="02.avi.part is a download that was not finished"):
        find_clips(tmp_path)


def test_a_folder_without_clips_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no clips"):
        find_clips(tmp_path)


def numbered_clips(lengths):
    """Pixel values tell clip and frame: 20 * clip + frame."""
    return [
        Clip(str(number), np.arange(20 * number, 20 * number + length, dtype=np.uint8)
             .reshape(length, 1, 1, 1))
        for number, length in enumerate(lengths)
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), length=st.integers(1, 6))
def test_windows_are_all_runs_and_none_crosses_clips(lengths, length):
    expected = [
        [20 * clip + first + step for step in range(length)]
        for clip, frames in enumerate(lengths)
        for first in range(frames - length + 1)
    ]
    if not expected:
        with pytest.raises(DataError, match=f"No window of {length} frames"):
            Windows(numbered_clips(lengths), length)
        return
    windows = Windows(numbered_clips(lengths), length)
    assert len(windows) == len(windows.index) == len(expected)
    batch = windows[range(len(windows))]
    assert batch.dtype == torch.uint8 and batch.shape == (len(expected), length, 1, 1, 1)
    assert batch.flatten(1).tolist() == expected
    for (clip, first), row in zip(windows.index, expected, strict=True):
        assert 20 * clip + first == row[0]


def test_windows_take_tensors_lists_and_numbers_in_any_order():
    windows = Windows(numbered_clips([4, 3]), 2)
    assert windows[torch.tensor([4, 0, 4])].flatten(1).tolist() == [[21, 22], [0, 1], [21, 22]]
    assert torch.equal(windows[[1, 2]], windows[torch.tensor([1, 2])])
    assert windows[3].shape == (1, 2, 1, 1, 1)
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_windows_refuse_clips_that_differ_and_lengths_below_one():
    mixed = [Clip("a", np.zeros((5, 1, 4, 4), np.uint8)), Clip("b", np.zeros((5, 3, 4, 4)))]
    with pytest.raises(DataError, match=r"differ in shape.*\(1, 4, 4\), \(3, 4, 4\)"):
        Windows(mixed, 2)
    with pytest.raises(ValueError, match="length is 0"):
        Windows(mixed[:1], 0)
    with pytest.raises(DataError, match="0 clips"):
        Windows([], 1)
