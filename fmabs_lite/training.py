"""Train a detector, and collect its scores: one loop for every system (chapter 03)."""

import math
import os
import random
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fmabs_lite.data.mvtec import Images
from fmabs_lite.detector import Detector, refuse_no_detector, refuse_not_finite, refuse_parts
from fmabs_lite.loading import Data, batch_of, batches, refuse_data, to_float
from fmabs_lite.metrics import auroc, localization
from fmabs_lite.scoring import peak, smooth

FORMAT = 2  # of a checkpoint's content
SAVE_EVERY = 20.0  # seconds between two checkpoints
UNTIL = "FMABS_UNTIL"  # the time, in seconds since 1970, at which the runner wants a run to stop
SUFFIXES = {".pt", ".pth", ".ckpt", ".bin"}  # of a path; a chapter's bare name may hold a point
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # of weights, by their dimensions


def best_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    detector: Detector,
    data: Data,
    *,
    steps: int,
    batch_size: int = 16,
    lr: float = 1e-3,
    seed: int = 0,
    precision: str = "fp32",
    milestones: Sequence[float] = (),
    checkpoint: str | Path | None = None,
    watch: Callable[[int], object] | None = None,
    clip: float | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> list[float]:
    """Train in place for a fixed number of steps; return the loss of each step.

    Adam, a cosine from `lr` to 0, batches drawn with replacement. No validation and no choice of
    a best step: the last one counts. The same seed gives the same weights on the same machine.

    Args:
        data: uint8 images (N, C, H, W), or anything whose items are read when needed: see `Data`.
        milestones: shares of the steps after each of which `lr` falls to a fifth, in place of
            the cosine; DRAEM has 0.8 and 0.9.
        precision: "fp32", "bf16", "fp16" or "auto", see `chosen_precision`.
        checkpoint: a path ("nets/a.pt" is one), or a bare name, which is kept in the runner's
            folder while a chapter is being run and dropped otherwise. A run that was killed goes
            on from it, also on another device.
        watch: called after each step with the number of steps done; it may score, and must not
            draw random numbers. A run that goes on does not repeat earlier looks. No result of the
            book is chosen by it (chapter 11).
        clip: the largest norm a gradient may have; a larger one is scaled down to it.
        augment: changes a batch, uint8 (B, …) on the device, before it is used. It may draw from
            the global generators of torch, numpy and random: `seed` sets them, and they are put
            back afterwards.
    Raises:
        ValueError: for an unknown precision, a clip that is not positive, data that are empty, or
            a checkpoint of another configuration.
        TypeError: for data that are not uint8.
        Diverged: at a loss that is not finite.
        OutOfTime: when the runner's time is over; the checkpoint is written first.
    """
    refuse_no_detector(detector)
    refuse_data(data)
    device = best_device()
    laid_out(detector, device).train()
    if isinstance(data, Tensor):  # bytes, so a category fits beside the network: nothing to load
        data = data.to(device)
    descent = Descent(detector, steps, lr, milestones, chosen_precision(precision, device), clip)
    config = dict(format=FORMAT, steps=steps, batch_size=batch_size, lr=lr, seed=seed,
                  precision=descent.precision, milestones=list(milestones), images=len(data),
                  parameters=descent.size, clip=clip, augment=name_of(augment))  # fmt: skip
    keeper = Checkpoint(checkpoint, config, detector, descent)
    draws = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(data), (steps, batch_size), generator=draws)
    with seeded(seed):
        losses = keeper.load()
        left = batches(data, chosen[losses.count :], device)
        with closing(with_bar(left, losses, steps, keeper.name)) as stream:
            for batch in stream:
                batch = batch if augment is None else augment(batch)
                losses.add(descent(to_float(batch, device)))
                keeper.save(losses)
                if watch is not None:
                    watch(losses.count)
                    detector.train()
        keeper.save(losses, now=True)
    descent.optimiser.zero_grad(set_to_none=True)  # gradients are of no use to a trained network
    found = losses.read()
    refuse_lost(detector, losses)
    return found


def with_bar(
    stream: Generator[Tensor, None, None], losses: "Losses", steps: int, name: str | None
) -> Generator[Tensor, None, None]:
    """The batches of a training, beside a bar that shows the last loss that was read."""
    bar = tqdm(total=steps, initial=losses.count, desc=name, leave=False)
    with closing(stream), bar:
        for batch in stream:
            yield batch
            bar.set_postfix_str(losses.shown, refresh=False)
            bar.update()


def name_of(augment: Callable | None) -> str | None:
    """What a checkpoint says of `augment`: enough to notice that there was another, or none."""
    return None if augment is None else getattr(augment, "__qualname__", type(augment).__name__)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and random; put them back at the end."""
    before = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])


def generators() -> dict:
    """The states of all global generators, as tensors and numbers that a checkpoint may hold."""
    kind, key, *rest = np.random.get_state()
    key = torch.from_numpy(key.astype(np.int64))  # torch has few operations on uint32
    return dict(rng=torch.get_rng_state(), cuda=torch.cuda.get_rng_state_all(),
                numpy=[kind, key, *rest], random=random.getstate())  # fmt: skip


def restore(state: dict) -> None:
    """Set the generators as `generators` gave them; a GPU that is not there is left out."""
    torch.set_rng_state(state["rng"])
    for k, kept in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(kept, k)
    if "numpy" in state:
        kind, key, *rest = state["numpy"]
        np.random.set_state((kind, key.numpy().astype(np.uint32), *rest))
        random.setstate(state["random"])


class Descent:
    """One call, one step: the loss of a float batch, its gradient, Adam, the learning rate.

    Args:
        precision: as `chosen_precision` gives it; fp16 has its loss scaled, lest gradients vanish.
        clip: see `fit`.
    Raises:
        ValueError: for a clip that is not positive.
    """

    def __init__(
        self,
        detector: Detector,
        steps: int,
        lr: float,
        milestones: Sequence[float],
        precision: str,
        clip: float | None = None,
    ):
        if clip is not None and not clip > 0:
            raise ValueError(f"clip is {clip}; it is the largest norm of a gradient, such as 1.0.")
        self.clip = clip
        trained = [p for p in detector.parameters() if p.requires_grad]
        self.detector, self.precision = detector, precision
        self.size = sum(p.numel() for p in trained)
        # One pass over the weights, where there is one: a third of the time, the same steps.
        fused = {p.device.type for p in trained} <= {"cpu", "cuda", "mps"}
        self.optimiser = torch.optim.Adam(trained, lr=lr, fused=fused)
        self.schedule = schedule_of(self.optimiser, steps, milestones)
        self.scaler = torch.amp.GradScaler(best_device().type, enabled=precision == "fp16")

    def __call__(self, batch: Tensor) -> Tensor:
        with autocast(batch.device, self.precision):
            loss = self.detector.loss(self.detector.prepare(batch))
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.clip is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.optimiser.param_groups[0]["params"], self.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        return loss.detach()


class Losses:
    """The loss of each step. They are read from the device some at a time: to read is to wait."""

    EVERY = 50

    def __init__(self, known: list[float]):
        self.known, self.waiting = known, []

    @property
    def count(self) -> int:
        return len(self.known) + len(self.waiting)

    def add(self, loss: Tensor) -> None:
        self.waiting.append(loss)
        if len(self.waiting) == self.EVERY:
            self.read()

    def read(self) -> list[float]:
        """All of them. Raises Diverged, naming the step, at one that is not finite."""
        if self.waiting:
            self.known += torch.stack(self.waiting).float().tolist()
            self.waiting = []
        wrong = next((k for k, loss in enumerate(self.known) if not math.isfinite(loss)), None)
        if wrong is not None:
            last = f"after {self.known[wrong - 1]:.4g}, the last finite" if wrong else "the first"
            raise Diverged(f"The loss is {self.known[wrong]} at step {wrong + 1}, {last}. {REMEDY}")
        return self.known

    @property
    def shown(self) -> str:
        """The last loss that was read, for a progress bar."""
        return f"loss {self.known[-1]:.4g}" if self.known else ""


REMEDY = "Lower lr, clip the gradient (clip=1.0), or train in fp32."


class Diverged(ValueError):
    """A training whose loss or weights are not finite any more."""


def refuse_lost(detector: Detector, losses: Losses) -> None:
    """Raise Diverged for weights that are not finite: the last step may have lost them."""
    if not torch.stack([p.isfinite().all() for p in detector.parameters()]).all():
        last = f", with a loss of {losses.known[-1]:.4g}" if losses.known else ""
        raise Diverged(f"Weights are not finite after step {losses.count}{last}. {REMEDY}")


class OutOfTime(RuntimeError):
    """The time given to a run is over; started again, it goes on from its checkpoint."""


def laid_out(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to the device, in the layout in which convolutions are fastest there.

    That is the channels of a place side by side, on a CPU and on a GPU. `Module.to` has one layout
    for a whole network, but 2-D and 3-D weights ask for one each.
    """

    def lay_out(tensor: Tensor) -> Tensor:
        form = LAYOUTS.get(tensor.dim())
        return tensor.contiguous(memory_format=form) if form else tensor

    return network.to(device)._apply(lay_out)  # as `to` does it: a teacher goes along


def schedule_of(optimiser: torch.optim.Optimizer, steps: int, milestones: Sequence[float]):
    """A cosine to 0 over all steps, or a fifth of the rate after each milestone."""
    if not milestones:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    after = [round(share * steps) for share in milestones]
    return torch.optim.lr_scheduler.MultiStepLR(optimiser, after, gamma=0.2)


TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def chosen_precision(precision: str, device: torch.device) -> str:
    """The precision to train in: the one named, or for "auto" the fastest that the device has.

    bf16 on GPUs that have it and on CPUs with matrix units for it (AMX): with AVX-512 alone it was
    slower than fp32. fp16 on GPUs that would only emulate bf16 (a T4); else fp32.

    Raises:
        ValueError: for a name that is none of "auto", "fp32", "bf16", "fp16".
    """
    if precision in ("fp32", *TYPES):
        return precision
    if precision != "auto":
        raise ValueError(f"precision is {precision!r}; choose 'auto', 'fp32', 'bf16' or 'fp16'.")
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bf16" if native() else "fp32"


def autocast(device: torch.device, precision: str):
    """A context that runs matrix work in the precision named."""
    return torch.autocast(device.type, TYPES[precision]) if precision in TYPES else nullcontext()


@torch.no_grad()
def collect(detector: Detector, data: Data, batch_size: int = 32) -> dict[str, np.ndarray]:
    """Score all of `data` in order, in eval mode; return each raw part as one array (N, …).

    Raises:
        TypeError: for data that are not uint8, or what is no detector.
        ValueError: for scores that are not finite, or not one for each image.
    """
    refuse_no_detector(detector)
    refuse_data(data)
    device = best_device()
    laid_out(detector, device).eval()
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(data), batch_size):
        batch = batch_of(data, torch.arange(start, min(start + batch_size, len(data))))
        found = detector.score(detector.prepare(to_float(batch, device)))
        refuse_parts(found, len(batch))
        for name, value in found.items():
            parts.setdefault(name, []).append(value.cpu().numpy())
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    for name, part in whole.items():
        refuse_not_finite(name, part)
    return whole


def evaluate(maps: np.ndarray, images: Images, sigma: float) -> dict[str, float]:
    """Measure anomaly maps (N, H, W) against the truth of `images` (chapter 03).

    The maps are smoothed with a Gaussian of `sigma` pixels, for every system the same. The
    image's score is the peak of its map.

    Returns:
        "image" (AUROC over images), "pixel" (AUROC over pixels), "ap" and "pro", each in [0, 1];
        "image" alone for images without masks.
    """
    smoothed = smooth(maps, sigma)
    whole = auroc(peak(smoothed), np.asarray(images.labels))
    if images.masks is None:  # pictures of one's own, see `Photos`
        return {"image": whole}
    where = localization(smoothed, np.asarray(images.masks))
    return {"image": whole, "pixel": where["auroc"], "ap": where["ap"], "pro": where["pro"]}


class Checkpoint:
    """Keeps what `fit` needs to go on: weights, optimiser, schedule, random states, losses."""

    def __init__(
        self,
        target: str | Path | None,
        config: dict,
        detector: Detector,
        descent: Descent,
    ):
        self.path = checkpoint_path(target)
        self.name = self.path.stem if self.path else None
        self.config = config
        self.parts = dict(detector=detector, optimiser=descent.optimiser,
                          schedule=descent.schedule, scaler=descent.scaler)  # fmt: skip
        self.saved = time.monotonic()

    def load(self) -> Losses:
        """Restore everything and return the losses so far: none when there is no file."""
        if self.path is None or not self.path.exists():
            return Losses([])
        state = self.read()
        self.refuse_other(state["config"])
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"The checkpoint {self.path} does not fit: {error} Or delete it, or give this "
                "training another name."
            ) from error
        restore(state)
        return Losses(state["losses"])

    def read(self) -> dict:
        """What the file holds, whatever device it was made on; no code in it is run."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except OSError:
            raise  # a file that may not be read is not damaged
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"The checkpoint {self.path} cannot be read: it is damaged, or no checkpoint "
                f"({type(error).__name__}: {first}). Delete it to train from the start."
            ) from error
        if not isinstance(state, dict) or not {"config", "losses", *self.parts} <= set(state):
            raise ValueError(
                f"{self.path} is no checkpoint that `fit` wrote. Give another path as checkpoint; "
                "weights alone are loaded by detector.load_state_dict."
            )
        return state

    def refuse_other(self, config: dict) -> None:
        differ = [f"{k}={config.get(k)!r} (now {v!r})" for k, v in self.config.items()
                  if config.get(k) != v]  # fmt: skip
        if differ:
            raise ValueError(
                f"The checkpoint {self.path} was made with {', '.join(differ)}. Delete it, or "
                "give this training another name."
            )

    def save(self, losses: Losses, now: bool = False) -> None:
        """Write the file when it is time, whole or not at all.

        Raises OutOfTime, once it is written, if the time of the run is over before its end.
        """
        left = losses.count < self.config["steps"]
        over = left and time.time() > float(os.environ.get(UNTIL, "inf"))
        if self.path is None or not (now or over or time.monotonic() - self.saved > SAVE_EVERY):
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= dict(config=self.config, losses=losses.read()) | generators()
        refuse_lost(self.parts["detector"], losses)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)
        self.saved = time.monotonic()
        if over:
            raise OutOfTime(f"{self.name} stopped after step {losses.count}; run again to go on")


def checkpoint_path(target: str | Path | None) -> Path | None:
    """Where a checkpoint lies: a path is itself; a bare name needs the runner's folder.

    Text is a path when it has a folder or a suffix in it, as in "a/net" or "net.pt".
    """
    if target is None or isinstance(target, Path):
        return target
    if Path(target).name != target or Path(target).suffix in SUFFIXES:
        return Path(target).expanduser()
    folder = os.environ.get("FMABS_RUN_DIR")
    if folder is None:
        # Without the name in it, Python tells this once for each line that trains.
        warnings.warn(
            "A checkpoint's bare name is kept by the runner, and none is at work: nothing is "
            "written. Give a path to keep it, such as 'nets/teacher.pt'.",
            stacklevel=4,
        )
        return None
    return Path(folder) / "checkpoints" / f"{target}.pt"
