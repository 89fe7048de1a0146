"""Jigsaw: a network that puts shuffled cubes back in order, and reconstructs nothing (chapter 13).

After Wang et al., ECCV 2022 (https://doi.org/10.1007/978-3-031-20080-9_29), and the settings of
the code they released. Two things differ from that code. There, the spatial target is the inverse
of the temporal one: where a patch went to, instead of where it came from; here both say where it
came from. And there, one minus a probability is rounded to 0 once the network is sure; here it is
computed without that loss.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector
from fmabs_lite.recipe import recorded

SIDE = 3  # patches along each side of a spatial puzzle


class Puzzle(NamedTuple):
    """Cubes as the network sees them, and where each frame and each patch came from.

    input: (B, C, T, H, W). order: int64 (B, T), the true place of the frame at each place.
    places: int64 (B, 9), the same of the patches, row by row. keep: (B, c, 1, 1), dropout's mask.
    Even items may be shuffled in time, odd ones in space, none in both.
    """

    input: Tensor
    order: Tensor
    places: Tensor
    keep: Tensor


def stage(c_in: int, c_out: int, pool: tuple[int, int, int]) -> nn.Sequential:
    """Two 3×3×3 convolutions, each with instance normalisation and ReLU, and a max-pool."""
    return nn.Sequential(
        nn.Conv3d(c_in, c_out, 3, padding=1, bias=False), nn.InstanceNorm3d(c_out), nn.ReLU(),
        nn.Conv3d(c_out, c_out, 3, padding=1, bias=False), nn.InstanceNorm3d(c_out), nn.ReLU(),
        nn.MaxPool3d(pool),
    )  # fmt: skip


@recorded()
class Solver(nn.Module):
    """Jigsaw's network: a 3-D trunk, and a head for each kind of puzzle (chapter 13).

    (B, C, T, H, W) to logits (B, T, T) and (B, 9, 9): row k holds, for the frame or patch at
    place k, one number for each place it may have come from. H = W = `size`, a multiple of 16.
    `trunk` gives (B, 2 · width, H/8, W/8): its last pool takes the whole of time. 1 570 530
    parameters for 7 frames, 1 586 946 for 9.
    """

    def __init__(self, frames: int = 7, width: int = 32, size: int = 64, channels: int = 3):
        super().__init__()
        w, code = width, 2 * width * (size // 16) ** 2
        self.trunk = nn.Sequential(
            stage(channels, w, (1, 2, 2)), stage(w, 2 * w, (1, 2, 2)),
            stage(2 * w, 2 * w, (frames, 2, 2)), nn.Flatten(1, 2),
        )  # fmt: skip
        self.neck = nn.Sequential(
            nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.InstanceNorm2d(2 * w), nn.ReLU(),
            nn.MaxPool2d(2),
        )  # fmt: skip
        self.temporal = head(code, 16 * w, frames)
        self.spatial = head(code, 16 * w, SIDE**2)

    def forward(self, x: Tensor, keep: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        code = (self.neck(self.trunk(x)) * keep).flatten(1)
        return self.temporal(code), self.spatial(code)


def head(c_in: int, hidden: int, places: int) -> nn.Sequential:
    """Two layers that give each of the places one number for each place: (B, places, places)."""
    return nn.Sequential(
        nn.Linear(c_in, hidden), nn.ReLU(), nn.Linear(hidden, places**2),
        nn.Unflatten(1, (places, places)),
    )  # fmt: skip


@recorded()
class Jigsaw(Detector):
    """Learn to undo shuffles of frames and of patches; what it cannot read is odd (chapter 13).

    A batch is (B, T, C, H, W), as `Cubes` gives it. While training every second cube has its
    frames shuffled, every other one its nine patches; both share one forward pass. L_o is the
    mean cross-entropy over the places of each kind, the two kinds added. Scoring shuffles
    nothing: S_temporal and S_spatial in [0, 1] are one minus the smallest probability that a
    frame or patch is where it belongs, S_o is their mean. The published protocol takes the mean
    later, after each kind was scaled within its video.

    Args:
        frames, width, size, channels: see `Solver`.
        still: a cube in which no pixel differs by this much between its first and last frame
            keeps its order: nobody could tell. 0.2 in the released command line.
        untouched: share of cubes that draw no shuffle, 1e-4 in the released code.
        dropout: share of channels behind the trunk that a cube loses while training; 0.3 in the
            released code. Few channels need them all.
    Raises:
        ValueError: when frames, channels or size do not fit the batch, the size is no multiple
            of 16, or a batch to train on has one cube only.
    """

    def __init__(
        self, frames: int = 7, width: int = 32, size: int = 64, channels: int = 3,
        still: float = 0.2, untouched: float = 1e-4, dropout: float = 0.3,
    ):  # fmt: skip
        super().__init__()
        if size % 16:
            raise ValueError(
                f"size is {size}; it must be a multiple of 16, because the network halves it "
                "four times."
            )
        self.network = Solver(frames, width, size, channels)
        self.shape = (frames, channels, size, size)
        self.still, self.untouched, self.dropout = still, untouched, dropout

    def prepare(self, batch: Tensor) -> Puzzle:
        """Blacken the rim; while training also mirror and shuffle, all drawn on the CPU."""
        if batch.shape[1:] != self.shape:
            raise ValueError(
                f"Jigsaw got cubes of (T, C, H, W) = {tuple(batch.shape[1:])} and was built for "
                f"{self.shape}. Cut cubes of that length and size, or build it for yours."
            )
        b, t = batch.shape[:2]
        order, places = torch.arange(t).repeat(b, 1), torch.arange(SIDE**2).repeat(b, 1)
        keep = torch.ones(b, self.network.neck[0].out_channels, 1, 1)
        if self.training:
            if b < 2:
                raise ValueError(
                    "Jigsaw got one cube to train on; it needs two, one for each kind of puzzle."
                )
            mirrored = (torch.rand(b, 1, 1, 1, 1) < 0.5).to(batch.device, non_blocking=True)
            batch = torch.where(mirrored, batch.flip(-1), batch)
            order[0::2] = permutations(b, t, self.untouched)[0::2]
            places[1::2] = permutations(b, SIDE**2, self.untouched)[1::2]
            keep = (torch.rand(keep.shape) >= self.dropout) / (1 - self.dropout)
        parts = (order, places, keep)
        order, places, keep = (part.to(batch.device, non_blocking=True) for part in parts)
        if self.training:  # asked where the pixels are: the CPU does not wait for the answer
            moves = (batch[:, -1] - batch[:, 0]).abs().amax(dim=(1, 2, 3)) >= self.still
            order = torch.where(moves[:, None], order, torch.arange(t, device=order.device))
        cubes = from_patches(reorder(to_patches(batch), places), batch.shape[-1])
        return Puzzle(reorder(cubes, order).transpose(1, 2), order, places, keep)

    def loss(self, prepared: Puzzle) -> Tensor:
        temporal, spatial = self.network(prepared.input, prepared.keep)
        return (
            puzzle_loss(temporal[0::2], prepared.order[0::2])
            + puzzle_loss(spatial[1::2], prepared.places[1::2])
        )  # fmt: skip

    def score(self, prepared: Puzzle) -> dict[str, Tensor]:
        temporal, spatial = map(doubt, self.network(prepared.input, prepared.keep))
        return {"S_o": (temporal + spatial) / 2, "S_temporal": temporal, "S_spatial": spatial}


def permutations(b: int, n: int, untouched: float = 0.0) -> Tensor:
    """`b` random orders of `n` things, int64 (b, n); a share of them leaves all in place."""
    drawn = torch.rand(b, n).argsort(dim=1)
    return torch.where(torch.rand(b, 1) < untouched, torch.arange(n), drawn)


def reorder(things: Tensor, order: Tensor) -> Tensor:
    """Put thing `order[b, k]` of item b at its place k: (B, n, …) and (B, n) to (B, n, …)."""
    rows = torch.arange(things.shape[0], device=things.device)
    return things[rows[:, None], order]


def patch_side(size: int) -> int:
    """The side of a patch in pixels: 20 of 64, so that three leave a rim of 2."""
    return 20 * size // 64


def to_patches(cubes: Tensor) -> Tensor:
    """Cut cubes (B, T, C, H, W) into nine patches each, row by row: (B, 9, T, C, p, p).

    What is left of the rim is thrown away.
    """
    p, size = patch_side(cubes.shape[-1]), cubes.shape[-1]
    rim = (size - SIDE * p) // 2
    inner = cubes[..., rim : rim + SIDE * p, rim : rim + SIDE * p]
    apart = inner.unflatten(-1, (SIDE, p)).unflatten(-3, (SIDE, p))  # (B, T, C, 3, p, 3, p)
    return apart.permute(0, 3, 5, 1, 2, 4, 6).flatten(1, 2)


def from_patches(patches: Tensor, size: int) -> Tensor:
    """Join patches (B, 9, T, C, p, p) to cubes (B, T, C, size, size) with a black rim."""
    apart = patches.unflatten(1, (SIDE, SIDE)).permute(0, 3, 4, 1, 5, 2, 6)
    inner = apart.flatten(5, 6).flatten(3, 4)
    spare = size - inner.shape[-1]
    before, after = spare // 2, spare - spare // 2
    return F.pad(inner, (before, after, before, after))


def puzzle_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits (B, n, n) and true places (B, n): the mean over items and places."""
    return F.cross_entropy(logits.flatten(0, 1).float(), target.flatten())


def doubt(logits: Tensor) -> Tensor:
    """One minus the smallest probability on the diagonal: logits (B, n, n) to (B,) in [0, 1].

    The diagonal holds, for each place, the probability that what is there belongs there. The
    others of its row are added up, because one minus that probability rounds to 0.
    """
    elsewhere = 1 - torch.eye(logits.shape[1], device=logits.device)
    return (logits.float().softmax(dim=2) * elsewhere).sum(dim=2).amax(dim=1)
