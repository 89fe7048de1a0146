"""ShanghaiTech Campus: both layouts, scenes, labels and their check, and every error."""

import shutil

import cv2
import numpy as np
import pytest

from fmabs_lite.data import DataError, ShanghaiTech, Windows, open_data
from fmabs_lite.data.shanghaitech import campus_labels, scene_and_number

SIZE = (18, 32)
TRAIN = {"01_001": 3, "01_002": 4, "01_003": 5, "02_001": 6, "10_002": 2}
LABELS = {"01_0014": [0, 0, 1, 1, 0], "02_0014": [1, 1, 1], "10_0002": [0, 1, 0, 0]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))


def write_video(path, length, first=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 24, (64, 36))
    for value in range(first, first + length):
        video.write(np.full((36, 64, 3), 20 * value, np.uint8))
    video.release()


def write_frames(folder, length, start=0, first=0):
    folder.mkdir(parents=True)
    for number in range(length):
        image = np.full((36, 64), 20 * (first + number), np.uint8)
        assert cv2.imwrite(str(folder / f"{start + number:03d}.jpg"), image)


def write_labels(root, name, labels):
    for kind in ("frame", "pixel"):
        (root / f"testing/test_{kind}_mask").mkdir(parents=True, exist_ok=True)
    labels = np.array(labels, np.uint8)
    corner = np.zeros((36, 64), np.uint8)
    corner[:18, :32] = 1
    np.save(root / f"testing/test_frame_mask/{name}.npy", labels)
    np.save(root / f"testing/test_pixel_mask/{name}.npy", labels[:, None, None] * corner)


def check_file(root):
    return root.parent / "labels/frame_labels_shanghai.npy"


def write_check(root, labels):
    check_file(root).parent.mkdir(exist_ok=True)
    np.save(check_file(root), np.array(labels, np.uint8))


@pytest.fixture
def root(tmp_path):
    """The official layout; frame k of a test clip of scene s is 20 (s % 7 + k)."""
    root = tmp_path / "shanghaitech"
    for name, length in TRAIN.items():
        write_video(root / f"training/videos/{name}.avi", length)
    for name, labels in LABELS.items():
        scene = int(name[:2])
        write_frames(root / f"testing/frames/{name}", len(labels), first=scene % 7)
        write_labels(root, name, labels)
    write_check(root, sum(LABELS.values(), []))
    return root


def test_two_numbers_tell_videos_apart_and_order_them(root):
    assert scene_and_number("04_0011", root) == (4, 11)
    campus = ShanghaiTech(root, SIZE)
    assert [(clip.name, len(clip)) for clip in campus.train] == list(TRAIN.items())
    assert [clip.name for clip in campus.test] == ["01_0014", "02_0014", "10_0002"]
    assert {clip.frames.shape[1:] for clip in campus.train + campus.test} == {(1, *SIZE)}
    assert all(clip.labels is None and clip.masks is None for clip in campus.train)
    assert len(Windows(campus.train, 3)) == sum(max(0, length - 2) for length in TRAIN.values())


def test_frames_labels_and_masks_belong_together(root):
    for clip, (name, labels) in zip(ShanghaiTech(root, SIZE).test, LABELS.items(), strict=True):
        first = int(name[:2]) % 7
        shown = (clip.frames[:, 0, 0, 0].astype(int) + 10) // 20
        assert shown.tolist() == [first + k for k in range(len(labels))]
        assert clip.labels.tolist() == labels and clip.labels.dtype == np.int8
        assert clip.masks.shape == (len(labels), *SIZE) and clip.masks.dtype == bool
        assert clip.masks.any((1, 2)).tolist() == [bool(label) for label in labels]
        assert clip.masks[:, :9, :16].sum() == clip.masks.sum() == sum(labels) * 9 * 16


def test_labels_shifted_by_one_frame_are_seen(root):
    shifted = np.roll(LABELS["01_0014"], 1)
    write_labels(root, "01_0014", shifted)
    says = r"frame_labels_shanghai.npy and .*01_0014.npy disagree, first at frame 2 \(from 0\)"
    with pytest.raises(DataError, match=says):
        _ = ShanghaiTech(root, SIZE).test
    check_file(root).unlink()
    assert ShanghaiTech(root, SIZE).test[0].labels.tolist() == shifted.tolist()


def test_the_check_covers_all_videos_also_absent_and_unchosen_ones(root):
    shutil.rmtree(root / "testing/frames/01_0014")
    assert [clip.name for clip in ShanghaiTech(root, SIZE, scenes=[10]).test] == ["10_0002"]
    assert {name: list(labels) for name, labels in campus_labels(root).items()} == LABELS
    write_labels(root, "01_0014", [0, 0, 0, 0, 0])
    with pytest.raises(DataError, match="01_0014.npy disagree, first at frame 2"):
        _ = ShanghaiTech(root, SIZE, scenes=[10]).test


@pytest.mark.parametrize("place", ["", "labels"])
def test_the_check_is_found_in_the_set_as_well(root, place):
    (root / place).mkdir(exist_ok=True)
    shutil.move(check_file(root), root / place / check_file(root).name)
    np.save(root / place / check_file(root).name, np.zeros(12, np.uint8))
    with pytest.raises(DataError, match="disagree, first at frame 2"):
        campus_labels(root)


@pytest.mark.parametrize("scenes", [[1, 10], ["10", "01"]])
def test_scenes_select_both_splits(root, scenes):
    campus = ShanghaiTech(root, SIZE, scenes=scenes)
    assert [clip.name for clip in campus.train] == ["01_001", "01_002", "01_003", "10_002"]
    assert [clip.name for clip in campus.test] == ["01_0014", "10_0002"]
    assert campus.test[1].labels.tolist() == LABELS["10_0002"]


def test_a_scene_may_have_training_videos_only(root):
    shutil.rmtree(root / "testing/frames/10_0002")
    campus = ShanghaiTech(root, SIZE, scenes=[10])
    assert len(campus.train) == 1
    with pytest.raises(DataError, match="Scene 10, asked for .*testing/frames. .* there: 01, 02"):
        _ = campus.test
    with pytest.raises(DataError, match="Scene 05.*training/videos. Scenes there: 01, 02, 10"):
        _ = ShanghaiTech(root, SIZE, scenes=["05"]).train


def test_every_thins_the_training_videos_of_each_scene(root):
    campus = ShanghaiTech(root, SIZE, every=2)
    assert [(clip.name, len(clip)) for clip in campus.train] == [
        ("01_001", 3), ("01_003", 5), ("02_001", 6), ("10_002", 2),
    ]  # fmt: skip
    assert len(campus.test) == len(LABELS)
    with pytest.raises(ValueError, match="every is 0"):
        ShanghaiTech(root, every=0)


@pytest.mark.parametrize(("place", "start"), [("training/frames", 0), ("training", 1)])
def test_training_frames_that_public_code_cuts_out_serve_as_videos(root, place, start):
    shutil.rmtree(root / "training")
    for name, length in TRAIN.items():
        write_frames(root / place / name, length, start)
    train = ShanghaiTech(root, SIZE).train
    assert [(clip.name, len(clip)) for clip in train] == list(TRAIN.items())
    assert ((train[3].frames[:, 0, 0, 0].astype(int) + 10) // 20).tolist() == [0, 1, 2, 3, 4, 5]


def test_test_frames_and_labels_may_lie_one_level_higher(root):
    for name in LABELS:
        shutil.move(root / f"testing/frames/{name}", root / "testing" / name)
    (root / "testing/frames").rmdir()
    shutil.move(root / "testing/test_frame_mask", root / "frame_masks")
    assert [clip.labels.tolist() for clip in ShanghaiTech(root, SIZE).test] == list(LABELS.values())


def test_pixel_masks_may_be_left_out(root):
    shutil.rmtree(root / "testing/test_pixel_mask")
    assert [clip.masks for clip in ShanghaiTech(root, SIZE).test] == [None] * len(LABELS)


def test_masks_of_several_numbers_count_all_of_them(root):
    masks = np.load(pixel_mask(root)).astype(np.int32)
    masks[:, :, :8] *= 100  # two numbers, of which one is more than twice the other
    np.save(pixel_mask(root), masks)
    clip = ShanghaiTech(root, SIZE).test[0]
    assert clip.masks.sum((1, 2)).tolist() == [9 * 16 * label for label in LABELS["01_0014"]]


def test_two_label_files_of_one_video_are_an_error(root):
    shutil.copy(frame_mask(root), frame_mask(root, "1_14"))
    with pytest.raises(DataError, match=r"01_0014.npy and .*1_14.npy stand for the same"):
        campus_labels(root)


def test_colour_on_request(root):
    assert ShanghaiTech(root, SIZE, grey=False).test[1].frames.shape == (3, 3, *SIZE)


def test_the_folder_is_found_by_the_name_of_the_set(root):
    assert open_data(str(root.parent)).shanghaitech == root


def frame_mask(root, name="01_0014"):
    return root / f"testing/test_frame_mask/{name}.npy"


def pixel_mask(root, name="01_0014"):
    return root / f"testing/test_pixel_mask/{name}.npy"


def cut_short(path):
    np.save(path, np.load(path)[:-1])


def drop_all_labels(root):
    for path in (root / "testing/test_frame_mask").iterdir():
        path.unlink()


def rename_video(root):
    (root / "training/videos/01_001.avi").rename(root / "training/videos/first.avi")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda r: shutil.rmtree(r / "training"), "no training videos.*training/frames.*Campus"),
        (lambda r: shutil.rmtree(r / "testing/frames"), "testing holds no clips"),
        (lambda r: shutil.rmtree(r / "testing"), "no testing videos.*not the crowd-counting"),
        (lambda r: shutil.rmtree(frame_mask(r).parent), "no frame labels.*test_frame_mask, frame_"),
        (drop_all_labels, "test_frame_mask holds no labels .01_0014.npy"),
        (lambda r: cut_short(check_file(r)), "holds 11 labels, but the 3 files in .* hold 12"),
        (lambda r: np.save(check_file(r), np.full(12, 2)), "shanghai.npy should hold a 0 or a 1"),
        (lambda r: check_file(r).write_bytes(b""), "shanghai.npy cannot be read as an array"),
        (lambda r: np.save(frame_mask(r), np.full(5, 255)), "01_0014.npy should hold a 0 or a 1"),
        (lambda r: np.save(frame_mask(r), np.array([])), "01_0014.npy should hold a 0 or a 1"),
        (lambda r: frame_mask(r).write_bytes(b"no array"), "01_0014.npy cannot be read as an "),
        (lambda r: frame_mask(r).rename(frame_mask(r, "first")), "first.npy: its name is not a sc"),
        (lambda r: cut_short(pixel_mask(r)), r"_mask/01_0014.npy has the shape \(4, .*hold 5 mas"),
        (lambda r: np.save(pixel_mask(r), np.ones(5)), r"has the shape \(5,\).*do without masks"),
        (lambda r: pixel_mask(r).unlink(), "test_pixel_mask/01_0014.npy is missing"),
        (lambda r: (r / "testing/frames/01_0014/002.jpg").unlink(), "frame 1 is followed by 3"),
        (lambda r: (r / "testing/frames/01_0014/004.jpg").unlink(), "holds 4 frames, .* labels 5"),
        (lambda r: (r / "training/videos/01_001.avi").write_bytes(b""), "001.avi cannot be dec"),
        (lambda r: (r / "training/videos/01_009.avi.part").touch(), "009.avi.part is a download"),
        (rename_video, "first.avi: its name is not a scene and a number, such as 01_0014"),
    ],
)
def test_what_is_wrong_is_named_with_its_path_and_a_remedy(root, damage, says):
    damage(root)
    campus = ShanghaiTech(root, SIZE)
    with pytest.raises(DataError, match=says):
        _ = campus.train, campus.test


def test_a_video_without_labels_is_named(root):
    check_file(root).unlink()
    frame_mask(root, "02_0014").unlink()
    with pytest.raises(DataError, match="frames/02_0014 has no labels: 02_0014.npy is missing in"):
        _ = ShanghaiTech(root, SIZE).test
