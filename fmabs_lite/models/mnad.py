"""MNAD: an auto-encoder that may only answer with the help of a few remembered items (chapter 11).

After Park, Noh and Ham, CVPR 2020 (https://doi.org/10.1109/CVPR42600.2020.01438), and the settings
of the code they released.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.models.blocks import block, double
from fmabs_lite.recipe import recorded
from fmabs_lite.scoring import minmax
from fmabs_lite.videos import psnr

TASKS = ("prediction", "reconstruction")


def read(query: Tensor, items: Tensor) -> Tensor:
    """Answer each query with a mixture of the items, the most similar weighing most (chapter 11).

    Args:
        query: (N, C), of length 1 each. items: (M, C), likewise.
    Returns:
        (N, C). No gradient flows through the weights, as in the released code.
    """
    weights = torch.softmax(query @ items.T, dim=1).detach()
    return weights @ items


def updated(query: Tensor, items: Tensor) -> Tensor:
    """Move each item towards the queries that are nearest to it (chapter 11).

    An item gains the sum of its queries, weighted by their share of its attention, the largest
    share being 1, and is then scaled back to length 1.

    Args:
        query: (N, C), of length 1 each. items: (M, C), likewise.
    Returns:
        The new items, (M, C).
    """
    similar = query @ items.T
    share = torch.softmax(similar, dim=0)
    share = share / share.max(dim=0).values
    mine = F.one_hot(similar.argmax(dim=1), len(items))
    return F.normalize(items + (share * mine).T @ query, dim=1)


def compactness(query: Tensor, items: Tensor) -> Tensor:
    """How far each query (N, C) is from its nearest item: mean squared differences, (N,)."""
    nearest = items[(query @ items.T).argmax(dim=1)]
    return (query - nearest).square().mean(dim=1)


def separateness(query: Tensor, items: Tensor, margin: float = 1.0) -> Tensor:
    """By how much the second nearest item fails to be `margin` farther than the nearest: (N,)."""
    first, second = (query @ items.T).topk(2, dim=1).indices.T
    near = F.pairwise_distance(query, items[first])
    far = F.pairwise_distance(query, items[second])
    return F.relu(near - far + margin)


class Memory(nn.Module):
    """A few items of length 1 that every answer has to be mixed from (chapter 11).

    `forward` takes a feature (B, C, H, W); each of its B·H·W places is a query. It returns
    (B, 2C, H, W), the queries of length 1 beside what was read, and the queries (B·H·W, C).
    While training, each call updates `items` (M, C) afterwards. They are no parameters: no
    gradient reaches them.
    """

    items: Tensor

    def __init__(self, channels: int, count: int = 10):
        super().__init__()
        self.register_buffer("items", F.normalize(torch.rand(count, channels), dim=1))

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        b, c, h, w = feature.shape
        with torch.autocast(feature.device.type, enabled=False):  # bf16 is too coarse to compare
            query = F.normalize(feature.float(), dim=1).movedim(1, 3).reshape(-1, c)
            answer = torch.cat([query, read(query, self.items)], dim=1)
            if self.training:
                self.update(query)
        return answer.view(b, h, w, 2 * c).movedim(3, 1), query

    @torch.no_grad()
    def update(self, query: Tensor) -> None:
        # A new tensor: the graph of this step still needs the old one.
        self.items = updated(query, self.items)


@recorded()
class MemoryNet(nn.Module):
    """MNAD's network: (B, c_in, H, W) to (B, c_out, H, W) in [-1, 1], and queries (chapter 11).

    `bottleneck` gives the feature before it is scaled to length 1: (B, 8 · width, H/8, W/8), 512
    × 32 × 32 at the published size. H and W are multiples of 8. With `skips` three concatenations
    lead past bottleneck and memory; without, the decoder's upper layers are wider instead.
    """

    def __init__(self, c_in: int, c_out: int, width: int, items: int, skips: bool):
        super().__init__()
        w, self.skips = width, skips
        self.encoder = nn.ModuleList([double(c_in, w), double(w, 2 * w), double(2 * w, 4 * w)])
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = nn.Sequential(*block(4 * w, 8 * w), nn.Conv2d(8 * w, 8 * w, 3, padding=1))
        self.memory = Memory(8 * w, items)
        self.recall = double(16 * w, 8 * w)
        narrow = 2 if skips else 1  # leaves room for what the skip brings
        self.up = nn.ModuleList([widen(k * w, k * w // narrow) for k in (8, 4, 2)])
        self.decoder = nn.ModuleList([double(8 * w, 4 * w), double(4 * w, 2 * w)])
        self.last = nn.Sequential(double(2 * w, w), nn.Conv2d(w, c_out, 3, padding=1), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(
                f"MNAD got an input of {x.shape[-2]}×{x.shape[-1]} pixels; height and width must "
                "be multiples of 8, because it halves them three times. Choose another size when "
                "loading the data."
            )
        passed = []
        for encode in self.encoder:
            x = encode(x)
            passed.append(x)
            x = self.pool(x)
        answer, query = self.memory(self.bottleneck(x))
        x = self.recall(answer)
        for enlarge, decode in zip(self.up, [*self.decoder, self.last], strict=True):
            x = enlarge(x)
            x = decode(torch.cat([x, passed.pop()], dim=1) if self.skips else x)
        return x, query


def widen(c_in: int, c_out: int) -> nn.Sequential:
    """Double the resolution with a transposed 3×3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(c_in, c_out, 3, 2, padding=1, output_padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


@recorded()
class Mnad(Detector):
    """Predict the next frame, or draw the same again, through a memory of sound frames (ch. 11).

    L_o = mean squared error + weight · compactness + weight · separateness. Raw parts: S_o and
    map_o, the squared error on images in [0, 1]; S_memory, the mean squared difference between a
    query and its nearest item. `memory_score` makes MNAD's own score of the two.

    At the published width 15 650 819 parameters predict and 17 195 267 reconstruct. The released
    code counts 15 651 843 and 17 196 291: it declares a batch normalisation of 512 channels that
    never runs.

    Args:
        task: "prediction", of the last frame of a window from the others, with skips; or
            "reconstruction" of single frames, without.
        channels: of a frame, 1 or 3. frames: seen before the one that is predicted.
        width: channels of the first block; items: of the memory.
        weight: of compactness and of separateness; 0.1 for prediction, 0.01 for reconstruction
            when None.
        update_below: the published code also updates the memory at test time, by every frame
            whose weighted error (see `weighted_error`) is below 0.01 (prediction) or 0.015, and
            carries it on from video to video. None, our default, leaves the memory as training
            left it, so that a score depends on its own window only.
    Raises:
        ValueError: for another task.
    """

    def __init__(
        self,
        task: str = "prediction",
        channels: int = 3,
        frames: int = 4,
        width: int = 64,
        items: int = 10,
        weight: float | None = None,
        update_below: float | None = None,
    ):
        super().__init__()
        if task not in TASKS:
            raise ValueError(f"task is {task!r}; choose one of {', '.join(TASKS)}.")
        predicts = task == "prediction"
        self.length = frames + 1 if predicts else 1  # frames of a window
        self.weight = (0.1 if predicts else 0.01) if weight is None else weight
        self.update_below = update_below
        c_in = channels * frames if predicts else channels
        self.network = MemoryNet(c_in, channels, width, items, skips=predicts)

    def prepare(self, batch: Tensor) -> Prepared:
        """(B, length, C, H, W) in [0, 1] to what is shown and what is due, in [-1, 1]."""
        if batch.shape[1] != self.length:
            raise ValueError(
                f"batch has windows of {batch.shape[1]} frames, but this MNAD takes {self.length}. "
                f"Give Windows a length of {self.length}."
            )
        scaled = 2 * batch - 1
        shown = scaled if self.length == 1 else scaled[:, :-1]
        return Prepared(input=shown.flatten(1, 2), target=scaled[:, -1])

    def loss(self, prepared: Prepared) -> Tensor:
        # The update replaces the items: these are the ones that were read.
        items = self.network.memory.items
        frame, query = self.network(prepared.input)
        apart = compactness(query, items).mean() + separateness(query, items).mean()
        return F.mse_loss(frame.float(), prepared.target) + self.weight * apart

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        if self.update_below is None:
            return self._parts(prepared)[0]
        rows = []
        for one in range(len(prepared.target)):  # in order: each may change what the next finds
            parts, query = self._parts(Prepared(*(part[one : one + 1] for part in prepared)))
            if weighted_error(parts["map_o"]) < self.update_below:
                self.network.memory.update(query)
            rows.append(parts)
        return {name: torch.cat([parts[name] for parts in rows]) for name in rows[0]}

    def _parts(self, prepared: Prepared) -> tuple[dict[str, Tensor], Tensor]:
        frame, query = self.network(prepared.input)
        error = ((frame - prepared.target) / 2).square().mean(dim=1)  # in [0, 1], as the images
        apart = compactness(query, self.network.memory.items)
        distance = apart.view(frame.shape[0], -1).mean(dim=1)
        return {"S_o": error.mean(dim=(1, 2)), "map_o": error, "S_memory": distance}, query


def weighted_error(error: Tensor) -> Tensor:
    """One frame's squared error (1, H, W), each pixel weighted by the error itself (chapter 11).

    MNAD asks with it whether a test frame is sound enough to be remembered. The weight of a pixel
    is 1 − exp(−e); images are in [0, 1].
    """
    weights = 1 - torch.exp(-error)
    return (weights * error).sum() / weights.sum().clamp(min=1e-12)


def memory_score(parts: dict, videos: np.ndarray, alpha: float = 0.6) -> np.ndarray:
    """MNAD's score, turned so that larger is more anomalous (chapter 11).

    1 − S = α · (1 − minmax(PSNR)) + (1 − α) · minmax(distance), each scaled within its video.

    Args:
        parts: from `collect`, with "S_o" and "S_memory".
        videos: (N,), the clip of each frame.
        alpha: α in [0, 1]: 0.6 as published for prediction, 0.7 for reconstruction.
    """
    blurred = 1 - minmax(psnr(parts["S_o"]), videos)
    return alpha * blurred + (1 - alpha) * minmax(parts["S_memory"], videos)
