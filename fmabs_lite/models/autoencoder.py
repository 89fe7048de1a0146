"""The small auto-encoder that chapters 03 to 09 learn on, and its two proxy tasks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.recipe import recorded


def down(c_in: int, c_out: int) -> nn.Sequential:
    """Halve the resolution: (B, c_in, H, W) to (B, c_out, H/2, W/2)."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 4, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU())


def up(c_in: int, c_out: int) -> nn.Sequential:
    """Double the resolution: (B, c_in, H, W) to (B, c_out, 2H, 2W)."""
    return nn.Sequential(nn.ConvTranspose2d(c_in, c_out, 4, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU())


@recorded()
class AutoEncoder(nn.Module):
    """Three strides of two down, a 1×1 bottleneck, and the same way up again (chapter 03).

    `bottleneck` is the layer at which FMABS compares teacher and student: its output has shape
    (B, code, H/8, W/8), without an activation. The last convolution has none either.

    Args:
        c_in, c_out: channels of input and output.
        width: channels after the first stride; they double at each of the next two.
        code: channels of the bottleneck.
    """

    def __init__(self, c_in: int = 3, c_out: int = 3, width: int = 16, code: int = 32):
        super().__init__()
        w = width
        self.encoder = nn.Sequential(down(c_in, w), down(w, 2 * w), down(2 * w, 4 * w))
        self.bottleneck = nn.Conv2d(4 * w, code, 1)
        self.decoder = nn.Sequential(
            up(code, 2 * w), up(2 * w, w), nn.ConvTranspose2d(w, c_out, 4, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, H, W) to (B, c_out, H, W); H and W must be multiples of 8."""
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(
                f"AutoEncoder got an input of {x.shape[-2]}×{x.shape[-1]} pixels; height and "
                "width must be multiples of 8, because it halves them three times. Choose "
                "another size when loading the data."
            )
        return self.decoder(self.bottleneck(self.encoder(x)))


@recorded()
class Reconstruction(Detector):
    """Give back the image that came in (chapter 03).

    L_o is the mean squared error; S_o is the same error of one image, map_o of one pixel.

    Args:
        network: maps (B, 3, H, W) to (B, 3, H, W). Another answer is refused.
        damage: share of the side of a square that is painted over while training, so
            that the network learns to repair; 0 leaves the input as it is. Scoring never damages.
    """

    def __init__(self, network: nn.Module, damage: float = 0.0):
        super().__init__()
        self.network = network
        self.damage = damage

    def prepare(self, batch: Tensor) -> Prepared:
        if self.training and self.damage:
            return Prepared(input=damaged(batch, self.damage), target=batch)
        return Prepared(input=batch, target=batch)

    def loss(self, prepared: Prepared) -> Tensor:
        return F.mse_loss(answered(self.network, prepared), prepared.target)

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        error = (answered(self.network, prepared) - prepared.target) ** 2
        return {"S_o": error.mean(dim=(1, 2, 3)), "map_o": error.mean(dim=1)}


def answered(network: nn.Module, prepared: Prepared) -> Tensor:
    """What a network makes of its input, in fp32, if it can be compared with the target.

    Raises:
        TypeError: when it is no tensor.
        ValueError: when it has another shape: the difference would be of something else.
    """
    output, wanted = network(prepared.input), tuple(prepared.target.shape)
    name = type(network).__name__
    if not isinstance(output, Tensor):
        raise TypeError(
            f"{name} returns a {type(output).__name__}; a tensor {wanted} is wanted. Wrap it in a "
            "module that returns the image alone, as lambda x: network(x)['out'] would."
        )
    if output.shape != wanted:
        raise ValueError(
            f"{name} returns {tuple(output.shape)} where the target is {wanted}; give a network "
            "that returns this shape, or pictures of a size that it can keep."
        )
    return output.float()


@recorded()
class Prediction(Reconstruction):
    """Predict what will change between the last two frames of a window (chapter 09).

    A batch is (B, T, C, H, W). The first T − 1 frames become channels of the input; the target
    is the last frame minus the one before it, in [−1, 1]. So map_o is the square of the change
    that was not foreseen, and a network that foresees nothing scores like a frame difference.
    """

    def prepare(self, batch: Tensor) -> Prepared:
        return Prepared(input=batch[:, :-1].flatten(1, 2), target=batch[:, -1] - batch[:, -2])


def damaged(images: Tensor, share: float) -> Tensor:
    """Overwrite one random square per image with a random grey (chapter 03).

    Args:
        images: (B, C, H, W), values in [0, 1].
        share: the square's side as a share of the image's side, in (0, 1).
    """
    b, _, h, w = images.shape
    side = round(share * min(h, w))
    top = torch.randint(0, h - side + 1, (b, 1, 1, 1), device=images.device)
    left = torch.randint(0, w - side + 1, (b, 1, 1, 1), device=images.device)
    row = torch.arange(h, device=images.device).view(1, 1, h, 1)
    col = torch.arange(w, device=images.device).view(1, 1, 1, w)
    hole = (row >= top) & (row < top + side) & (col >= left) & (col < left + side)
    return torch.where(hole, torch.rand(b, 1, 1, 1, device=images.device), images)
