"""The training loop: the same seed, a killed run, a foreign checkpoint; scores and measures."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from failing import Failing, Killed
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, Subset, TensorDataset

import fmabs_lite.training as training
from fmabs_lite.data.brightness import brightness, level
from fmabs_lite.data.mvtec import Images
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.training import (
    Diverged,
    Losses,
    OutOfTime,
    chosen_precision,
    collect,
    evaluate,
    fit,
)

DATA = torch.randint(0, 256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def detector(seed: int = 0) -> Reconstruction:
    torch.manual_seed(seed)
    return Reconstruction(AutoEncoder(width=4, code=4), damage=0.3)


def weights(system) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in system.parameters()])


def test_training_lowers_the_loss():
    losses = fit(detector(), DATA, steps=60, lr=1e-2)
    assert len(losses) == 60 and np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    runs = []
    for seed in (1, 1, 2):
        system = detector()
        torch.manual_seed(7)
        fit(system, DATA, steps=5, seed=seed)
        assert torch.equal(torch.rand(3), expected)
        runs.append(weights(system))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_to_watch_a_training_does_not_change_it():
    watched, alone, seen = detector(), detector(), []

    def watch(done: int) -> None:
        seen.append((done, collect(watched, DATA)["S_o"].mean()))

    fit(watched, DATA, steps=5, watch=watch)
    fit(alone, DATA, steps=5)
    assert torch.equal(weights(watched), weights(alone))
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5] and watched.training
    assert len({score for _, score in seen}) == 5


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    whole = detector()
    losses = fit(whole, DATA, steps=12)

    path = tmp_path / "a" / "run.pt"
    with pytest.raises(Killed):
        fit(detector(), Failing(DATA, at=8), steps=12, checkpoint=path)
    again = detector(seed=5)  # its own first weights must not matter
    assert fit(again, DATA, steps=12, checkpoint=path) == losses
    assert torch.equal(weights(again), weights(whole))


def test_a_finished_checkpoint_is_taken_as_it_is(tmp_path):
    path = tmp_path / "run.pt"
    first = detector()
    fit(first, DATA, steps=3, checkpoint=path)

    class Untouchable:
        def __len__(self):
            return len(DATA)

        def __getitem__(self, indices):
            raise AssertionError("no step is left to take")

    second = detector(seed=9)
    fit(second, Untouchable(), steps=3, checkpoint=path)
    assert torch.equal(weights(first), weights(second))


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(detector(), DATA, steps=3, checkpoint=path)
    with pytest.raises(ValueError, match=r"run\.pt was made with steps=3 \(now 4\)"):
        fit(detector(), DATA, steps=4, checkpoint=path)


def rates(**options) -> list[float]:
    """The learning rate of each step of Adam."""
    seen = []
    handle = register_optimizer_step_pre_hook(
        lambda optimiser, *_: seen.append(optimiser.param_groups[0]["lr"])
    )
    try:
        fit(detector(), DATA, batch_size=4, **options)
    finally:
        handle.remove()
    return seen


def test_the_learning_rate_of_each_step_by_hand():
    cosine = [0.01 * (1 + np.cos(np.pi * k / 10)) / 2 for k in range(10)]
    assert rates(steps=10, lr=0.01) == pytest.approx(cosine)
    stairs = [0.01] * 8 + [0.002, 0.0004]
    assert rates(steps=10, lr=0.01, milestones=(0.8, 0.9)) == pytest.approx(stairs)
    stairs = [0.01] * 3 + [0.002] * 4  # 7 · 0.45 is rounded to a whole step
    assert rates(steps=7, lr=0.01, milestones=[0.45]) == pytest.approx(stairs)


def test_the_stairs_go_on_where_a_run_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    path, options = tmp_path / "run.pt", dict(steps=10, lr=0.01, milestones=(0.5, 0.8))
    whole = rates(**options)

    with pytest.raises(Killed):
        fit(detector(), Failing(DATA, at=7), batch_size=4, **options, checkpoint=path)
    assert rates(**options, checkpoint=path) == whole[6:]


def test_a_checkpoint_of_other_milestones_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(detector(), DATA, steps=3, milestones=(0.8, 0.9), checkpoint=path)
    with pytest.raises(ValueError, match=r"milestones=\[0\.8, 0\.9\] \(now \[0\.5\]\)"):
        fit(detector(), DATA, steps=3, milestones=(0.5,), checkpoint=path)
    with pytest.raises(ValueError, match=r"milestones=\[0\.8, 0\.9\] \(now \[\]\)"):
        fit(detector(), DATA, steps=3, checkpoint=path)
    fit(detector(), DATA, steps=3, milestones=[0.8, 0.9], checkpoint=path)  # a list is as good


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"run\.pt cannot be read.*\(UnpicklingError: .*Delete it"):
        fit(detector(), DATA, steps=3, checkpoint=path)


def test_a_bare_name_is_kept_in_the_runners_folder_and_said_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("FMABS_RUN_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="bare name .* nothing is written. Give a path") as said:
        fit(detector(), DATA, steps=1, checkpoint="teacher")
    assert [warning.filename for warning in said] == [__file__]
    assert not list(tmp_path.rglob("*.pt"))
    monkeypatch.setenv("FMABS_RUN_DIR", str(tmp_path))
    fit(detector(), DATA, steps=1, checkpoint="teacher")
    assert (tmp_path / "checkpoints" / "teacher.pt").exists()


def test_weights_alone_are_not_called_damaged(tmp_path):
    torch.save(detector().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt is no checkpoint.*load_state_dict"):
        fit(detector(), DATA, steps=3, checkpoint=tmp_path / "weights.pt")


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path):
    with pytest.raises(IsADirectoryError):
        fit(detector(), DATA, steps=3, checkpoint=tmp_path)


@pytest.mark.parametrize("text", ["nets/teacher.pt", "nets/teacher", "teacher.pt"])
def test_text_with_a_folder_or_a_suffix_is_a_path(text, tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    losses = fit(detector(), DATA, steps=2, checkpoint=text)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("teacher*")] == [Path(text)]
    assert fit(detector(5), DATA, steps=2, checkpoint=text) == losses  # and it is read again


def test_a_bare_name_may_hold_a_point(tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_RUN_DIR", str(tmp_path))
    fit(detector(), DATA, steps=1, checkpoint="damage0.5-seed0")
    assert (tmp_path / "checkpoints" / "damage0.5-seed0.pt").exists()


def test_a_checkpoint_made_on_a_gpu_goes_on_without_one(tmp_path, monkeypatch):
    """What torch.save writes of a tensor on a GPU is the same but for the name of its place."""
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    path, whole = tmp_path / "run.pt", detector()
    losses = fit(whole, DATA, steps=6)
    with monkeypatch.context() as gpu:
        gpu.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        with pytest.raises(Killed):
            fit(detector(), Failing(DATA, at=4), steps=6, checkpoint=path)
    assert b"cuda:0" in path.read_bytes()
    again = detector(5)
    assert fit(again, DATA, steps=6, checkpoint=path) == losses
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize("use", [lambda data: fit(detector(), data, steps=1),
                                 lambda data: collect(detector(), data)])  # fmt: skip
def test_data_that_are_not_bytes_are_refused(use):
    with pytest.raises(TypeError, match=r"are torch.float32; give a tensor of uint8.*255 \*"):
        use(DATA.float() / 255)
    with pytest.raises(TypeError, match="are torch.int64; give a tensor of uint8"):
        use(DATA.long())


class Named:
    """Items that a file would hold: read one by one, on demand, and written down."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(DATA)

    def __getitem__(self, number: int) -> torch.Tensor:
        self.read.append(number)
        return DATA[number]


class Together(Named):
    def __getitems__(self, numbers: list[int]) -> list[torch.Tensor]:
        self.read += numbers
        return [DATA[number] for number in numbers]


LAZY = [Named(), Together(), list(DATA), Subset(TensorDataset(DATA).tensors[0], range(20))]


@pytest.mark.parametrize("data", LAZY, ids=["items", "batches", "list", "subset"])
def test_data_read_on_demand_train_and_score_as_one_tensor_does(data):
    lazy, whole = detector(), detector()
    assert fit(lazy, data, steps=9, batch_size=4) == fit(whole, DATA, steps=9, batch_size=4)
    assert torch.equal(weights(lazy), weights(whole))
    for name, part in collect(whole, DATA, batch_size=6).items():
        assert np.array_equal(collect(lazy, data, batch_size=6)[name], part)


def test_what_is_read_ahead_is_what_would_have_been_drawn():
    data, drawn = Named(), torch.Generator().manual_seed(3)
    fit(detector(), data, steps=7, batch_size=4, seed=3)
    expected = [k for _ in range(7) for k in torch.randint(20, (4,), generator=drawn).tolist()]
    assert data.read == expected


def test_batches_are_read_ahead_of_the_step_that_uses_them():
    data, ahead = Named(), []
    fit(detector(), data, steps=9, batch_size=1, watch=lambda done: ahead.append(len(data.read)))
    assert ahead[0] > 1 and max(k - done for done, k in enumerate(ahead, 1)) <= 5


REFUSED = {
    "Images": (lambda: images(np.zeros((2, 16, 16), bool)), TypeError, "an Images.*data.images"),
    "loader": (lambda: DataLoader(DATA), TypeError, "a DataLoader.*loader.dataset"),
    "tuples": (lambda: TensorDataset(DATA), TypeError, r"item .* is a tuple.*dataset.tensors\[0\]"),
    "numpy": (lambda: DATA.numpy(), TypeError, r"a ndarray.*torch.from_numpy\(images\)"),
    "path": (lambda: Path("pictures"), TypeError, "a PosixPath.*__len__ and __getitem__"),
    "text": (lambda: "pictures", TypeError, "a str, not uint8 images.*__len__ and __getitem__"),
    "dict": (lambda: {"a": DATA[0]}, TypeError, "a dict, not uint8 images.*__getitem__"),
    "empty": (lambda: DATA[:0], ValueError, "The data are empty"),
    "sizes": (lambda: [DATA[0], DATA[1, :, :8]] * 9, ValueError, r"of shapes \(3, 8, 16\) and"),
    "floats": (lambda: list(DATA / 255), TypeError, "are torch.float32; give a tensor of uint8"),
}  # fmt: skip


@pytest.mark.parametrize("use", [lambda data: fit(detector(), data, steps=1),
                                 lambda data: collect(detector(), data)])  # fmt: skip
@pytest.mark.parametrize("name", REFUSED)
def test_other_data_are_refused_with_a_remedy(name, use):
    make, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        use(make())


@pytest.mark.parametrize("use", [lambda system: fit(system, DATA, steps=1),
                                 lambda system: collect(system, DATA),
                                 lambda system: Boosted(system, detector().network)])  # fmt: skip
def test_a_bare_network_is_refused(use):
    with pytest.raises(TypeError, match=r"AutoEncoder is no Detector.*Reconstruction\(network\)"):
        use(AutoEncoder())


@pytest.mark.parametrize(
    "parts, message",
    [(lambda s: s, "returned Tensor; it must return a dict with S_o"),
     (lambda s: {"score": s}, "returned the parts score; it must return a dict with S_o"),
     (lambda s: {"S_o": s.mean()}, r"S_o as \(\) for 20 images"),
     (lambda s: {"S_o": s, "map_o": s[:3]}, r"map_o as \(3,\) for 20 images"),
     (lambda s: {"S_o": s.tolist()}, "S_o as list for 20 images")],
)  # fmt: skip
def test_a_score_without_s_o_or_not_of_each_image_is_refused(parts, message):
    system = detector()
    system.score = lambda prepared: parts(prepared.input.mean(dim=(1, 2, 3)))
    with pytest.raises(ValueError, match=message):
        collect(system, DATA)


def test_a_nan_in_one_map_is_refused_with_its_image():
    class Torn(Reconstruction):
        def score(self, prepared):
            parts = super().score(prepared)
            parts["map_o"][-1, 3, 3] = float("nan")
            return parts

    system = Torn(AutoEncoder(width=4, code=4))
    with pytest.raises(ValueError, match="map_o .* for 2 of 8 images, first for number 3"):
        collect(system, DATA[:8], batch_size=4)


def test_clip_bounds_the_gradient_by_hand():
    """One step of gradient descent in place of Adam, so that the gradient can be seen."""
    norms = []
    handle = register_optimizer_step_pre_hook(lambda optimiser, *_: norms.append(norm(optimiser)))
    try:
        for options in ({}, {"clip": 0.01}, {"clip": 1e6}, {"clip": 0.01, "precision": "fp16"}):
            fit(detector(), DATA, steps=1, **options)
    finally:
        handle.remove()
    assert norms[0] > 0.05 and norms[2] == norms[0]
    assert norms[1] == pytest.approx(0.01, rel=1e-3) and norms[3] == pytest.approx(0.01, rel=1e-2)
    with pytest.raises(ValueError, match="clip is 0; it is the largest norm"):
        fit(detector(), DATA, steps=1, clip=0)


def norm(optimiser) -> float:
    gradients = [p.grad.flatten() for p in optimiser.param_groups[0]["params"]]
    return float(torch.cat(gradients).norm())


def test_augment_changes_bytes_before_they_are_used():
    seen = []

    def inverted(batch: torch.Tensor) -> torch.Tensor:
        seen.append((batch.dtype, tuple(batch.shape)))
        return 255 - batch

    a, b = detector(), detector()
    assert fit(a, DATA, steps=3, augment=inverted) == fit(b, 255 - DATA, steps=3)
    assert torch.equal(weights(a), weights(b)) and seen == [(torch.uint8, (16, 3, 16, 16))] * 3
    with pytest.raises(TypeError, match="are torch.float32; give a tensor of uint8"):
        fit(detector(), DATA, steps=1, augment=lambda batch: batch / 255)


def noisy(batch: torch.Tensor) -> torch.Tensor:
    """Draws from each of the global generators."""
    shift = torch.randint(0, 50, ()) + np.random.randint(0, 50) + random.randrange(50)
    return batch // 2 + shift.byte()


def test_a_killed_run_that_draws_from_every_generator_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    np.random.seed(5), random.seed(5)
    expected = np.random.rand(), random.random()
    np.random.seed(5), random.seed(5)
    losses = fit(detector(), DATA, steps=8, augment=noisy)
    assert (np.random.rand(), random.random()) == expected  # they are left alone
    with pytest.raises(Killed):
        fit(detector(), Failing(DATA, at=5), steps=8, augment=noisy, checkpoint=tmp_path / "run.pt")
    assert fit(detector(5), DATA, steps=8, augment=noisy, checkpoint=tmp_path / "run.pt") == losses


def test_the_states_of_all_gpus_are_kept_and_those_that_are_there_are_set(monkeypatch):
    """As a machine with two GPUs says, and then one with one."""
    kept, given = [torch.arange(3).byte(), torch.arange(4).byte()], []
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: kept)
    state = training.generators()
    assert state["cuda"] is kept
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *set_: given.append(set_))
    training.restore(state)
    assert len(given) == 1 and given[0][0] is kept[0] and given[0][1] == 0


def test_a_checkpoint_of_another_clip_or_augment_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(detector(), DATA, steps=2, clip=1.0, augment=noisy, checkpoint=path)
    with pytest.raises(ValueError, match=r"clip=1\.0 \(now None\), augment='noisy' \(now None\)"):
        fit(detector(), DATA, steps=2, checkpoint=path)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'fp8'; choose 'auto', 'fp32', 'bf16' or 'fp16'"):
        fit(detector(), DATA, steps=1, precision="fp8")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_a_boosted_detector_to_nearly_the_same_loss(precision):
    losses = {}
    for name in ("fp32", precision):
        system = Boosted(detector(1), detector(0).network)
        losses[name] = fit(system, DATA, steps=20, precision=name)[-1]
    assert losses[precision] != losses["fp32"]  # or it was not used
    assert losses[precision] == pytest.approx(losses["fp32"], rel=0.1)


@pytest.mark.parametrize(
    "kind, native, chosen",
    [("cuda", True, "bf16"), ("cuda", False, "fp16"), ("cpu", True, "bf16"),
     ("cpu", False, "fp32")],
)  # fmt: skip
def test_auto_takes_what_the_device_has(kind, native, chosen, monkeypatch):
    """A T4 says that it has bf16 and emulates it: only `including_emulation=False` tells."""

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: native, raising=False)
    assert chosen_precision("auto", torch.device(kind)) == chosen
    assert chosen_precision("fp32", torch.device(kind)) == "fp32"


def test_a_killed_run_in_fp16_goes_on_with_its_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    options = dict(steps=8, precision="fp16")
    losses = fit(detector(), DATA, **options)
    with pytest.raises(Killed):
        fit(detector(), Failing(DATA, at=5), **options, checkpoint=tmp_path / "run.pt")
    assert torch.load(tmp_path / "run.pt")["scaler"]["scale"] > 0
    assert fit(detector(5), DATA, **options, checkpoint=tmp_path / "run.pt") == losses


def test_a_run_out_of_time_stops_at_a_checkpoint_and_goes_on(tmp_path, monkeypatch):
    whole, again, path = detector(), detector(9), tmp_path / "run.pt"
    losses = fit(whole, DATA, steps=4)
    monkeypatch.setenv("FMABS_UNTIL", "1")  # long over: each start does one step
    for done in range(1, 4):
        with pytest.raises(OutOfTime, match=f"run stopped after step {done}; run again"):
            fit(detector(done - 1), DATA, steps=4, checkpoint=path)
    assert fit(again, DATA, steps=4, checkpoint=path) == losses  # the last step ends it
    assert torch.equal(weights(again), weights(whole))


def test_without_a_checkpoint_there_is_nothing_to_stop_at(monkeypatch):
    monkeypatch.setenv("FMABS_UNTIL", "1")
    assert len(fit(detector(), DATA, steps=3)) == 3


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    class Exploding(Reconstruction):
        def loss(self, prepared):
            self.calls = getattr(self, "calls", 0) + 1
            return super().loss(prepared) * (float("inf") if self.calls == 4 else 1)

    system = Exploding(AutoEncoder(width=4, code=4))
    with pytest.raises(Diverged, match=r"loss is inf at step 4, after 0\.\d+, the last.*Lower lr"):
        fit(system, DATA, steps=9, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "run.pt").exists()  # weights that are lost are not kept


def test_a_rate_that_is_far_too_large_stops_the_training():
    with pytest.raises(Diverged, match=r"The loss is (nan|inf) at step 2, after 0\.\d+, the last"):
        fit(detector(), DATA, steps=3, lr=1e30)


class Torn(Reconstruction):
    """Its loss is finite, its gradient is not."""

    def loss(self, prepared):
        loss = super().loss(prepared)
        return loss + (loss - loss.detach()).sqrt()


def test_weights_that_the_last_step_has_lost_are_found_and_not_written(tmp_path):
    for path in (None, tmp_path / "run.pt"):
        with pytest.raises(Diverged, match=r"Weights .* not finite after step 1, .* loss of 0"):
            fit(Torn(AutoEncoder(width=4, code=4)), DATA, steps=1, checkpoint=path)
    assert not list(tmp_path.iterdir())


def test_a_first_loss_that_is_not_finite_is_said_to_be_the_first():
    system = detector()
    with torch.no_grad():
        next(system.parameters())[0] = float("nan")
    with pytest.raises(Diverged, match="is nan at step 1, the first"):
        fit(system, DATA, steps=2)


def test_the_bar_shows_the_last_loss_read(monkeypatch):
    shown = []
    monkeypatch.setattr(training.Losses, "EVERY", 2)
    monkeypatch.setattr(
        training.tqdm, "set_postfix_str", lambda self, text, refresh: shown.append(text)
    )
    losses = fit(detector(), DATA, steps=5)
    a, b = (f"loss {losses[k]:.4g}" for k in (1, 3))
    assert shown == ["", a, a, b, b]


def test_losses_are_read_from_the_device_some_at_a_time():
    losses = Losses([])
    for k in range(Losses.EVERY + 3):
        losses.add(torch.tensor(float(k)))
    assert losses.count == Losses.EVERY + 3 and len(losses.waiting) == 3
    assert losses.read() == list(map(float, range(Losses.EVERY + 3))) and not losses.waiting


def test_collect_scores_everything_in_order_and_in_eval_mode():
    system = detector()
    parts = collect(system, DATA, batch_size=6)
    assert parts["S_o"].shape == (20,) and parts["map_o"].shape == (20, 16, 16)
    one = collect(system, DATA[7:8])
    assert np.allclose(parts["S_o"][7], one["S_o"][0], rtol=1e-5)
    assert not system.training


def images(masks: np.ndarray) -> Images:
    labels = torch.from_numpy(masks.any(axis=(1, 2)).astype(np.int64))
    blank = torch.zeros(len(masks), 3, *masks.shape[1:], dtype=torch.uint8)
    names = [str(k) for k in range(len(masks))]
    return Images(blank, torch.from_numpy(masks), labels, ["?"] * len(masks), names)


def test_evaluate_knows_a_perfect_and_an_upside_down_map():
    masks = np.zeros((6, 16, 16), bool)
    masks[:3, 4:8, 4:8] = True
    perfect = evaluate(masks.astype(np.float32), images(masks), sigma=0)
    assert perfect == pytest.approx({"image": 1, "pixel": 1, "ap": 1, "pro": 1})
    worst = evaluate(1 - masks.astype(np.float32), images(masks), sigma=0)
    assert worst["pixel"] == 0 and worst["pro"] == 0 and worst["ap"] < 0.1


def test_level_takes_the_brightness_out():
    batch = (DATA.float() * torch.linspace(0.2, 0.6, 20).view(-1, 1, 1, 1)).byte()
    levelled = level(batch, 60.0)
    assert levelled.dtype == torch.uint8
    assert brightness(batch).std() > 10
    assert (brightness(levelled) - 60).abs().max() < 1


def test_scoring_lays_a_network_out_as_training_does():
    """Max pooling, for one, takes nine times as long in the other layout."""
    system = detector().to(memory_format=torch.contiguous_format)
    before = collect(system, DATA)
    weights = [p for p in system.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    again = collect(system, DATA)
    assert all(np.allclose(before[name], again[name], atol=1e-6) for name in before)
