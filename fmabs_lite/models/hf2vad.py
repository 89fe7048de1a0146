"""HF2-VAD: reconstruct an object's motion from memory, then predict by it (chapter 15).

After Liu et al., ICCV 2021 (https://arxiv.org/abs/2108.06852), and the settings of the code they
released.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from fmabs_lite.data.flow import pixels
from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.models.blocks import double
from fmabs_lite.models.pkgnet import doubled, draw_kaiming, gradient_loss, strided
from fmabs_lite.recipe import recorded

# --- the memory, and the network that reconstructs flow --------------------------------------


class Slots(nn.Module):
    """Answers with a sparse mix of what it has stored: a memory of whole features (MemAE).

    Args:
        count: of stored features. size: numbers in each. least: weights below it become 0.
    """

    def __init__(self, count: int, size: int, least: float):
        super().__init__()
        self.stored = nn.Parameter(torch.empty(count, size).uniform_(-(size**-0.5), size**-0.5))
        self.least = least

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to an answer of that shape, and the weights (B, count) of what is stored."""
        weights = (feature.flatten(1) @ self.stored.T).softmax(dim=1)
        weights = F.normalize(shrunk(weights, self.least), p=1, dim=1)
        return (weights @ self.stored).view_as(feature), weights


def shrunk(weights: Tensor, least: float) -> Tensor:
    """Weights up to `least` become 0; larger ones stay nearly as they are, with a slope."""
    over = weights - least
    return over.relu() * weights / (over.abs() + 1e-12)


def entropy(weights: Tensor) -> Tensor:
    """Mean over the batch of −Σ w log w: small where few stored features make an answer."""
    return -(weights * (weights + 1e-12).log()).sum(dim=1).mean()


@recorded()
class FlowNet(nn.Module):
    """Flow to flow past three memories and two skips: (B, n, 2, s, s) to the same.

    The deepest skip is left out, so that what is deepest comes from memory alone.

    Args:
        width: channels of the first block; 32 as published.
        size: s, a multiple of 8. slots: stored features of each memory; 2 000 as published.
    """

    def __init__(self, width: int = 32, size: int = 32, slots: int = 2000):
        super().__init__()
        w, deep = width, size // 8
        self.size = size
        self.encoder = nn.ModuleList(
            [double(2, w), strided(w, 2 * w), strided(2 * w, 4 * w), strided(4 * w, 8 * w)]
        )
        self.memory = nn.ModuleList(
            Slots(slots, channels * side**2, 1 / slots)
            for channels, side in ((8 * w, deep), (4 * w, 2 * deep), (2 * w, 4 * deep))
        )
        self.up = nn.ModuleList([doubled(8 * w, 4 * w), doubled(4 * w, 2 * w), doubled(2 * w, w)])
        self.decoder = nn.ModuleList([double(4 * w, 4 * w), double(4 * w, 2 * w), double(2 * w, w)])
        self.last = nn.Conv2d(w, 2, 1)
        self.apply(draw_kaiming)

    def forward(self, flows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Also returns the weights (B · n, slots) of each memory."""
        if flows.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"These flows are {flows.shape[-2]}×{flows.shape[-1]} pixels, and the memories "
                f"hold features of {self.size}×{self.size}. Cut cubes of this size, or build the "
                "network with another one."
            )
        x, skips, said = flows.flatten(0, 1), [], []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        skips = [skips[1], skips[0]]
        for k, (remember, enlarge) in enumerate(zip(self.memory, self.up, strict=True)):
            x, weights = remember(x)
            said.append(weights)
            x = enlarge(x)
            x = self.decoder[k](torch.cat([skips[k - 1], x], dim=1) if k else x)
        return self.last(x).view_as(flows), said


@recorded()
class FlowMemory(Detector):
    """Stage one: reconstruct the flow of an object from memory (chapter 15).

    L_o = squared error + 0.0002 · the entropies of the three memories, on the last flow of a cube,
    as released. Raw parts, over all flows of a cube: S_o and map_o, the squared error.

    Args: as `FlowNet`. At the published width 60 114 338 parameters, nearly all of them memory.
    """

    def __init__(self, width: int = 32, size: int = 32, slots: int = 2000):
        super().__init__()
        self.network = FlowNet(width, size, slots)

    def prepare(self, batch: Tensor) -> Prepared:
        """Cubes (B, length, C + 2, s, s) in [0, 1], see `with_flow`; the flows, in pixels."""
        flows = flows_of(batch)
        if self.training:
            flows = flows[:, -1:]
        return Prepared(input=flows, target=flows)

    def loss(self, prepared: Prepared) -> Tensor:
        flows, said = self.network(prepared.input)
        error = F.mse_loss(flows.float(), prepared.target)
        return error + 2e-4 * sum(entropy(weights.float()) for weights in said)

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        error = (self.network(prepared.input)[0].float() - prepared.target) ** 2
        return {"S_o": error.mean(dim=(1, 2, 3, 4)), "map_o": error.mean(dim=(1, 2))}


def flows_of(batch: Tensor) -> Tensor:
    """The flows of cubes, in pixels: (B, length, C + 2, s, s) to (B, length − 1, 2, s, s)."""
    return pixels(batch[:, 1:, -2:])


# --- the conditional variational auto-encoder -------------------------------------------------


class Scaled(nn.Module):
    """A convolution with normalised weights, then a learnt scale and shift of each channel."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.conv = weight_norm(nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2))
        self.gamma = nn.Parameter(torch.ones(1, c_out, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, c_out, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * self.conv(x) + self.beta


class Residual(nn.Module):
    """x + conv(ELU(x)); with `aside` it also looks at a second feature of the same shape."""

    def __init__(self, channels: int, aside: bool = False):
        super().__init__()
        self.look = Scaled(channels, channels) if aside else None
        self.conv = Scaled(channels * (1 + aside), channels, 3)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        seen = x if self.look is None else torch.cat([x, self.look(F.elu(beside))], dim=1)
        return x + self.conv(F.elu(seen))


def to_depth(x: Tensor) -> Tensor:
    """Each 2 × 2 block of positions to four groups of channels: (B, 4C, H/2, W/2)."""
    return x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def to_space(x: Tensor) -> Tensor:
    """Undoes `to_depth`."""
    groups = x.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2)
    return groups.flatten(4, 5).flatten(2, 3)


class Enlarge(nn.Module):
    """Double the resolution: four times the channels, spread over 2 × 2 positions."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = Scaled(c_in, 4 * c_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return to_space(self.conv(x))


class Stages(nn.Module):
    """Encode at s, s/2, s/4, … down to 4 × 4: for each stage the features of its two blocks."""

    def __init__(self, c_in: int, width: int, size: int):
        super().__init__()
        count = (size // 4).bit_length()  # 4 for s = 32
        channels = [min(width * 2**k, 2 * width) for k in range(count)]
        self.first = Scaled(c_in, width)
        self.down = nn.ModuleList(
            Scaled(a, b, 3, stride=2) for a, b in zip(channels, channels[1:], strict=False)
        )
        self.blocks = nn.ModuleList(nn.ModuleList([Residual(c), Residual(c)]) for c in channels)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        x, found = self.first(x), []
        for k, (one, two) in enumerate(self.blocks):
            first = one(self.down[k - 1](x) if k else x)
            x = two(first)
            found.append((first, x))
        return found


class Posterior(nn.Module):
    """The means of z at 4 × 4 and 8 × 8, given the frames and the flow."""

    def __init__(self, channels: int):
        super().__init__()
        c = channels
        self.first, self.merge, self.up = Scaled(c, c), Scaled(2 * c, c), Enlarge(c, c)
        self.blocks = nn.ModuleList(Residual(c, aside=True) for _ in range(3))

    def forward(
        self, seen: list[tuple[Tensor, Tensor]], noise: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Means and samples, the coarse ones first."""
        (near, near_2), (deep, deep_2) = seen[-2:]
        coarse = self.blocks[0](self.first(deep_2), deep_2)
        z = coarse + noise[0]
        h = self.up(self.blocks[1](coarse, self.merge(torch.cat([deep, z], dim=1))))
        fine = self.blocks[2](h, near_2)
        return [coarse, fine], [z, fine + noise[1]]


class PriorMeans(nn.Module):
    """The means of z from its earlier parts: each of four positions is told by those before it."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.narrow = Residual(channels), Scaled(4 * channels, channels)
        self.later = nn.ModuleList(Residual(channels, aside=True) for _ in range(3))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        means = [self.narrow(to_depth(self.first(h)))]
        for step, part in zip(self.later, to_depth(z).chunk(4, dim=1), strict=False):
            means.append(step(means[-1], part))
        return to_space(torch.cat(means, dim=1))


class Bottleneck(nn.Module):
    """Joins the flow's features with z: a feature at 8 × 8, and the means that flow alone tells."""

    def __init__(self, channels: int):
        super().__init__()
        c = channels
        self.first, self.up, self.means = Scaled(c, c), Enlarge(c, c), PriorMeans(c)
        self.merge = nn.ModuleList([Scaled(2 * c, c), Scaled(2 * c, c)])
        self.before = nn.ModuleList([Residual(c, aside=True), Residual(c, aside=True)])
        self.after = nn.ModuleList([Residual(c, aside=True), Residual(c, aside=True)])

    def forward(
        self, told: list[tuple[Tensor, Tensor]], z: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        h, means = self.first(told[-1][1]), []
        for k, (first, second) in enumerate(reversed(told[-2:])):
            h = self.before[k](h, second)
            means.append(self.means(h, z[k]))
            h = self.after[k](h, self.merge[k](torch.cat([first, z[k]], dim=1)))
            h = h if k else self.up(h)
        return h, means


class Decoder(nn.Module):
    """From 8 × 8 up to the frame, with skips from what was seen."""

    def __init__(self, width: int, stages: int, c_out: int):
        super().__init__()
        channels = [2 * width] * (stages - 3) + [width]
        before = [2 * width] * (stages - 2)
        self.up = nn.ModuleList(Enlarge(a, b) for a, b in zip(before, channels, strict=True))
        self.blocks = nn.ModuleList(
            nn.ModuleList([Residual(c, aside=True), Residual(c, aside=True)]) for c in channels
        )
        self.last = Scaled(width, c_out)

    def forward(self, h: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        for enlarge, (two, one), (first, second) in zip(
            self.up, self.blocks, reversed(seen[:-2]), strict=True
        ):
            h = one(two(enlarge(h), second), first)
        return self.last(h).sigmoid()


class Predicted(NamedTuple):
    """A frame (B, C, s, s); and the means of z by all that was seen, and by flow alone."""

    frame: Tensor
    seen: list[Tensor]
    told: list[Tensor]


@recorded()
class Cvae(nn.Module):
    """Predict a frame from earlier ones and reconstructed flow, through a latent z.

    Args:
        c_frames, c_flows: channels of all frames and of all flows that are given.
        c_out: of the frame predicted. width: channels of the first stage; 64 as published.
        size: 16 or 32, as published.
    """

    def __init__(self, c_frames: int, c_flows: int, c_out: int, width: int = 64, size: int = 32):
        super().__init__()
        self.size = size
        self.seen = Stages(c_frames + c_flows, width, size)
        self.told = Stages(c_flows, width, size)
        self.posterior = Posterior(2 * width)
        self.bottleneck = Bottleneck(2 * width)
        self.decoder = Decoder(width, len(self.seen.blocks), c_out)

    def forward(self, frames: Tensor, flows: Tensor, noise: list[Tensor]) -> Predicted:
        """`noise`: what is added to z's means at 4 × 4 and at 8 × 8; zeros to judge."""
        seen = self.seen(torch.cat([frames, flows], dim=1))
        means, z = self.posterior(seen, noise)
        h, prior = self.bottleneck(self.told(flows), z)
        return Predicted(self.decoder(h, seen), means, prior)


def divergence(seen: list[Tensor], told: list[Tensor]) -> Tensor:
    """KL of two Gaussians of variance 1: ½ ‖difference of the means‖², summed; mean over B."""
    return sum(
        0.5 * ((a - b) ** 2).flatten(1).sum(dim=1).mean() for a, b in zip(seen, told, strict=True)
    )


class Given(NamedTuple):
    """Frames (B, 4C, s, s), reconstructed flow (B, 8, s, s), noise; the last frame, the true flow.

    flow_error: the squared error of the reconstructed flow, (B,).
    """

    input: Tensor
    flows: Tensor
    noise: list[Tensor]
    target: Tensor
    flow_error: Tensor


@recorded()
class Hf2vad(Detector):
    """Stage two: predict an object's frame, guided by flow from memory (chapter 15).

    L_o = squared error + `gradient_loss` with exponent 1 + `divergence`. Raw parts: S_o and map_o,
    the squared error of the frame; S_flow, that of the flow. Where flow cannot be reconstructed
    the frame is predicted from a flow that is not the object's own: one failure makes the other
    larger. The two are put on one scale by training cubes and added. At the published width, in
    colour, 8 990 668 parameters beside the memory's.

    The released code has dropout of 0.1 in every block. It is left out: a loss here depends on
    what was prepared alone.

    Args:
        memory: a trained stage one. It is frozen, no parameter, and with its fingerprint
            alone in the state_dict.
        width, size: as `Cvae`. channels: of a frame. frames: seen before the one predicted.
    Raises:
        ValueError: for a size that is not 16 or 32, or not the memory's.
    """

    def __init__(
        self, memory: FlowMemory, width: int = 64, size: int = 32, channels: int = 3,
        frames: int = 4,
    ):  # fmt: skip
        super().__init__()
        if size not in (16, 32) or memory.network.size != size:
            raise ValueError(
                f"size is {size}, the memory's {memory.network.size}; both must be 16 or 32."
            )
        self._memory = (memory.eval().requires_grad_(False),)  # a tuple, so nobody trains it
        self.channels, self.frames, self.size = channels, frames, size
        self.network = Cvae(channels * frames, 2 * frames, channels, width, size)

    @property
    def memory(self) -> FlowMemory:
        return self._memory[0]

    def frozen(self) -> dict[str, nn.Module]:
        return {"memory": self.memory}

    def _apply(self, fn, recurse=True):
        self.memory._apply(fn)  # .to(device) takes it along
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def prepare(self, batch: Tensor) -> Given:
        """Cubes (B, frames + 1, C + 2, s, s) in [0, 1]; see `with_flow`."""
        if batch.shape[1:3] != (self.frames + 1, self.channels + 2):
            raise ValueError(
                f"batch has cubes of {batch.shape[1]} frames with {batch.shape[2]} channels; this "
                f"HF2-VAD takes {self.frames + 1} with {self.channels + 2}, of which two are flow. "
                "Cut the cubes of clips from with_flow."
            )
        true = flows_of(batch)
        flows = self.memory.network(true)[0].float()
        c, sides = self.network.bottleneck.first.beta.shape[1], (4, 8)
        draw = torch.randn if self.training else torch.zeros
        noise = [draw(batch.shape[0], c, side, side, device=batch.device) for side in sides]
        look = batch[:, :, : self.channels]
        error = ((flows - true) ** 2).mean(dim=(1, 2, 3, 4))
        return Given(look[:, :-1].flatten(1, 2), flows.flatten(1, 2), noise, look[:, -1], error)

    def loss(self, prepared: Given) -> Tensor:
        found = self.network(prepared.input, prepared.flows, prepared.noise)
        frame = found.frame.float()
        loss = F.mse_loss(frame, prepared.target) + gradient_loss(frame, prepared.target, 1.0)
        means = [[m.float() for m in means] for means in (found.seen, found.told)]
        return loss + divergence(*means)

    def score(self, prepared: Given) -> dict[str, Tensor]:
        found = self.network(prepared.input, prepared.flows, prepared.noise)
        error = (found.frame.float() - prepared.target) ** 2
        return {"S_o": error.mean(dim=(1, 2, 3)), "map_o": error.mean(dim=1),
                "S_flow": prepared.flow_error}  # fmt: skip
