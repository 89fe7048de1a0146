"""SSPCAB, the rival of FMABS on DRAEM: a block that must predict what it cannot see (ch. 10)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.recipe import recorded
from fmabs_lite.taps import first_tensor, layer, with_first_tensor


@recorded()
class SSPCAB(nn.Module):
    """Predict each position of a feature from the corners around it (Ristea et al., CVPR 2022).

    Four convolutions read the four corners of a window whose middle is left out; their sum
    passes a ReLU and a squeeze-and-excitation gate. (B, C, H, W) to (B, C, H, W). Chapter 10.

    Args:
        channels: C; 4 461 696 parameters at 1024.
        kernel: side k of each corner.
        gap: positions between a corner and the middle, d.
        reduction: C divided by the units in the gate's hidden layer.
    """

    def __init__(self, channels: int, kernel: int = 1, gap: int = 1, reduction: int = 8):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.border = kernel + gap
        self.step = kernel + 2 * gap + 1  # from one corner to the next
        self.corners = nn.ModuleList(nn.Conv2d(channels, channels, kernel) for _ in range(4))
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        seen = F.pad(x, [self.border] * 4)
        near, far = slice(None, -self.step), slice(self.step, None)
        views = [seen[..., rows, columns] for rows in (near, far) for columns in (near, far)]
        x = F.relu(sum(corner(view) for corner, view in zip(self.corners, views, strict=True)))
        gate = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return x * gate[..., None, None]


@recorded()
class WithSSPCAB(Detector):
    """Any detector with a block behind some layers that must predict their output (chapter 10).

    Its loss is L_o + weight · Σ ‖block(Fea) − Fea‖² as a mean; the next layer gets block(Fea). The
    wrapped network is not changed: forward hooks put the blocks in. Score and maps stay.

    Args:
        detector: its `loss` and `score` call `network(…)`.
        at: paths of the layers. Ristea et al. name the penultimate one; for DRAEM their repository
            says both networks, without a layer. A map should be larger than the block's window,
            2k + 2d + 1, or its corners see little but the border.
        blocks: one for each path, as `SSPCAB(channels)`.
        weight: 0.1 in the authors' code.
    Raises:
        ValueError: when a path names no layer, there is not one block for each, or, in `loss`, a
            layer never ran.
    """

    def __init__(
        self, detector: Detector, at: Sequence[str], blocks: Sequence[nn.Module],
        weight: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        if isinstance(at, str) or len(at) != len(blocks):
            raise ValueError(
                f"at is {at!r}, with {len(blocks)} block(s); give a list of layers, and a block "
                "for each."
            )
        taps = [layer(detector.network, path) for path in at]
        self.detector, self.blocks, self.weight = detector, nn.ModuleList(blocks), weight
        self._errors: list[Tensor] | None = None  # while a loss asks
        for tap, block in zip(taps, self.blocks, strict=True):
            tap.register_forward_hook(partial(self._predict, block))

    @property
    def network(self) -> nn.Module:
        return self.detector.network

    def prepare(self, batch: Tensor) -> Prepared:
        return self.detector.prepare(batch)

    def loss(self, prepared: Prepared) -> Tensor:
        self._errors = errors = []
        try:
            loss_o = self.detector.loss(prepared)
        finally:
            self._errors = None  # no feature outlives its step
        if len(errors) < len(self.blocks):
            raise ValueError(
                f"Of {len(self.blocks)} layers with a block only {len(errors)} ran. Choose layers "
                "that the network calls."
            )
        return loss_o + self.weight * sum(errors)

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        return self.detector.score(prepared)

    def _predict(self, block: nn.Module, module: nn.Module, args: tuple, output):
        feature = first_tensor(output)
        predicted = block(feature)
        if self._errors is not None:
            self._errors.append(F.mse_loss(predicted.float(), feature.float()))
        # A copy goes on: a ReLU that works in place would overwrite what is compared.
        return with_first_tensor(output, predicted.clone())
