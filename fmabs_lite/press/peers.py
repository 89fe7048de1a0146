"""Other people's detectors on our data, by our metrics: `fmabs-lite peers`, extra `[peers]`.

The systems are anomalib's (https://github.com/open-edge-platform/anomalib), as it builds them.
Five things are changed. The features come from the networks of `models.backbones`, so that an
installed package or a local file has the weights. PatchCore's patches are chosen by `coreset`. Maps
are smoothed as chapter 14 smooths, and not by the system itself (RD4AD does it in passing, and
keeps it). DRAEM's focal loss counts sound pixels too. Those that train do it by `fit`, with its
Adam.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fmabs_lite.data import MVTecAD, open_data, silhouette
from fmabs_lite.data.brightness import brightness, level
from fmabs_lite.data.folder import DataFolder, checksum
from fmabs_lite.data.synthesis import Corrupted
from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.lesson import records
from fmabs_lite.metrics import auroc
from fmabs_lite.models.ast_mfr import mfr_smooth
from fmabs_lite.models.backbones import (
    MEAN,
    NETWORKS,
    RESNET,
    STD,
    Network,
    locate,
    normalised,
    pretrained,
)
from fmabs_lite.press.plan import package_hash, threads_of
from fmabs_lite.scoring import peak
from fmabs_lite.training import best_device, collect, evaluate, fit, to_float
from fmabs_lite.trivial import PixelDeviation

PROFILE = "cpu"  # of the record
CATEGORIES = ("screw", "tire", "magnetic_tile")  # of the record
CORESET = 0.01  # share of PatchCore's patches that is kept, as in the paper's lightest
POOL = 10  # patches that are drawn for each that is kept
CHANNELS = 100  # of PaDiM's features that are drawn, as the paper does of ResNet18's
RATES = {"STFPM": 1e-3, "RD4AD": 5e-3, "DRAEM": 1e-4}  # of Adam; the last two are the papers'


class PeersError(ValueError):
    """A comparison that cannot be made as asked; the message names the remedy."""


@dataclass(frozen=True)
class Trial:
    """What all systems have in common; `weights` is a file, "" for one beside the data, or else
    those of an installed package or torchvision's download.
    """

    category: str = CATEGORIES[0]
    size: int = 256
    backbone: str = "efficientnet_lite0"
    weights: str = ""
    steps: int = 80
    batch_size: int = 8
    precision: str = "fp32"
    seeds: Sequence[int] = (0, 1, 2)

    @property
    def smoothing(self) -> tuple[float, int]:
        """σ and window of `mfr_smooth`: 4 and 5 at 256 pixels, as AST-MFR has, and so on."""
        return self.size / 64, round(self.size / 50) | 1

    @property
    def channels(self) -> int:
        """How many of its features PaDiM draws, where there are so many."""
        return 550 if self.backbone == "wide_resnet50_2" else CHANNELS


def part_of_anomalib(place: str) -> Any:
    """The class at "module:Name" below `anomalib`; PeersError where anomalib is not installed."""
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(f"anomalib.{module}"), name)
    except ModuleNotFoundError as error:
        raise PeersError(
            f'anomalib is not installed ({error}): pip install -e ".[peers]"'
        ) from None


class Peer(Detector):
    """One of anomalib's torch models, asked and scored as the book's detectors are.

    Images (B, 1 or 3, H, W) in [0, 1]; `mean` and `std` are those of the backbone's training.
    map_o is (B, H, W); S_o (B,) is the system's own score.
    """

    def __init__(self, network: nn.Module, mean: Sequence = MEAN, std: Sequence = STD):
        super().__init__()
        self.network, self.mean, self.std = network, mean, std
        generator = getattr(network, "anomaly_map_generator", None)
        if hasattr(generator, "blur"):  # σ = 4 whatever the size; all are smoothed alike later
            generator.blur = nn.Identity()

    def prepare(self, batch: Tensor) -> Prepared:
        images = normalised(batch.expand(-1, 3, -1, -1), self.mean, self.std)
        images = images.to(memory_format=torch.channels_last)  # half the time on a processor
        return Prepared(images, images)

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        found = self.network(prepared.input)
        maps = found.anomaly_map.reshape(len(prepared.input), *prepared.input.shape[-2:])
        return {"S_o": found.pred_score.flatten(), "map_o": maps}


class MemoryBank(Peer):
    """PatchCore and PaDiM: sound images are shown once, and `close` makes the model of them."""

    def __init__(self, network: nn.Module, known: Network, close: Callable[[], None]):
        super().__init__(network, known.mean, known.std)
        self.close = close

    @torch.no_grad()
    def learn(self, images: Tensor) -> None:
        """Learn from uint8 (N, 3, H, W)."""
        self.to(best_device()).train()
        for chunk in images.split(32):
            self.network(self.prepare(to_float(chunk, best_device())).input)
        self.close()


class Distilled(Peer):
    """STFPM and RD4AD: the loss compares the features of two networks, by anomalib's criterion."""

    def __init__(self, network: nn.Module, known: Network, criterion: nn.Module):
        super().__init__(network, known.mean, known.std)
        self.criterion = criterion

    def loss(self, prepared: Prepared) -> Tensor:
        return self.criterion(*(in_full(side) for side in self.network(prepared.input)))


def in_full(features: dict | list) -> dict | list:
    """Features (B, C, h, w) in 32 bits, and in the layout in which RD4AD's can be flattened."""
    named = features if isinstance(features, dict) else dict(enumerate(features))
    plain = {name: one.float().contiguous() for name, one in named.items()}
    return plain if named is features else list(plain.values())


class Painted(Peer):
    """DRAEM, with the anomalies that anomalib paints from the pictures in the folder of DTD."""

    def __init__(self, textures: Path):
        super().__init__(part_of_anomalib("models.image.draem.torch_model:DraemModel")())
        generator = part_of_anomalib("data.utils.generators.perlin:PerlinAnomalyGenerator")
        self.painter = generator(anomaly_source_path=textures, blend_factor=(0.1, 1.0))
        self.painter.anomaly_source_paths.sort()  # a disk lists its files in any order
        self.criterion = part_of_anomalib("models.image.draem.loss:DraemLoss")()
        # Since kornia 0.7 alpha = 1 weighs sound pixels 0: "all is anomalous" would cost nothing.
        self.criterion.focal_loss.alpha = None

    def prepare(self, batch: Tensor) -> Corrupted:
        batch = batch.expand(-1, 3, -1, -1)
        painted, mask = self.painter(batch) if self.training else (batch, torch.zeros_like(batch))
        return Corrupted(painted, batch, mask[:, :1] > 0)

    def loss(self, prepared: Corrupted) -> Tensor:
        repair, logits = (part.float() for part in self.network(prepared.input))
        with torch.autocast(repair.device.type, enabled=False):  # a variance is lost in 8 bits
            return self.criterion(prepared.target, repair, prepared.mask, logits)


# --- building them


def network_of(trial: Trial, weights: bool = True) -> nn.Module:
    """The whole network of a trial, in a form that anomalib can take apart.

    anomalib takes features out by torch.fx, which cannot see through the padding of timm's layers:
    it depends on the picture's size. What says that it is torch's own, fx takes as one step.

    Raises:
        PeersError: where its ImageNet weights cannot be had.
    """
    try:
        network = (
            pretrained(trial.backbone, trial.weights, "IMAGENET1K_V1")
            if weights
            else NETWORKS[trial.backbone].build(weights=None)
        )
    except (ValueError, RuntimeError) as error:
        raise PeersError(str(error)) from error
    for layer in network.modules():
        if layer.__module__.startswith("timm.layers"):
            layer.__module__ = nn.__name__
    return network


def coreset(patches: Tensor) -> Tensor:
    """A share `CORESET` of patches (N, C), each the farthest from those that were kept before it.

    They are kept out of `POOL` times as many, which are drawn at random. anomalib looks at all N
    every time. It also projects them to fewer channels first, which for as few as a small network
    has are more.
    """
    many = max(1, int(CORESET * len(patches)))
    pool = patches[torch.randperm(len(patches))[: POOL * many].to(patches.device)]
    squares, kept = pool.square().sum(dim=1), [0]
    nearest = torch.full_like(squares, torch.inf)  # squared distance to what is kept
    while len(kept) < many:
        last = kept[-1]
        nearest = nearest.minimum(squares + squares[last] - 2 * pool @ pool[last])
        nearest[last] = -torch.inf
        kept.append(int(nearest.argmax()))
    return pool[kept]


def patchcore(trial: Trial, textures: Path) -> Peer:
    """Patches of the second and third stage, a coreset of them, the nearest neighbour."""
    known = NETWORKS[trial.backbone]
    build = part_of_anomalib("models.image.patchcore.torch_model:PatchcoreModel")
    network = build(layers=known.at[1:], backbone=network_of(trial))

    def close() -> None:
        network.memory_bank = coreset(torch.vstack(network.embedding_store))
        network.embedding_store.clear()

    return MemoryBank(network, known, close)


def padim(trial: Trial, textures: Path) -> Peer:
    """A Gaussian at each position, of channels drawn at random."""
    backbone, known = network_of(trial), NETWORKS[trial.backbone]
    drawn = min(trial.channels, sum(known.widths))
    build = part_of_anomalib("models.image.padim.torch_model:PadimModel")
    network = build(backbone=backbone, layers=list(known.at), n_features=drawn)
    return MemoryBank(network, known, network.fit)


def stfpm(trial: Trial, textures: Path) -> Peer:
    """A student from scratch beside a teacher of the same build."""
    known = NETWORKS[trial.backbone]
    network = part_of_anomalib("models.image.stfpm.torch_model:STFPMModel")(
        layers=known.at, backbone=network_of(trial)
    )
    # anomalib takes a module for both sides, and would compare the teacher with itself.
    network.student_model = part_of_anomalib("models.components:TimmFeatureExtractor")(
        network_of(trial, weights=False), known.at, requires_grad=True
    )
    return Distilled(network, known, part_of_anomalib("models.image.stfpm.loss:STFPMLoss")())


def rd4ad(trial: Trial, textures: Path) -> Peer:
    """A decoder that gives a ResNet's features back, through a bottleneck."""
    place, known = "models.image.reverse_distillation", NETWORKS[trial.backbone]
    mode = part_of_anomalib(f"{place}.anomaly_map:AnomalyMapGenerationMode").ADD
    network = part_of_anomalib(f"{place}.torch_model:ReverseDistillationModel")(
        trial.backbone, (trial.size, trial.size), known.at, mode, pre_trained=False
    )
    network.encoder = part_of_anomalib("models.components:TimmFeatureExtractor")(
        network_of(trial), known.at
    )
    return Distilled(network, known, part_of_anomalib(f"{place}.loss:ReverseDistillationLoss")())


SYSTEMS = {"PatchCore": patchcore, "PaDiM": padim, "STFPM": stfpm, "RD4AD": rd4ad,
           "DRAEM": lambda trial, textures: Painted(textures)}  # fmt: skip


# --- measuring them


def left_out(trial: Trial, systems: Iterable[str]) -> dict[str, str]:
    """The systems that do not run in a trial, and why."""
    found = {name: "not asked for" for name in SYSTEMS if name not in systems}
    if NETWORKS[trial.backbone].at != RESNET:
        found["RD4AD"] = f"its decoder mirrors a ResNet with weights, and {trial.backbone} is none"
    return found


def refuse_trial(trial: Trial, systems: Iterable[str]) -> None:
    """Raise a PeersError for a system or backbone that is not known."""
    for name, known in [(trial.backbone, NETWORKS), *((name, SYSTEMS) for name in systems)]:
        if name not in known:
            raise PeersError(f"{name!r} is not known here; choose one of {', '.join(known)}")


def measure_peers(trial: Trial, systems: Iterable[str], sets: DataFolder) -> dict[str, Any]:
    """Run systems on one category, once for each seed.

    Returns:
        "rows": by system a list with the metrics of each seed, and the rows without training.
        "own" is the image AUROC by the system's own score, the others go by its smoothed map;
        "scores", "labels": the peaks of these maps, and which images are anomalous;
        "left_out": why the other systems are not there, absent when all are.
    Raises:
        PeersError: without anomalib or weights; DataError for data that is not there.
    """
    part = MVTecAD(sets.mvtec, trial.category, trial.size)
    target = float(brightness(part.train.images).mean())
    train, test = (level(images, target) for images in (part.train.images, part.test.images))
    textures = sets.dtd if sets.has("dtd") else open_data().dtd

    rows: dict[str, list] = {}
    scores: dict[str, list] = {}

    def measure(name: str, maps: np.ndarray, **more: float) -> None:
        smooth = mfr_smooth(maps, *trial.smoothing)
        found = evaluate(smooth, part.test, sigma=0) | more
        rows.setdefault(name, []).append({key: rounded(value) for key, value in found.items()})
        scores.setdefault(name, []).append([rounded(value) for value in peak(smooth)])

    inside = np.stack([silhouette(image.numpy()) for image in part.test.images])
    measure("trivial: pixel deviation", PixelDeviation().fit(train).maps(test))
    measure("trivial: silhouette", inside.astype(np.float32))
    missing, labels = left_out(trial, systems), part.test.labels.numpy()
    for name in [name for name in SYSTEMS if name not in missing]:
        for seed in trial.seeds:
            seen = collect(trained_peer(name, trial, textures, train, seed), test)
            measure(name, seen["map_o"], own=auroc(seen["S_o"], labels))
    found = {"rows": rows, "scores": scores, "labels": labels.tolist()}
    return found | ({"left_out": missing} if missing else {})


def rounded(value: float) -> float:
    """Six digits, as `keep` has them."""
    return float(f"{value:.6g}")


def trained_peer(name: str, trial: Trial, textures: Path, train: Tensor, seed: int) -> Peer:
    """A system that has learnt from uint8 (N, 3, H, W), all its chance drawn from `seed`."""
    torch.manual_seed(seed)
    peer = SYSTEMS[name](trial, textures)
    if isinstance(peer, MemoryBank):
        peer.learn(train)
    else:
        milestones = (0.8, 0.9) if name == "DRAEM" else ()  # as the released code has
        fit(peer, train, steps=trial.steps, batch_size=trial.batch_size, lr=RATES[name],
            seed=seed, precision=trial.precision, milestones=milestones)  # fmt: skip
    return peer


def compare_peers(
    trial: Trial, categories: Sequence[str], systems: Sequence[str], data: str, keep: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `fmabs-lite peers` does: each category, and what `measure_peers` finds there.

    With `keep`, a category is a cell of the record, written as soon as it is there.

    Raises:
        PeersError: also for a name that is not known, or a record of fewer than three seeds.
        DataError: for a category that is not there.
    """
    systems = systems or list(SYSTEMS)
    refuse_trial(trial, systems)
    part_of_anomalib("data:InferenceBatch")  # before anything takes time
    if keep and len(set(trial.seeds)) < 3:
        raise PeersError("a record rests on three seeds or more: give --seed three times, or none")
    torch.set_num_threads(threads_of(PROFILE))
    sets = open_data(data)
    trial = replace(trial, weights=weights_of(trial, sets.root))
    for category in categories:
        MVTecAD(sets.mvtec, category)  # one that is missing is told before the others take time
    for category in categories:
        start, one = time.monotonic(), replace(trial, category=category)
        results = measure_peers(one, systems, sets)
        if keep:
            with_dtd = "DRAEM" in results["rows"] and sets.has("dtd")
            used = ["mvtec", "dtd"] if with_dtd else ["mvtec"]
            sums = {k: "drawn" if sets.drawn else checksum(getattr(sets, k)) for k in used}
            provenance = provenance_of(one, sums, round(time.monotonic() - start, 1))
            target = records.book_path("records") / f"peers.{PROFILE}.json"
            cell = {"provenance": provenance, "results": results}
            order = [provenance["parameters"] | {"category": name} for name in CATEGORIES]
            records.write_cells(target, "peers", PROFILE, [cell], order)
        yield category, results


def weights_of(trial: Trial, root: Path) -> str:
    """The file of a trial's weights, "" for torchvision's download; PeersError without any."""
    try:
        return str(locate(trial.backbone, trial.weights or root) or "")
    except (ValueError, RuntimeError) as error:
        raise PeersError(str(error)) from error


def provenance_of(trial: Trial, data: dict[str, str], seconds: float) -> dict[str, Any]:
    """A cell's provenance, as the runner writes it for a chapter; `data` holds checksums."""
    sigma, window = trial.smoothing
    weights = Path(trial.weights).name or "IMAGENET1K_V1"
    used = records.computed_with()
    settings = {"weights": weights, "seeds": list(trial.seeds), "sigma": sigma, "window": window,
                "coreset": CORESET, "pool": POOL, "channels": trial.channels,
                "rates": RATES}  # fmt: skip
    return {
        "chapter": "peers",
        "profile": PROFILE,
        "source": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "package": package_hash(),
        "parameters": asdict(trial) | settings,
        **used,
        "versions": used["versions"] | {name: version(name) for name in ("anomalib", "kornia")},
        "data": data,
        "resumed": False,
        "seconds": seconds,
        "finished": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
