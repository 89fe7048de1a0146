"""The study: equal weights and batches, every training once, and its numbers by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

import fmabs_lite.lesson.study as study_module
import fmabs_lite.training as training
from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.data.brightness import brightness
from fmabs_lite.data.drawn import minis
from fmabs_lite.data.mvtec import MVTecAD
from fmabs_lite.lesson.study import Study, asked
from fmabs_lite.metrics import auroc
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.training import collect

FEW = minis.Amounts(train=6, good=3, each=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    for category in ("screw", "carpet"):
        for part in ("train/good", "test/good", "test/scratch", "test/stain"):
            minis.write_pictures(root / category, part, seed=0, amounts=FEW)
    return root


@pytest.fixture(autouse=True)
def outside_a_run(monkeypatch):
    monkeypatch.delenv("FMABS_RUN_DIR", raising=False)


def study(root, category: str = "screw", **options) -> Study:
    options = dict(steps=3, batch_size=2, lr=1e-3) | options
    return Study(MVTecAD(root, category, size=32), auto_encoder, **options)


def auto_encoder() -> Reconstruction:
    return Reconstruction(AutoEncoder(width=4, code=4))


@pytest.fixture(scope="module")
def shared(root) -> Study:
    return study(root)


def plain_mimicry(detector, teacher) -> Boosted:
    return Boosted(detector, teacher)


def attentive(detector, teacher) -> Boosted:
    return Boosted(detector, teacher, attention=SpatioChannelAttention(4, 2), score_weight=0.5)


def weights(module: torch.nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten().float() for value in module.state_dict().values()])


# ---- fairness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 3])
def test_a_student_that_mimics_nothing_becomes_the_control(shared, seed):
    student = shared.student("nothing", seed, lambda d, t: Boosted(d, t, weight=0.0))
    assert torch.equal(weights(student.network), weights(shared.control(seed).network))
    mimic = shared.student("mimics", seed, plain_mimicry)
    assert not torch.equal(weights(mimic.network), weights(shared.control(seed).network))


def test_first_weights_and_batches_are_the_same_for_all_of_a_seed(root, monkeypatch):
    calls = []

    def fit(detector, data, *, seed, checkpoint, **training):
        calls.append((checkpoint.split("-")[1], seed, weights(detector.network), training))

    monkeypatch.setattr(study_module, "fit", fit)
    fresh = study(root, steps=7, batch_size=5, lr=0.25, precision="bf16")
    fresh.teacher(2), fresh.control(2), fresh.control(3)
    fresh.student("plain", 2, plain_mimicry), fresh.student("SCA", 2, attentive)
    names, seeds, first, training = zip(*calls, strict=True)
    assert names == ("teacher", "control", "control", "plain", "SCA")
    assert seeds[1] == seeds[3] == seeds[4] and len({seeds[0], seeds[1], seeds[2]}) == 3
    assert torch.equal(first[1], first[3]) and torch.equal(first[1], first[4])
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    same = dict(steps=7, batch_size=5, lr=0.25, precision="bf16", milestones=())
    assert all(t == same for t in training)


def test_the_attentions_first_weights_come_from_the_seed(root, monkeypatch):
    monkeypatch.setattr(study_module, "fit", lambda *args, **options: None)
    found = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        fresh = study(root)
        if noise == 2:
            fresh.teacher(seed)  # whether it is there already must not matter
        torch.manual_seed(noise)
        found.append(weights(fresh.student("SCA", seed, attentive).attention))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_the_teacher_of_a_student_is_that_of_its_seed(shared):
    student = shared.student("mimics", 3, plain_mimicry)
    assert torch.equal(weights(student.teacher), weights(shared.teacher(3).network))
    assert all(p.requires_grad for p in shared.teacher(3).parameters())


def test_the_images_are_levelled_to_the_training_images_brightness(shared):
    target = brightness(shared.part.train.images).mean()
    for images in (shared.train, shared.test):
        assert images.dtype == torch.uint8
        assert (brightness(images) - target).abs().max() < 1
    assert shared.train.shape == (6, 3, 32, 32) and shared.test.shape == (5, 3, 32, 32)


# ---- once --------------------------------------------------------------------------------------


def test_everything_is_trained_once_and_kept(root, monkeypatch):
    names = []
    monkeypatch.setattr(study_module, "fit", lambda *a, checkpoint, **o: names.append(checkpoint))
    fresh = study(root)
    for _ in range(2):
        student = fresh.student("mimics (w = 0.5)", 1, plain_mimicry)
        assert fresh.student("mimics (w = 0.5)", 1, attentive) is student
        assert fresh.teacher(1) is fresh.teacher(1)
        assert fresh.control(1) is fresh.control(1)
    # Names of files: no sign that a file system minds.
    written = "screw-mimics%20%28w%20%3D%200.5%29-1-3"
    assert names == ["screw-teacher-1-3", written, "screw-control-1-3"]


def test_a_student_may_be_trained_for_other_steps(root, monkeypatch):
    trained = []
    monkeypatch.setattr(study_module, "fit", lambda *a, steps, **o: trained.append(steps))
    fresh = study(root)
    short, long = (fresh.student("mimics", 0, plain_mimicry, steps) for steps in (1, None))
    assert short is not long and trained == [3, 1, 3]  # the teacher first


def test_studies_of_two_categories_keep_their_files_apart(root, tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_RUN_DIR", str(tmp_path))
    screw, carpet = (study(root, category).teacher(0) for category in ("screw", "carpet"))
    assert not torch.equal(weights(screw), weights(carpet))
    again = study(root, "carpet").teacher(0)  # from its file
    assert torch.equal(weights(again), weights(carpet))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


# ---- measures ----------------------------------------------------------------------------------


def test_measure_by_hand(root):
    fresh = study(root, sigma=0)
    control = fresh.control(0)
    found = fresh.measure(control)
    maps, test = collect(control, fresh.test)["map_o"], fresh.part.test
    masks, labels = test.masks.numpy().astype(bool), np.asarray(test.labels)
    assert labels.sum() == 2 and masks.any() and not masks[labels == 0].any()
    assert set(found) == {"pixel", "ap", "pro", "image", "defect", "sound"}
    inside = sum(maps[n][masks[n]].sum() for n in range(5)) / masks.sum()
    assert found["defect"] == pytest.approx(inside, rel=1e-5)
    assert found["sound"] == pytest.approx(np.mean([maps[n].mean() for n in range(5)
                                                    if labels[n] == 0]), rel=1e-5)  # fmt: skip
    assert found["pixel"] == pytest.approx(auroc(maps.ravel(), masks.ravel()))
    assert found["image"] == pytest.approx(auroc(maps.max(axis=(1, 2)), labels))


def test_measure_of_a_hybrid_by_hand(root):
    fresh = study(root, sigma=0)
    student = fresh.student("SCA", 0, attentive)
    found = fresh.measure(student)
    own = ("pixel", "ap", "pro", "image")
    assert set(found) == {*own, "defect", "sound", *(f"hybrid_{key}" for key in own)}
    seen, known = collect(student, fresh.test), collect(student, fresh.train)
    # 32 × 32 pixels over 4 × 4 places: resize without the package's own helper.
    fea = torch.nn.functional.interpolate(
        torch.from_numpy(seen["map_fea"])[:, None], (32, 32), mode="bilinear", align_corners=False
    )[:, 0].numpy()
    fea = (fea - known["map_fea"].mean()) / known["map_fea"].std()
    error = (seen["map_o"] - known["map_o"].mean()) / known["map_o"].std()
    total = 0.5 * fea + 0.5 * error
    masks = fresh.part.test.masks.numpy().astype(bool)
    assert found["hybrid_pixel"] == pytest.approx(auroc(total.ravel(), masks.ravel()), abs=1e-4)
    labels = np.asarray(fresh.part.test.labels)
    assert found["hybrid_image"] == pytest.approx(auroc(total.max(axis=(1, 2)), labels))


def test_a_boosted_without_a_score_weight_has_no_hybrid(shared):
    found = shared.measure(shared.student("mimics", 3, plain_mimicry))
    assert not any(name.startswith("hybrid") for name in found)


def test_maps_are_smoothed_by_sigma_and_errors_are_not(root):
    sharp, smooth = (study(root, sigma=sigma) for sigma in (0, 3.0))
    one, other = sharp.measure(sharp.control(0)), smooth.measure(smooth.control(0))
    assert one["defect"] == other["defect"] and one["sound"] == other["sound"]
    assert one["pixel"] != other["pixel"]


def test_the_names_of_its_own_detectors_are_refused(shared):
    with pytest.raises(ValueError, match="'control'.*choose another"):
        shared.student("control", 0, plain_mimicry)


def test_rows_are_asked_for_by_name_and_come_in_their_own_order():
    assert asked([], ["a", "b", "c"]) == asked(["all"], ["a", "b", "c"]) == ["a", "b", "c"]
    assert asked(["c", "a"], iter(["a", "b", "c"])) == ["a", "c"]
    assert asked(["few"], ["a", "b", "c"], iter(["c", "b"])) == ["b", "c"]
    assert asked(["few", "a"], ["a", "b", "c"], ["c"]) == ["a", "c"]
    with pytest.raises(ValueError, match="rows: there is no 'd'; there are a, b, c"):
        asked(["a", "d"], ["a", "b", "c"])
    with pytest.raises(ValueError, match="there is no 'd'"):
        asked(["few"], ["a", "b", "c"], ["d"])


def test_cells_of_a_sweep_train_what_they_share_once(root, tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_SHARED_DIR", str(tmp_path / "shared"))
    steps, step = [], training.Descent.__call__
    monkeypatch.setattr(training.Descent, "__call__", lambda *a: steps.append(1) or step(*a))
    first, second = study(root), study(root)
    one, other = first.teacher(0), second.teacher(0)
    assert torch.equal(weights(one), weights(other)) and len(steps) == 3
    second.student("mimics", 0, plain_mimicry)
    assert len(steps) == 6
    names = sorted(path.name for path in (tmp_path / "shared").glob("*.pt"))
    assert names == ["screw-mimics-0-3.pt", "screw-teacher-0-3.pt"]
