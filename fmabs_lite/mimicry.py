"""Feature mimicking: a student copies a teacher, and attends to where it fails (ch. 04, 08)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmabs_lite.detector import Detector, Prepared, refuse_no_detector
from fmabs_lite.recipe import recorded
from fmabs_lite.scoring import enlarge, feature_score, hybrid_score, standardise
from fmabs_lite.taps import Teacher, choices, first_tensor, layer, refuse_shared, with_first_tensor

KINDS = ("S", "map")  # the two kinds of raw parts: a number for each image, and a map


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


def refined(fea_s: Tensor, m: Tensor, refine: str = "product") -> Tensor:
    """Fea_R, what the rest of the student works on (FMABS Fig. 1, chapters 05 and 08).

    Args:
        fea_s: the student's feature, (B, C, H, W).
        m: the mask M in (0, 1), of a shape that broadcasts to fea_s.
        refine: "product" for Fea_S ⊙ M, as the authors' first code has it; "residual" for
            Fea_S ⊙ (1 + M). The paper does not say.
    """
    return fea_s * m if refine == "product" else fea_s * (1 + m)


@recorded()
class Boosted(Detector):
    """Any detector that also mimics a teacher, and attends to where it fails (FMABS eq. 1 to 6).

    The teacher is a frozen copy of the network given. Forward hooks show it what the student is
    shown, compare the two at the layers `at`, and hand Fea_R = Fea_S ⊙ M to the student's next
    layer. The teacher stops at the last tap: nothing behind it is needed. The wrapped network is
    not changed, and may come from another library. Built in chapters 04 to 08.

    Not for `nn.DataParallel`, nor for activation checkpointing around a tapped layer. Call `loss`
    and `score` once before compiling them. Copy the Boosted, not its detector: hooks go along.

    Args:
        detector: the student, with a `network` and the three verbs. Its `loss` and `score` must
            call `network(…)`; what is drawn at random must be drawn in `prepare`.
        teacher: a trained network in which `at` has the same output shape.
        at: path of the tapped layer, as in `network.get_submodule`, or a list of paths. A layer
            returns a tensor, or a tuple or list whose first tensor is meant.
        attention: a module from Fea_I (B, C, H, W) to M in (0, 1), as in `fmabs_lite.attention`;
            for a list of layers a list of modules; with None it mimics, and refines nothing.
        weight: weight of L_fea beside L_o in eq. 4; the paper has 1.
        score_weight: λ of eq. 6 in [0, 1], or None where S_o stays the only score.
        refine: "product" or "residual", see `refined`.
        detach: whether Fea_I is cut from the gradient on its way to the attention.

    Raises:
        ValueError: when a path names no layer, teacher and student share parameters, the network
            is boosted already, or an argument does not fit; in `loss` and `score`, when a tapped
            layer never ran, returned no tensor, or has another shape in the teacher.
    """

    def __init__(
        self,
        detector: Detector,
        teacher: nn.Module,
        at: str | Sequence[str] = "bottleneck",
        attention: nn.Module | Sequence[nn.Module] | None = None,
        weight: float = 1.0,
        score_weight: float | None = None,
        refine: str = "product",
        detach: bool = False,
    ):
        super().__init__()
        self.at = [at] if isinstance(at, str) else list(at)
        # All is checked before anything is hooked.
        refuse_unfit(self.at, refine, score_weight)
        refuse_no_detector(detector)
        refuse_shared(detector.network, teacher)
        refuse_boosted(detector.network)
        refuse_detector(teacher)
        taps = [layer(detector.network, path) for path in self.at]
        self.attention = one_for_each(self.at, attention)
        self.detector = detector
        self.weight, self.score_weight = weight, score_weight
        self.refine, self.detach = refine, detach
        self._teacher = Teacher(teacher, self.at)
        self._said: dict[str, list[Tensor]] = {}  # the teacher's features, while the student runs
        self._pairs: dict[str, list] | None = None  # (Fea_T, Fea_S), while a loss or score asks
        self._handles = [
            detector.network.register_forward_pre_hook(self._show_teacher, with_kwargs=True),
            *(tap.register_forward_hook(partial(self._meet, k)) for k, tap in enumerate(taps)),
            detector.network.register_forward_hook(self._dismiss),
        ]
        self._hooked = True  # torch.compile can read this, and no handles

    @property
    def network(self) -> nn.Module:
        return self.detector.network

    @property
    def teacher(self) -> nn.Module:
        return self._teacher.network

    def frozen(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher}

    def prepare(self, batch: Tensor) -> Prepared:
        return self.detector.prepare(batch)

    def loss(self, prepared: Prepared) -> Tensor:
        """L_total = L_o + weight · L_fea (eq. 4); L_fea is summed over the layers and calls."""
        loss_o, pairs = self._ask(self.detector.loss, prepared)
        return loss_o + self.weight * sum(self.mimicry(*pair) for pair in pairs)

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        """The detector's parts, S_fea (eq. 5), and its map (B, h, w), summed in the same way."""
        parts, pairs = self._ask(self.detector.score, prepared)
        parts = {**parts, "S_fea": sum(feature_score(*pair) for pair in pairs)}
        maps = [inconsistency(*pair).square().mean(dim=1) for pair in pairs if pair[0].dim() == 4]
        return {**parts, "map_fea": summed(maps)} if maps else parts

    def total(self, seen: dict, known: dict) -> dict[str, np.ndarray]:
        """S_total = λ · S_fea + (1 − λ) · S_o (eq. 6), and the same of the maps.

        Args:
            seen: the parts of the images to be judged, from `collect`.
            known: those of training images, whose mean and deviation put both scores on one scale.
        Returns:
            "S_total" (N,), and "map_total" (N, H, W) where detector and layer have a map; S_o
            and map_o unchanged when `score_weight` is None.
        """
        if self.score_weight is None:
            return {f"{kind}_total": seen[f"{kind}_o"] for kind in KINDS if f"{kind}_o" in seen}
        both = {}
        for kind in KINDS:
            fea, own = f"{kind}_fea", f"{kind}_o"
            if fea in seen and own in seen:
                there = enlarge(seen[fea], seen[own].shape[1:]) if kind == "map" else seen[fea]
                both[f"{kind}_total"] = hybrid_score(
                    standardise(there, known[fea]),
                    standardise(seen[own], known[own]),
                    self.score_weight,
                )
        return both

    def guide(self, fea_t: Tensor, fea_s: Tensor) -> Tensor:
        """What the attention looks at: Fea_I (eq. 1). A control may look at something else."""
        return inconsistency(fea_t, fea_s.detach() if self.detach else fea_s)

    def mimicry(self, fea_t: Tensor, fea_s: Tensor) -> Tensor:
        """L_fea of one layer (eq. 3); the features come in fp32."""
        return mimic_loss(fea_t, fea_s)

    def unboost(self) -> nn.Module:
        """Take all hooks off and return the network, which then is as plain as it ever was."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._hooked = [], False
        return self.network

    def state_dict(self, *args, teacher: bool = False, **kwargs) -> dict[str, Tensor]:
        """The student's and the attention's weights, and the teacher's fingerprint.

        With `teacher=True` the teacher's weights as well: then any teacher of this shape will do.
        """
        state = super().state_dict(*args, **kwargs)
        if teacher:
            self.teacher.state_dict(destination=state, prefix=kwargs.get("prefix", "") + "teacher.")
        return state

    def load_state_dict(self, state_dict: dict, *args, **kwargs):
        """Load what `state_dict` gave, with the teacher's weights where they are in it.

        Raises:
            ValueError: for a state that was trained with another teacher, and holds no weights.
        """
        mark = "teacher."
        theirs = {k[len(mark) :]: v for k, v in state_dict.items() if k.startswith(mark)}
        if theirs:
            self.teacher.load_state_dict(theirs)
        own = {k: v for k, v in state_dict.items() if not k.startswith(mark)}
        return super().load_state_dict(own, *args, **kwargs)

    def _ask(self, verb, prepared: Prepared) -> tuple:
        """What the detector's verb returns, and the pairs (Fea_T, Fea_S) that met meanwhile."""
        if not self._hooked:
            raise ValueError("This network was unboosted. Make a new Boosted to go on with it.")
        self._pairs = {path: [] for path in self.at}
        try:
            answer, pairs = verb(prepared), self._pairs
        finally:
            self._pairs, self._said = None, {}  # no feature outlives its step
        name = type(self.network).__name__
        if not self._teacher.seen:
            raise ValueError(
                f"{name} was never called, so no hook ran. The detector's loss and score must "
                "call network(…), not its layers and not network.forward(…)."
            )
        for path in self.at:
            if not pairs[path]:
                raise ValueError(
                    f"The layer {path!r} never ran while {name} was called, so there is nothing "
                    f"to mimic. {choices(self._teacher.seen)}"
                )
        return answer, [pair for path in self.at for pair in pairs[path]]

    def _show_teacher(self, network: nn.Module, args: tuple, kwargs: dict) -> None:
        self._said = self._teacher.features(args, kwargs)

    def _dismiss(self, network: nn.Module, args: tuple, output) -> None:
        self._said = {}

    def _meet(self, k: int, module: nn.Module, args: tuple, output):
        """At tap k: compare Fea_S with what the teacher said, and hand on Fea_R."""
        path = self.at[k]
        if path not in self._said:
            return None  # the layer was called by itself, not through the network
        fea_t, fea_s = self._matched(path, output)
        if self._pairs is not None:
            # In fp32: squares of bf16 are too coarse.
            self._pairs[path].append((fea_t.float(), fea_s.float()))
        if self.attention is None:
            # A copy goes on: a ReLU that works in place would overwrite what is compared.
            return with_first_tensor(output, fea_s.clone())
        return with_first_tensor(output, self._attended(k, fea_t, fea_s))

    def _attended(self, k: int, fea_t: Tensor, fea_s: Tensor) -> Tensor:
        """Fea_R at tap k. Raises a ValueError when the attention does not take such features."""
        shape, name = tuple(fea_s.shape), type(self.attention[k]).__name__
        try:
            fea_r = refined(fea_s, self.attention[k](self.guide(fea_t, fea_s)), self.refine)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f"{name} cannot be used at {self.at[k]!r}, where features are {shape} ({error}). "
                f"Build it for {shape[1]} channels, as in SpatioChannelAttention({shape[1]})."
            ) from error
        if fea_r.shape != fea_s.shape:
            raise ValueError(
                f"{name} turns features {shape} at {self.at[k]!r} into {tuple(fea_r.shape)}. Its "
                "mask must be (B, C, H, W), or have a 1 in some of these places."
            )
        return fea_r

    def _matched(self, path: str, output) -> tuple[Tensor, Tensor]:
        """Fea_T and Fea_S of this call: the n-th of a layer meets the n-th of the teacher's."""
        fea_s = first_tensor(output)
        if fea_s is None:
            raise ValueError(
                f"The layer {path!r} returns a {type(output).__name__}, not a tensor or a tuple "
                f"with one. {choices(self._teacher.seen)}"
            )
        if not self._said[path]:
            raise ValueError(
                f"The layer {path!r} ran more often in the student than in the teacher, which was "
                "shown the same input. Tap a layer that runs equally often in both."
            )
        fea_t = self._said[path].pop(0)
        if fea_t.shape != fea_s.shape:
            raise ValueError(
                f"At {path!r} the student's feature is {tuple(fea_s.shape)}, the teacher's "
                f"{tuple(fea_t.shape)}. Both need the same shape: tap another layer, or build the "
                "student like the teacher."
            )
        return fea_t, fea_s

    def _apply(self, fn, recurse=True):
        self.teacher._apply(fn)  # .to(device) takes the teacher along
        return super()._apply(fn, recurse)


def summed(maps: Sequence[Tensor]) -> Tensor:
    """The sum of maps (B, h, w), each enlarged to the size of the largest."""
    size = maps[0].shape[-2:]
    for m in maps[1:]:
        size = m.shape[-2:] if m.shape[-2:].numel() > size.numel() else size
    return sum(
        m if m.shape[-2:] == size
        else F.interpolate(m[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        for m in maps
    )  # fmt: skip


def one_for_each(
    at: Sequence[str], attention: nn.Module | Sequence[nn.Module] | None
) -> nn.ModuleList | None:
    """A list with one attention module for each tapped layer; a ValueError when they do not fit."""
    if attention is None:
        return None
    modules = [attention] if isinstance(attention, nn.Module) else list(attention)
    if len(modules) != len(at):
        raise ValueError(
            f"attention has {len(modules)} module(s) for {len(at)} layer(s), {', '.join(at)}. Each "
            "layer needs its own, because their channels differ: pass a list in the same order."
        )
    return nn.ModuleList(modules)


def refuse_unfit(at: Sequence[str], refine: str, score_weight: float | None) -> None:
    """Raise a ValueError for an argument that does not fit, before anything is hooked."""
    if not at or len(set(at)) < len(at):
        raise ValueError(f"at is {list(at)}; name at least one layer, and none twice.")
    if refine not in ("product", "residual"):
        raise ValueError(f"refine is {refine!r}; choose 'product' or 'residual'.")
    if score_weight is not None and not 0 <= score_weight <= 1:
        raise ValueError(
            f"score_weight is {score_weight}; it is λ of eq. 6 and must lie in [0, 1], or be None."
        )


def refuse_detector(teacher: nn.Module) -> None:
    """Raise a TypeError when a teacher is the detector around the network that was meant."""
    if isinstance(teacher, Detector):
        raise TypeError(
            f"The teacher is a {type(teacher).__name__}, a Detector. Give its network: "
            "teacher.network."
        )


def refuse_boosted(network: nn.Module) -> None:
    """Raise a ValueError when a Boosted has its hooks on the network already."""
    if any(
        isinstance(getattr(hook, "__self__", None), Boosted)
        for hook in network._forward_pre_hooks.values()
    ):
        raise ValueError(
            f"This {type(network).__name__} is boosted already, and would be refined twice. Call "
            "unboost() on the first Boosted, or build the network anew."
        )
