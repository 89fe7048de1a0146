"""One file for a trained system, and what it says about a picture (the last chapter)."""

import copy
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite import __version__
from fmabs_lite.detector import Detector, refuse_not_finite
from fmabs_lite.loading import refuse_floats, to_float
from fmabs_lite.recipe import made, recipe_of, strangers
from fmabs_lite.scoring import moments
from fmabs_lite.taps import digest
from fmabs_lite.training import best_device, collect, laid_out

FORMAT = 1  # of a file
MARK = "fmabs_lite"  # what a file's JSON stands under
FACTS = ("size", "statistics", "sigma", "threshold", "leading")  # of a system, beside the detector


@dataclass
class System:
    """A trained detector with all that judging a picture needs. It is what a file holds.

    The score of a picture is judged as `evaluate` judges it: the largest value of its smoothed
    map. A detector without maps has its S_total for a score. Map and score of a `Boosted` with λ
    are those of eq. 6; λ is its `score_weight`.

    Args:
        detector: trained, a `Boosted` or any other `Detector`.
        size: height and width of the pictures it is shown.
        statistics: mean and standard deviation of each raw part on normal training images, by
            name ("S_fea", "S_o", "map_fea", "map_o"); only a `Boosted` with λ needs them.
        sigma: of the Gaussian that smooths a map, in pixels.
        threshold: the score above which a picture is anomalous, or None while there is none.
        leading: what stands before height and width: (3,) colours, or (5, 1) for five grey frames.
    """

    detector: Detector
    size: tuple[int, int]
    statistics: dict[str, tuple[float, float]] = field(default_factory=dict)
    sigma: float = 0.0
    threshold: float | None = None
    leading: tuple[int, ...] = (3,)

    @classmethod
    def of(cls, detector: Detector, train: Tensor, sigma: float = 0.0) -> "System":
        """The system of a detector and the normal images, uint8 (N, …, H, W), it was trained on."""
        statistics = {}
        if getattr(detector, "score_weight", None) is not None:
            known = collect(detector, train)
            used = [name for name in known if name.partition("_")[2] in ("o", "fea")]
            statistics = {name: tuple(map(float, moments(known[name]))) for name in used}
        *leading, height, width = train[:1].shape[1:]
        return cls(detector, (height, width), statistics, sigma, leading=tuple(leading))

    def judge(self, images: Tensor, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray | None]:
        """Score pictures of the system's size, uint8 (N, …, H, W).

        Returns:
            scores (N,), larger is more anomalous; maps (N, H, W), or None where it has none.
        Raises:
            ValueError: for pictures of another shape, a `Boosted` with λ without statistics, or
                scores that are not finite.
            TypeError: for pictures that are not uint8.
        """
        refuse_floats(images)
        refuse_other_pictures(self, images)
        device = best_device()
        scorer = laid_out(Scorer(self), device).eval()
        scores, maps = [], []
        with torch.no_grad():
            for batch in images.split(batch_size):
                score, where = scorer(batch.to(device))
                scores.append(score.cpu().numpy())
                maps += [] if where is None else [where.cpu().numpy()]
        found = np.concatenate(scores)
        refuse_not_finite("The score", found)
        return found, np.concatenate(maps) if maps else None


def refuse_other_pictures(system: System, images: Tensor) -> None:
    """Raise a ValueError for pictures that are not of the shape that a system takes."""
    found, wanted = tuple(images.shape[1:]), (*system.leading, *system.size)
    if found == wanted:
        return
    if found[:-2] != wanted[:-2]:
        raise ValueError(
            f"The pictures have the shape {tuple(images.shape)}; this system takes (N, "
            f"{', '.join(map(str, wanted))}). A single picture is picture[None]."
        )
    raise ValueError(
        f"The pictures are {found[-2]}×{found[-1]}; this system takes "
        f"{wanted[-2]}×{wanted[-1]}. Resize them before."
    )


def save(system: System, path: str | Path) -> None:
    """Write a system to one file of safetensors: weights, also the teacher's, and all else in JSON.

    Nothing in it is code. The file is written whole or not at all.

    Raises:
        ValueError: for a threshold, or scores, that are not finite.
    """
    tensors = {
        f"{part}/{name}": value.detach().cpu().contiguous().clone()
        for part, network in networks(system.detector).items()
        for name, value in network.state_dict().items()
    }
    facts = facts_of(system) | {
        "format": FORMAT,
        "detector": recipe_of(system.detector),
        "sha256": digest(tensors).hex(),
        "probe": probe(system),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {MARK: json.dumps(facts, allow_nan=False)})
    os.replace(partial, path)


def facts_of(system: System) -> dict:
    """What a file says of a system beside its detector."""
    limit = None if system.threshold is None else float(system.threshold)
    if limit is not None and not math.isfinite(limit):
        raise ValueError(f"The threshold is {limit}, so every picture would be judged alike. Set a "
                         "finite one, or None.")  # fmt: skip
    return {name: getattr(system, name) for name in FACTS} | {
        "threshold": limit,
        "lam": getattr(system.detector, "score_weight", None),  # it may have been set since
        "versions": {"fmabs_lite": __version__, "torch": torch.__version__},
    }


def load(path: str | Path, build: Callable[[], Detector] | None = None) -> System:
    """The system in a file that `save` wrote, on the CPU and ready to judge.

    Args:
        build: makes the detector, untrained; needed when a class in it is not this package's. It
            must make what was saved: the same classes with the same arguments.
    Raises:
        ValueError: when the file is damaged or another one, `build` is missing or makes another
            detector, or the system does not score as it did when it was saved.
    """
    facts, tensors = opened(Path(path))
    if build is None and (unknown := strangers(facts["detector"])):
        raise ValueError(
            f"{path} holds {unknown[0]}, which fmabs_lite cannot make. Give a function that makes "
            "the same detector, untrained: load(path, build=lambda: Boosted(…))."
        )
    detector = made(facts["detector"]) if build is None else build()
    fill(detector, tensors, path)
    if hasattr(detector, "score_weight"):
        detector.score_weight = facts["lam"]
    given = {name: facts[name] for name in FACTS}
    for name in ("size", "leading"):
        given[name] = tuple(given[name])
    given["statistics"] = {name: tuple(pair) for name, pair in given["statistics"].items()}
    system = System(detector.eval(), **given)
    found = probe(system)
    if not np.allclose(found, facts["probe"], rtol=1e-3, atol=1e-8):  # other CPUs round else
        raise ValueError(
            f"The system in {path} scores {found} where it scored {facts['probe']} when it was "
            "saved, so the detector is built otherwise. Check the arguments in build."
        )
    return system


def opened(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """What a file says, and its tensors. Raises a ValueError if `save` did not write it so."""
    try:
        with safe_open(path, "pt") as file:
            about = (file.metadata() or {}).get(MARK)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or not a file that `save` wrote ({error}).") from None
    if about is None:
        raise ValueError(f"{path} holds weights and no system. Give a file that `save` wrote.")
    facts = json.loads(about)
    if facts["format"] != FORMAT:
        raise ValueError(
            f"{path} was written by fmabs_lite {facts['versions']['fmabs_lite']} in format "
            f"{facts['format']}; this one reads format {FORMAT}. Install that version."
        )
    if digest(tensors).hex() != facts["sha256"]:
        raise ValueError(f"{path} is damaged: its weights are not those that were saved.")
    return facts, tensors


def networks(detector: Detector) -> dict[str, nn.Module]:
    """The networks whose weights a file holds: first the frozen ones, then the detector."""
    inside = [(path, m) for path, m in detector.named_modules() if isinstance(m, Detector)]
    frozen = {f"{path}.{name}": network for path, m in inside for name, network in
              m.frozen().items()}  # fmt: skip
    return frozen | {"detector": detector}


def fill(detector: Detector, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Load a file's weights; a ValueError if they do not fit."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    here = networks(detector)
    try:
        if set(here) != set(parts):
            raise ValueError(f"it has {', '.join(here)}, the file {', '.join(parts)}")
        for part, network in here.items():
            network.load_state_dict(parts[part])
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"The detector that was built does not fit {path}: {told}. Build it with the "
            "arguments that it had when it was saved."
        ) from error


@torch.no_grad()
def probe(system: System) -> list[float]:
    """Mean and maximum of each raw part for two made-up pictures, by which a detector is known.

    On the CPU: a GPU's TF32 moves a small S_fea by a percent, as another layer might.
    """
    detector, images = system.detector, made_up(system)
    modes = [(module, module.training) for module in detector.modules()]
    device = next(detector.parameters(), images).device
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)  # nothing is drawn in scoring, by rights
            detector.cpu().eval()
            parts = detector.score(detector.prepare(to_float(images, torch.device("cpu"))))
    finally:
        detector.to(device)
        for module, mode in modes:
            module.training = mode
    for name, part in parts.items():
        refuse_not_finite(name, part.numpy())
    found = [parts[name].double().reshape(2, -1) for name in sorted(parts)]
    return torch.cat([torch.cat([part.mean(dim=1), part.amax(dim=1)]) for part in found]).tolist()


def export(system: System, path: str | Path) -> None:
    """Write the whole score of a system for programs without this package.

    In goes uint8 (B, …, H, W) of the system's size, called "images"; out come "score" (B,) and,
    where there are maps, "map" (B, H, W), as `System.judge` returns them. The division by 255 and
    all else is inside. Only resizing is not: do it as `fmabs_lite.data.files.resize` does.

    Args:
        path: ends in .onnx, for ONNX Runtime and others, or in .pt2, for `torch.export.load`. The
            size, the threshold and λ are in it as JSON under "fmabs_lite": in an ONNX file's
            metadata, or among the extra files of the other.
    Raises:
        ValueError: for another ending, a missing package, or a detector whose score cannot be
            written down, or is another one once it is.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"{path} ends in {path.suffix!r}; choose .onnx or .pt2.")
    if path.suffix == ".onnx" and find_spec("onnxscript") is None:
        raise ValueError("To write ONNX, the package onnxscript is needed: pip install onnxscript.")
    program, about = traced(system), json.dumps(facts_of(system))
    if path.suffix == ".pt2":
        torch.export.save(program, path, extra_files={MARK: about})
        return
    names = ["score", "map"][: len(program.graph_signature.user_outputs)]
    onnx = torch.onnx.export(program, (), dynamo=True, input_names=["images"], output_names=names,
                             verbose=False)  # fmt: skip
    onnx.model.metadata_props[MARK] = about
    onnx.save(path)


def made_up(system: System) -> Tensor:
    """Two pictures of coarse random colours, uint8 (2, …, H, W): always the same."""
    drawn = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, math.prod(system.leading), 4, 4, generator=drawn)
    fine = F.interpolate(coarse, tuple(system.size), mode="bilinear", align_corners=False)
    return (255 * fine).byte().view(2, *system.leading, *system.size)


@torch.no_grad()
def traced(system: System) -> torch.export.ExportedProgram:
    """The score of a system as a graph for batches of any size, checked on other pictures."""
    plain = copy.deepcopy(system.detector).cpu().to(memory_format=torch.contiguous_format)
    scorer = Scorer(replace(system, detector=plain)).eval()
    images = made_up(system)
    wanted = scorer(images)  # a first call, in which a `Boosted` looks at its layers
    shapes = ({0: torch.export.Dim("batch", max=2**20)},)
    try:
        program = torch.export.export(scorer, (images,), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # of many kinds, each with a long text
        first = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"The score of {type(plain).__name__} cannot be written down as a graph ({first}). Its "
            "prepare and score must not ask for values, as `if x.mean() > 0` does, nor for "
            "len(batch): batch.shape[0] may vary."
        ) from error
    for found, right in zip(program.module()(images[1:]), wanted, strict=True):
        if right is not None and not torch.allclose(found, right[1:], rtol=1e-4, atol=1e-4):
            raise ValueError(
                f"Once written down, {type(plain).__name__} scores otherwise: its score of a "
                "picture depends on chance, or on the pictures beside it."
            )
    return program


class Scorer(nn.Module):
    """The whole score of a system as one module, which is what `export` writes.

    uint8 (B, …, H, W) of the system's size to the score (B,), and the map (B, H, W) or None. The
    same numbers come from `collect`, `Boosted.total`, `smooth` and `peak`, one after the other.
    """

    def __init__(self, system: System):
        super().__init__()
        self.detector, self.size = system.detector, tuple(system.size)
        self.weight = getattr(system.detector, "score_weight", None)
        self.statistics = system.statistics
        self.blur = Blur(system.sigma, self.size) if system.sigma else nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        parts = self.detector.score(self.detector.prepare(to_float(images, images.device)))
        if "map_o" not in parts:
            return self.total("S", parts), None
        maps = {name: self.enlarged(value) for name, value in parts.items() if "map" in name}
        found = self.blur(self.total("map", maps))
        return found.amax(dim=(1, 2)), found

    def total(self, kind: str, parts: Mapping[str, Tensor]) -> Tensor:
        """S_total or map_total (eq. 6): the detector's own where there is no λ."""
        fea, own = f"{kind}_fea", f"{kind}_o"
        if self.weight is None:
            return parts[own]
        return self.weight * self.scaled(fea, parts) + (1 - self.weight) * self.scaled(own, parts)

    def scaled(self, name: str, parts: Mapping[str, Tensor]) -> Tensor:
        if name not in self.statistics or name not in parts:
            raise ValueError(
                f"λ is {self.weight}, and {name} is not among the system's statistics or the "
                "detector's parts. Make the system by System.of(detector, train)."
            )
        mean, spread = self.statistics[name]
        return (parts[name] - mean) / spread

    def enlarged(self, maps: Tensor) -> Tensor:
        return F.interpolate(maps[:, None], self.size, mode="bilinear", align_corners=False)[:, 0]


class Blur(nn.Module):
    """`smooth` for maps (B, H, W) on any device: a Gaussian of σ pixels, mirrored edges."""

    def __init__(self, sigma: float, size: tuple[int, int]):
        super().__init__()
        radius = round(4 * sigma)  # as OpenCV's for floats
        at = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-(at**2) / (2 * sigma**2))
        self.register_buffer("kernel", (kernel / kernel.sum()).float(), persistent=False)
        for name, side in zip(("rows", "columns"), size, strict=True):
            around = torch.arange(-radius, side + radius) % (2 * side)
            mirrored = torch.minimum(around, 2 * side - 1 - around)
            self.register_buffer(name, mirrored, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        seen = maps[:, self.rows][:, :, self.columns][:, None]
        return F.conv2d(F.conv2d(seen, self.kernel.view(1, 1, -1, 1)),
                        self.kernel.view(1, 1, 1, -1))[:, 0]  # fmt: skip
