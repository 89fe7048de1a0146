"""Feature mimicking: a student copies one hidden layer of a frozen teacher (chapter 04)."""

import copy

import torch
from torch import Tensor, nn

from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.scoring import feature_score


def inconsistency(fea_t: Tensor, fea_s: Tensor) -> Tensor:
    """Fea_I = |Fea_T − Fea_S|, element by element (FMABS eq. 1, chapter 04).

    Args:
        fea_t, fea_s: features of teacher and student, (B, C, H, W).
    Returns:
        (B, C, H, W), not negative.
    """
    return (fea_t - fea_s).abs()


def mimic_loss(fea_t: Tensor, fea_s: Tensor) -> Tensor:
    """L_fea = ‖Fea_T − Fea_S‖²₂, as a mean over all elements (FMABS eq. 3, chapter 04).

    The paper writes a sum; over the thousands of elements of a feature a sum would drown L_o.
    """
    return ((fea_t - fea_s) ** 2).mean()


class Boosted(Detector):
    """Any detector that must also mimic a teacher at one layer (FMABS eq. 3 to 6, chapter 04).

    The teacher is a frozen copy of the network given. Forward hooks show it what the student is
    shown, take both features at the layer `at`, and stop the teacher there: nothing behind that
    layer is needed. The wrapped network itself is not changed.

    Args:
        detector: the student, with a `network` and the three verbs.
        teacher: a trained network in which `at` has the same output shape.
        at: path of the tapped layer, as in `network.get_submodule`.
        weight: weight of L_fea beside L_o; the paper has 1.
    Raises:
        ValueError: when `at` names no layer, or teacher and student share parameters.
    """

    def __init__(
        self, detector: Detector, teacher: nn.Module, at: str = "bottleneck", weight: float = 1.0
    ):
        super().__init__()
        refuse_shared(detector.network, teacher)
        self.detector = detector
        self.weight = weight
        frozen = copy.deepcopy(teacher).eval().requires_grad_(False)
        # In a tuple, so that it is no submodule: not trained, not saved, not set to train mode.
        self._teacher = (frozen,)
        self._features: dict[str, Tensor] = {}
        layer(frozen, at).register_forward_hook(self._take_and_stop)
        detector.network.register_forward_pre_hook(self._show_teacher)
        layer(detector.network, at).register_forward_hook(self._take)

    @property
    def network(self) -> nn.Module:
        return self.detector.network

    @property
    def teacher(self) -> nn.Module:
        return self._teacher[0]

    def prepare(self, batch: Tensor) -> Prepared:
        return self.detector.prepare(batch)

    def loss(self, prepared: Prepared) -> Tensor:
        """L_total = L_o + weight · L_fea (eq. 4)."""
        loss_o = self.detector.loss(prepared)
        return loss_o + self.weight * mimic_loss(*self._taken())

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        """The detector's parts, S_fea (eq. 5), and its map (B, h, w) at the layer's resolution."""
        parts = self.detector.score(prepared)
        fea_t, fea_s = self._taken()
        where = (inconsistency(fea_t, fea_s) ** 2).mean(dim=1)
        return parts | {"S_fea": feature_score(fea_t, fea_s), "map_fea": where}

    def _show_teacher(self, network: nn.Module, inputs: tuple) -> None:
        try:
            with torch.no_grad():
                self.teacher(*inputs)
        except _Stop:
            pass

    def _take_and_stop(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._features["teacher"] = output
        raise _Stop

    def _take(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._features["student"] = output

    def _taken(self) -> tuple[Tensor, Tensor]:
        # Popped, so that no feature outlives its step. In fp32: squares of bf16 are too coarse.
        return self._features.pop("teacher").float(), self._features.pop("student").float()

    def _apply(self, fn, recurse=True):
        self.teacher._apply(fn)  # .to(device) takes the teacher along
        return super()._apply(fn, recurse)


class _Stop(Exception):
    """Ends the teacher's forward pass at the tapped layer."""


def layer(network: nn.Module, at: str) -> nn.Module:
    """Return the submodule named `at`, or raise a ValueError that lists the layers there are."""
    names = [name for name, _ in network.named_modules() if name]
    if at not in names:
        raise ValueError(
            f"at={at!r} names no layer of {type(network).__name__}. Choose one of: "
            + ", ".join(names)
        )
    return network.get_submodule(at)


def refuse_shared(student: nn.Module, teacher: nn.Module) -> None:
    """Raise a ValueError when the networks share a parameter: a frozen one cannot be trained."""
    theirs = {id(p) for p in teacher.parameters()}
    if any(id(p) in theirs for p in student.parameters()):
        raise ValueError(
            "The teacher shares parameters with the student, so there is nothing to mimic. "
            "Build the student anew, or pass copy.deepcopy(network) as the teacher."
        )
