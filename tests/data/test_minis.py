"""The embedded data sets: layouts, exact masks, labels, repeatability, and no easy way out."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from fmabs_lite.data import DTD, ShanghaiTech
from fmabs_lite.data.drawn import minis
from fmabs_lite.data.drawn.drawing import SPECK
from fmabs_lite.data.drawn.figures import Look, ball, fixed, gait, person
from fmabs_lite.data.drawn.footage import (
    CAMPUS,
    HALVES,
    NEAR,
    PAINTS,
    SCRIPTS,
    TRAINING,
    VIEWS,
    Event,
    Scene,
    shoot,
)
from fmabs_lite.data.drawn.goods import DEFECTS, DRAW, _weave, picture
from fmabs_lite.data.drawn.street import FINE, Paint, View, backdrop, film
from fmabs_lite.data.drawn.textures import CONTRAST, SIDES, palette, texture
from fmabs_lite.data.drawn.textures import DRAW as TEXTURES
from fmabs_lite.metrics import auroc
from fmabs_lite.trivial import frame_difference

FEW = minis.Amounts(train=2, good=1, each=1, textures=2, frames=6)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("minis")
    minis.draw(root, seed=0, amounts=FEW, workers=2)
    return root


@pytest.fixture(scope="module")
def avenue():
    """All test clips of MiniAvenue at full length: a list of (frames, masks)."""
    clips = []
    for number in range(len(SCRIPTS["avenue"])):
        frames, masks = zip(*shoot("avenue", "testing", number, 0), strict=True)
        clips.append((np.stack(frames), np.stack(masks)))
    return clips


@pytest.fixture(scope="module")
def campus():
    """All test clips of MiniShanghai at full length: (frames, masks) by scene and number."""
    clips = {}
    for name in CAMPUS:
        for number in range(len(SCRIPTS[name])):
            frames, masks = zip(*shoot(name, "testing", number, 0), strict=True)
            clips[name, number] = np.stack(frames), np.stack(masks)
    return clips


def decoded(root: Path) -> dict[str, np.ndarray]:
    """Every file under `root` as arrays, by its relative path."""
    arrays = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".avi":
            arrays[name] = video(path)
        elif path.suffix == ".mat":
            content = loadmat(path)
            cells = content["volLabel" if "volLabel" in content else "gt"][0]
            arrays[name] = np.concatenate([cell.ravel() for cell in cells])
        elif path.suffix == ".npy":
            arrays[name] = np.load(path)
        else:
            arrays[name] = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return arrays


def video(path: Path) -> np.ndarray:
    reader, frames = cv2.VideoCapture(str(path)), []
    while (read := reader.read())[0]:
        frames.append(read[1])
    return np.stack(frames)


def test_matlab_files_of_equal_sets_have_equal_bytes(tmp_path, monkeypatch):
    cells = np.empty((1, 2), object)
    cells[0] = [np.eye(3, dtype=np.uint8), np.zeros((2, 0), np.uint8)]
    for name, date in (("a", "Mon Jan  1"), ("b", "Tue Jan  2")):
        monkeypatch.setattr("time.asctime", lambda *_, date=date: date)
        savemat(tmp_path / f"{name}_dated.mat", {"gt": cells})
        minis.save_mat(tmp_path / f"{name}.mat", "gt", cells)
    dated, equal = ([(tmp_path / f"{name}{end}").read_bytes() for name in "ab"]
                    for end in ("_dated.mat", ".mat"))  # fmt: skip
    assert dated[0] != dated[1], "else nothing is tested"
    assert equal[0] == equal[1]
    assert np.array_equal(loadmat(tmp_path / "a.mat")["gt"][0, 0], np.eye(3))


# ---- pictures ----------------------------------------------------------------------------------


def test_categories_and_defects_are_those_promised():
    assert set(DRAW) == {"carpet", "screw", "transistor"}
    assert set(DEFECTS) == {"bent", "missing_part", "scratch", "stain", "thread"}


def test_mvtec_layout_is_complete(drawn):
    for category in DRAW:
        folder = drawn / "mvtec" / category
        assert len(list((folder / "train/good").glob("*.png"))) == FEW.train
        assert len(list((folder / "test/good").glob("*.png"))) == FEW.good
        assert {path.name for path in (folder / "test").iterdir()} == {"good", *DEFECTS}
        assert {path.name for path in (folder / "ground_truth").iterdir()} == set(DEFECTS)
        for defect in DEFECTS:
            tested = sorted(path.stem for path in (folder / "test" / defect).iterdir())
            masks = sorted(path.name for path in (folder / "ground_truth" / defect).iterdir())
            assert masks == [f"{stem}_mask.png" for stem in tested] == ["000_mask.png"]
            mask = cv2.imread(str(folder / "ground_truth" / defect / masks[0]), -1)
            assert mask.shape == (128, 128) and set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("category", DRAW)
@pytest.mark.parametrize("defect", DEFECTS)
def test_mask_is_exactly_what_the_defect_changed(category, defect):
    for number in range(2):
        flawed, mask = picture(category, f"test/{defect}", number, seed=0)
        sound, nothing = picture(category, f"test/{defect}", number, seed=0, sound=True)
        assert not nothing.any()
        np.testing.assert_array_equal((flawed != sound).any(-1), mask)
        assert 20 <= mask.sum() <= 0.2 * mask.size
        count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        assert min(np.bincount(parts.ravel())[1:count]) >= SPECK


@pytest.mark.parametrize("category", DRAW)
def test_sound_pictures_have_no_mask_and_all_differ(category):
    shots = [picture(category, folder, 0, 0) for folder in ("train/good", "test/good")]
    shots.append(picture(category, "train/good", 1, 0))
    assert not any(mask.any() for _, mask in shots)
    first, second, third = (image.astype(float) for image, _ in shots)
    assert np.abs(first - second).mean() > 3 and np.abs(first - third).mean() > 3


def test_a_thread_s_edge_has_a_colour_in_every_precision():
    for precision in (np.float32, np.float64):
        edge = np.arange(4, dtype=precision)[:, None] + np.zeros((1, 4), precision)
        colours = _weave(edge, edge.T, np.random.default_rng(0))
        assert colours.shape == (4, 4, 3) and np.isfinite(colours).all()


def test_saved_picture_is_the_drawn_one(drawn):
    image, mask = picture("screw", "test/bent", 0, seed=0)
    folder = drawn / "mvtec/screw"
    saved = cv2.imread(str(folder / "test/bent/000.png"))[..., ::-1]
    np.testing.assert_array_equal(saved, image)
    kept = cv2.imread(str(folder / "ground_truth/bent/000_mask.png"), -1)
    np.testing.assert_array_equal(kept > 0, mask)


# ---- textures ----------------------------------------------------------------------------------


def test_dtd_layout_is_read_by_the_loader(drawn):
    textures = DTD(drawn / "dtd", size=64)
    assert textures.classes == sorted(TEXTURES) and len(TEXTURES) == 6
    assert textures.names == [
        f"{kind}/{kind}_{number:04d}.jpg" for kind in textures.classes for number in (1, 2)
    ]
    assert textures.images.shape == (12, 3, 64, 64)


@pytest.mark.parametrize("kind", TEXTURES)
def test_textures_differ_in_size_and_content_and_are_full_of_contrast(kind):
    shots = [texture(kind, number, 0) for number in range(1, 7)]
    assert all(shot.dtype == np.uint8 and shot.shape[2] == 3 for shot in shots)
    sides = {side for shot in shots for side in shot.shape[:2]}
    assert SIDES[0] <= min(sides) < max(sides) < SIDES[1]
    for shot in shots:  # no corner is left empty, nothing is washed out
        corners = shot[:64, :64], shot[-64:, :64], shot[:64, -64:], shot[-64:, -64:]
        assert min(corner.std((0, 1)).max() for corner in corners) > 8
        assert 5 < shot.mean() < 250
    small = [cv2.resize(shot, (64, 64)).astype(float) for shot in shots]
    differences = [np.abs(a - b).mean() for a in small for b in small if a is not b]
    assert min(differences) > 15


def test_the_first_two_colours_of_a_palette_differ():
    for number in range(50):
        first, second, _ = palette(np.random.default_rng(number), 3)
        assert np.linalg.norm(first - second) >= CONTRAST


def test_saved_texture_is_nearly_the_drawn_one(drawn):
    image = texture("grid", 2, seed=0)
    saved = cv2.imread(str(drawn / "dtd/images/grid/grid_0002.jpg"))[..., ::-1]
    assert saved.shape == image.shape
    assert np.abs(saved.astype(float) - image).mean() < 6  # JPEG


# ---- clips -------------------------------------------------------------------------------------


def test_avenue_layout_and_counts(drawn):
    root = drawn / "avenue"
    train = sorted(path.name for path in (root / "training_videos").iterdir())
    assert train == [f"{k + 1:02d}.avi" for k in range(TRAINING["avenue"])]
    tests = sorted((root / "testing_videos").iterdir())
    assert len(tests) == len(SCRIPTS["avenue"]) >= 5
    for path in tests:
        label = root / "ground_truth_demo/testing_label_mask" / f"{int(path.stem)}_label.mat"
        cells = loadmat(label)["volLabel"]
        frames = video(path)
        assert frames.shape[1:] == (108, 192, 3)
        assert cells.shape == (1, len(frames)) == (1, FEW.frames)
        assert all(c.shape == (108, 192) and c.dtype == np.uint8 and c.max() <= 1 for c in cells[0])
    labels = np.load(drawn / "labels/frame_labels_avenue.npy")
    assert labels.shape == (1, FEW.frames * len(tests)) and labels.dtype == np.int8


def test_saved_video_is_the_drawn_one(drawn):
    frames = np.stack([frame for frame, _ in shoot("avenue", "training", 1, 0, FEW.frames)])
    saved = video(drawn / "avenue/training_videos/02.avi")[..., ::-1]
    np.testing.assert_array_equal(saved, frames)


def test_ped2_layout_and_intervals(drawn):
    root = drawn / "ucsd_ped2"
    names = [f"{index:03d}.png" for index in range(FEW.frames)]
    clips = sorted((root / "testing/frames").iterdir())
    assert len(list((root / "training/frames").iterdir())) == TRAINING["ucsd_ped2"]
    cells = loadmat(root / "ped2.mat")["gt"]
    assert cells.shape == (1, len(clips)) == (1, len(SCRIPTS["ucsd_ped2"]))
    for clip, ends in zip(clips, cells[0], strict=True):
        assert sorted(path.name for path in clip.iterdir()) == names
        masks = [cv2.imread(str(root / "testing/masks" / clip.name / name), -1) for name in names]
        assert masks[0].shape == cv2.imread(str(clip / names[0]), -1).shape == (120, 180)
        said = np.zeros(FEW.frames, bool)
        for start, stop in ends.T:
            said[int(start) - 1 : int(stop)] = True
        np.testing.assert_array_equal(said, [mask.any() for mask in masks])
    assert cells[0, 3].tolist() == [[1], [FEW.frames]]  # the clip in which nothing is normal


def test_campus_layout_is_the_official_one(drawn):
    root = drawn / "shanghaitech"
    train = sorted(path.name for path in (root / "training/videos").iterdir())
    assert train == [f"{s}_{k:03d}.avi" for s in ("01", "04", "07") for k in (1, 2)]
    clips = sorted(path.name for path in (root / "testing/frames").iterdir())
    assert clips == ["01_0014", "01_0015", "04_0003", "04_0011", "07_0005", "07_0007"]
    for clip in clips:
        files = sorted(path.name for path in (root / "testing/frames" / clip).iterdir())
        assert files == [f"{index:03d}.jpg" for index in range(FEW.frames)]
        assert cv2.imread(str(root / "testing/frames" / clip / files[0])).shape == (96, 168, 3)
        labels = np.load(root / f"testing/test_frame_mask/{clip}.npy")
        masks = np.load(root / f"testing/test_pixel_mask/{clip}.npy")
        assert labels.dtype == masks.dtype == np.uint8 and masks.max() <= 1
        assert labels.shape == (FEW.frames,) and masks.shape == (FEW.frames, 96, 168)
        np.testing.assert_array_equal(labels, masks.any((1, 2)))
    labels = np.load(drawn / "labels/frame_labels_shanghai.npy")
    assert labels.shape == (FEW.frames * len(clips),) and labels.dtype == np.uint8


def test_campus_is_read_by_the_loader(drawn, tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path))
    read = ShanghaiTech(drawn / "shanghaitech", (96, 168), grey=False)
    frames = np.stack([frame for frame, _ in shoot(CAMPUS[1], "training", 1, 0, FEW.frames)])
    np.testing.assert_array_equal(read.train[3].frames, frames.transpose(0, 3, 1, 2))
    frames, masks = zip(*shoot(CAMPUS[1], "testing", 1, 0, FEW.frames), strict=True)
    clip = read.test[3]
    assert clip.name == "04_0011" and clip.labels.all()
    np.testing.assert_array_equal(clip.masks, np.stack(masks))
    differences = np.abs(clip.frames - np.stack(frames).transpose(0, 3, 1, 2).astype(float))
    assert differences.mean() < 6  # JPEG


def test_campus_events_show_when_planned_and_one_clip_is_all_abnormal(campus):
    for (name, number), (_, masks) in campus.items():
        shown, planned = masks.any((1, 2)), np.zeros(len(masks), bool)
        for event in SCRIPTS[name][number]:
            during = slice(max(0, event.start), event.stop)
            assert shown[during].mean() > 0.8, (name, event)
            planned[max(0, event.start - 5) : event.stop + 5] = True
        assert not (shown & ~planned).any()
        whole = (name, number) == ("shanghaitech/04", 1)
        assert shown.all() if whole else 0.3 < shown.mean() < 0.75


def test_campus_scenes_differ_in_view_street_and_keeping_of_sides():
    empty = [backdrop(VIEWS[name], np.random.default_rng(0), PAINTS[name]) for name in CAMPUS]
    for one in range(3):
        for other in range(one):
            assert np.abs(empty[one] - empty[other].astype(float)).mean() > 20
    lawn = empty[1][:, -20:].astype(int)  # to the right of scene 04's path, away from the house
    assert (lawn[..., 1] > lawn[..., 2]).mean() > 0.9
    for name in CAMPUS:
        scene = Scene(VIEWS[name], 24, 40, np.random.default_rng(0), NEAR.get(name, 1))
        for walker in scene.crowd(8):
            feet = walker.balls[:, 4:8].mean(1)
            way, y = np.sign(feet[-1, 0] - feet[0, 0]), feet[:, 1].mean()
            half = 1 if y < (HALVES[1][1] + HALVES[-1][0]) / 2 else -1
            assert way == half * (-1 if name == "shanghaitech/04" else 1) or 3 < y < 4.2


def test_an_upright_view_is_walked_through_from_below_to_above():
    view = VIEWS["shanghaitech/04"]
    for share in (0.0, 0.3, 1.0):
        point = np.array([[view.spot(2.0, share), 2.0, 0.9]])
        _, v = view.project(point)[0][0]
        assert v == pytest.approx((1 - share) * view.height * FINE, abs=0.5)
    first, last = (view.project(np.array([[x, 2.0, 0.9]]))[0][0] for x in (6.0, 12.0))
    assert abs(last[0] - first[0]) < 0.2 * (first[1] - last[1])  # up, not across


def test_paint_changes_the_street_and_nothing_else():
    view = View((0, -10, 4), (0, 3, 0), focal=60, height=40, width=60)
    plain, painted = (
        backdrop(view, np.random.default_rng(0), paint) for paint in (Paint(), Paint(wall=150))
    )
    changed = (plain != painted).any(-1)
    assert changed[:15].mean() > 0.3 and not changed[60:].any()  # the wall is above, far away


def test_every_promised_event_is_staged():
    staged = {name: {e.kind for clip in SCRIPTS[name] for e in clip} for name in SCRIPTS}
    assert staged["avenue"] == {
        "running", "throwing", "wrong direction", "bicycle", "loitering"
    }  # fmt: skip
    assert staged["ucsd_ped2"] == {"bicycle", "skater", "cart"}
    assert set().union(*(staged[name] for name in CAMPUS)) == {
        "bicycle", "running", "throwing", "skater", "cart", "wrong direction"
    }  # fmt: skip
    assert all(len(clip) >= 2 for clip in SCRIPTS["avenue"])


def test_every_event_shows_in_its_masks_and_nothing_else_does(avenue):
    for (_, masks), events in zip(avenue, SCRIPTS["avenue"], strict=True):
        shown = masks.any((1, 2))
        planned = np.zeros(len(shown), bool)
        for event in events:
            during = shown[event.start : event.stop]
            assert during.mean() > 0.8, event
            planned[max(0, event.start - 5) : event.stop + 5] = True
        assert not (shown & ~planned).any()
        assert 0.2 < shown.mean() < 0.65


def test_ped2_events_show():
    seen = set()
    for number, kind in ((0, "bicycle"), (1, "skater"), (3, "cart")):
        event = SCRIPTS["ucsd_ped2"][number][0]
        assert event.kind == kind
        last = max(event.start, 0) + 15
        masks = [mask for _, mask in shoot("ucsd_ped2", "testing", number, 0, last)]
        assert masks[-1].any()
        assert event.start < 0 or not np.stack(masks[: event.start - 6]).any()
        seen.add(kind)
    assert len(seen) == 3


def test_training_clips_hold_no_event():
    for name in SCRIPTS:
        assert not any(mask.any() for _, mask in shoot(name, "training", 0, 0, frames=20))


def test_frame_difference_does_not_solve_the_street(avenue):
    labels = np.concatenate([masks.any((1, 2)) for _, masks in avenue])
    for sigma in (2.0, 5.0):
        scores = [
            frame_difference(frames.transpose(0, 3, 1, 2), sigma).max((1, 2))
            for frames, _ in avenue
        ]
        assert 0.55 < auroc(np.concatenate(scores), labels) < 0.85


def test_frame_difference_does_not_solve_the_campus(campus):
    labels = np.concatenate([masks.any((1, 2)) for _, masks in campus.values()])
    scores = [
        frame_difference(frames.transpose(0, 3, 1, 2), 2.0).max((1, 2))
        for frames, _ in campus.values()
    ]
    assert 0.5 < auroc(np.concatenate(scores), labels) < 0.85


def test_people_walk_on_the_ground_and_swing_their_legs():
    rng = np.random.default_rng(0)
    path = np.stack([np.linspace(0, 4, 60), np.zeros(60)], 1)
    look = Look.draw(rng)
    puppet = person(look, gait(path, np.zeros(60), 1.0, 0.0, 0.0))
    soles = puppet.balls[:, 4:8, 2] - 0.05 * look.height / 1.75
    np.testing.assert_allclose(soles.min(1), 0, atol=1e-9)
    knees = puppet.balls[:, 2, 0] - puppet.balls[:, 3, 0]
    assert knees.max() > 0.2 and knees.min() < -0.2


def test_view_projects_by_hand_and_rays_undo_it():
    view = View((0, -10, 0), (0, 0, 0), focal=100, height=40, width=60)
    spots, depth = view.project(np.array([[1.0, 0.0, 0.5]]))
    np.testing.assert_allclose(depth, 10)
    np.testing.assert_allclose(spots, [[FINE * (30 + 10), FINE * (20 - 5)]])
    view = VIEWS["avenue"]
    spots, _ = view.project(np.array(view.eye) + 7 * view.rays(1))
    u = np.broadcast_to(np.arange(view.width) + 0.5, spots.shape[:2])
    np.testing.assert_allclose(spots[..., 0], FINE * u, atol=1e-6)


def test_whoever_is_nearer_hides_an_event():
    view = View((0, -10, 1), (0, 0, 1), focal=100, height=60, width=60)
    street = np.full((60 * FINE, 60 * FINE, 3), 120, np.uint8)
    odd = np.ones(1, bool)

    def shown(y_odd, y_plain):
        centre = np.array([[0.0, y_odd, 1.0]])
        plain = fixed([([(0.0, y_plain, 1.0)], 1.0, (60, 60, 60))], 1)
        event = ball(centre, 0.5, (200, 200, 200), odd)
        return next(film(view, [event, plain], street, np.random.default_rng(0)))[1]

    assert not shown(0, -2).any()
    seen = shown(0, 2)
    assert seen.sum() == pytest.approx(np.pi * 5**2, rel=0.1)  # radius 0.5 m, 10 m away, f = 100


def test_event_mask_is_the_visible_part_of_the_event():
    scene = Scene(VIEWS["avenue"], 25, 40, np.random.default_rng(3))
    puppets = [scene.play(Event("running", 2, 40)), *scene.crowd(8)]
    other = replace(puppets[0], colours=255 - puppets[0].colours)
    street = np.full((108 * FINE, 192 * FINE, 3), 128, np.uint8)
    one = list(film(VIEWS["avenue"], puppets, street, np.random.default_rng(0)))
    two = list(film(VIEWS["avenue"], [other, *puppets[1:]], street, np.random.default_rng(0)))
    for frame in (10, 20, 30):
        (first, mask), (second, same) = one[frame], two[frame]
        differ = (first != second).any(-1)
        np.testing.assert_array_equal(mask, same)
        assert mask.sum() > 50 and differ[mask].mean() > 0.97
        near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert not (differ & ~near).any()


# ---- label sets --------------------------------------------------------------------------------


def test_runs_by_hand():
    flags = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], bool)
    assert minis.runs(flags) == [(1, 3), (4, 5), (8, 9)]
    assert minis.runs(flags, bridge=1) == [(1, 5), (8, 9)]
    assert minis.runs(np.zeros(4, bool)) == []


def test_second_label_set_marks_whole_events_a_little_differently(tmp_path):
    folder = tmp_path / "avenue/ground_truth_demo/testing_label_mask"
    folder.mkdir(parents=True)
    official = np.zeros((len(SCRIPTS["avenue"]), 80), bool)
    official[:, 25:35] = official[:, 40:55] = True  # one event, hidden for five frames
    for number, flags in enumerate(official):
        cells = np.empty((1, 80), object)
        cells[0] = [np.full((3, 4), flag, np.uint8) for flag in flags]
        savemat(folder / f"{number + 1}_label.mat", {"volLabel": cells})
    minis.write_avenue_intervals(tmp_path, seed=0)
    labels = np.load(tmp_path / "labels/frame_labels_avenue.npy").reshape(official.shape)
    assert labels[:, 30:48].all()
    assert not labels[:, :15].any() and not labels[:, 65:].any()
    assert (np.diff(labels, axis=1) == 1).sum(1).tolist() == [1] * len(labels)
    assert (labels != official).any()


# ---- the same again, or not --------------------------------------------------------------------


def test_same_seed_same_arrays_also_in_another_process(drawn, tmp_path):
    jobs = [("avenue", "testing", 4), ("avenue", "training", 0)]
    jobs += [("ucsd_ped2", "testing", 3), ("ucsd_ped2", "training", 2)]
    jobs += [(CAMPUS[2], "testing", 0), (CAMPUS[0], "training", 1)]
    jobs += [("mvtec", category, f"test/{defect}") for category in DRAW for defect in DEFECTS]
    jobs += [("dtd", "images", kind) for kind in TEXTURES]
    for job in jobs:
        minis.write(tmp_path, 0, FEW, job)
    again, first = decoded(tmp_path), decoded(drawn)
    pictures = 2 * FEW.each * len(DRAW) * len(DEFECTS) + FEW.textures * len(TEXTURES)
    assert len(again) == 3 + 3 * FEW.frames + 3 + FEW.frames + pictures
    for name, array in again.items():
        np.testing.assert_array_equal(array, first[name], err_msg=name)


def test_another_seed_other_arrays():
    for category in DRAW:
        one, two = (picture(category, "train/good", 0, seed)[0] for seed in (0, 1))
        assert (one != two).mean() > 0.5
    for name in SCRIPTS:
        one, two = (next(shoot(name, "testing", 0, seed, 5))[0] for seed in (0, 1))
        assert (one != two).mean() > 0.5
    for kind in TEXTURES:
        one, two = (texture(kind, 1, seed)[:128, :128] for seed in (0, 1))
        assert (one != two).mean() > 0.5


def test_a_failing_child_is_reported_with_folder_and_reason(tmp_path):
    (tmp_path / "mvtec").write_text("a file where a folder belongs")
    job = ("mvtec", "screw", "test/good")
    with pytest.raises(OSError, match="could not draw .*mvtec.*Is there room on the disk"):
        minis.delegate(tmp_path, 0, FEW, [job], print)


@pytest.mark.slow
def test_a_child_with_many_complaints_is_not_waited_for_in_vain(tmp_path):
    """More than a pipe holds: a child that cannot write on would wait for ever, and we for it."""
    call = (
        "from pathlib import Path; from fmabs_lite.data.drawn import minis; "
        "few = minis.Amounts(train=1, good=1, each=1, textures=1, frames=2); "
        f"minis.delegate(Path({str(tmp_path)!r}), 0, few, [('mvtec', 'screw', 'test/good')], int)"
    )
    chatty = {**os.environ, "PYTHONVERBOSE": "1"}  # each import is told on stderr, twice
    command = [sys.executable, "-c", call]
    done = subprocess.run(command, env=chatty, capture_output=True, timeout=120)
    assert done.returncode == 0 and len(done.stderr) > 1 << 16
    assert list((tmp_path / "mvtec/screw/test/good").glob("*.png"))


def test_script_refuses_a_folder_that_exists(tmp_path, capsys):
    source = Path(__file__).parents[2] / "data_scripts/make_minis.py"
    spec = importlib.util.spec_from_file_location("make_minis", source)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with pytest.raises(SystemExit):
        script.main(["--out", str(tmp_path)])
    assert "exists already" in capsys.readouterr().err
