"""One file for a trained system, and what it says about a picture (the last chapter)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector
from fmabs_lite.loading import to_float
from fmabs_lite.scoring import moments
from fmabs_lite.training import best_device, collect


@dataclass
class System:
    """A trained detector with all that judging a picture needs. It is what a file holds.

    The score of a picture is judged as `evaluate` judges it: the largest value of its smoothed
    map. A detector without maps has its S_total for a score. Map and score of a `Boosted` with λ
    are those of eq. 6; λ is its `score_weight`.

    detector: trained, a `Boosted` or any other `Detector`.
    size: height and width of the pictures it is shown.
    statistics: mean and standard deviation of each raw part on normal training images, by name
        ("S_fea", "S_o", "map_fea", "map_o"); only a `Boosted` with λ needs them.
    sigma: of the Gaussian that smooths a map, in pixels.
    threshold: the score above which a picture is anomalous, or None while there is none.
    """

    detector: Detector
    size: tuple[int, int]
    statistics: dict[str, tuple[float, float]] = field(default_factory=dict)
    sigma: float = 0.0
    threshold: float | None = None

    @classmethod
    def of(cls, detector: Detector, train: Tensor, sigma: float = 0.0) -> "System":
        """The system of a detector and the normal images, uint8 (N, …, H, W), it was trained on."""
        statistics = {}
        if getattr(detector, "score_weight", None) is not None:
            known = collect(detector, train)
            used = [name for name in known if name.partition("_")[2] in ("o", "fea")]
            statistics = {name: tuple(map(float, moments(known[name]))) for name in used}
        return cls(detector, tuple(train[:1].shape[-2:]), statistics, sigma)

    def judge(self, images: Tensor, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray | None]:
        """Score pictures of the system's size, uint8 (N, …, H, W).

        Returns:
            scores (N,), larger is more anomalous; maps (N, H, W), or None where it has none.
        Raises:
            ValueError: for pictures of another size, or a `Boosted` with λ without statistics.
            TypeError: for pictures that are not uint8.
        """
        if tuple(images.shape[-2:]) != tuple(self.size):
            raise ValueError(
                f"The pictures are {images.shape[-2]}×{images.shape[-1]}; this system takes "
                f"{self.size[0]}×{self.size[1]}. Resize them before."
            )
        device = best_device()
        scorer = Scorer(self).to(device).eval()
        scores, maps = [], []
        with torch.no_grad():
            for batch in images.split(batch_size):
                score, where = scorer(batch.to(device))
                scores.append(score.cpu().numpy())
                maps += [] if where is None else [where.cpu().numpy()]
        return np.concatenate(scores), np.concatenate(maps) if maps else None


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
