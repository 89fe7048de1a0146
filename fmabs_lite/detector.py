"""The one protocol of the book: a network and three verbs (chapter 03)."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fmabs_lite.taps import fingerprint


class Prepared(NamedTuple):
    """What a network is given and what it should return, with all randomness already drawn."""

    input: Tensor
    target: Tensor


class Detector(nn.Module):
    """A network that learns a proxy task on normal data, and scores what it fails at.

    Every system of the book is a Detector. The three verbs keep apart what must not mix:
    `prepare` draws all random numbers, so that a teacher and a student can be shown the very
    same input; `loss` and `score` are deterministic functions of what was prepared.
    """

    network: nn.Module

    def frozen(self) -> dict[str, nn.Module]:
        """Networks that are asked and never trained, by name, such as a teacher.

        A state_dict does not hold them but their fingerprints: with others it is refused, because
        the weights would fit and the scores be wrong.
        """
        return {}

    def prepare(self, batch: Tensor) -> Prepared:
        """Turn a float batch in [0, 1] into the network's input and its target."""
        raise NotImplementedError

    def loss(self, prepared: Prepared) -> Tensor:
        """Return L_o, the loss of the original task: a scalar."""
        raise NotImplementedError

    def score(self, prepared: Prepared) -> dict[str, Tensor]:
        """Return raw parts: numbers `S_…` of shape (B,), maps `map_…` of shape (B, h, w).

        Larger means more anomalous. Nothing is normalised or combined here, because eq. 6 of
        FMABS needs a whole video for that.
        """
        raise NotImplementedError

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, network in self.frozen().items():
            destination[f"{prefix}fingerprint.{name}"] = fingerprint(network)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        for name, network in self.frozen().items():
            refuse_stranger(name, network, state_dict.pop(f"{prefix}fingerprint.{name}", None))
        super()._load_from_state_dict(state_dict, prefix, *args)


def refuse_stranger(name: str, network: nn.Module, kept: Tensor | None) -> None:
    """Raise a ValueError when a frozen network is not the one of the state that is loaded."""
    if kept is None:
        warnings.warn(
            f"This state does not say which {name} it was trained with; be sure that it was this "
            "one. Save it again to have it noted.",
            stacklevel=2,
        )
    elif not torch.equal(kept.cpu(), fingerprint(network)):
        raise ValueError(
            f"This state was trained with another {name} ({type(network).__name__}): its weights "
            f"would fit, and its scores be wrong. Give the {name} that it was trained with."
        )


VERBS = ("prepare", "loss", "score")


def refuse_no_detector(detector: object) -> None:
    """Raise a TypeError for a bare network, or anything else without the three verbs."""
    if not isinstance(detector, nn.Module) or not all(hasattr(detector, v) for v in VERBS):
        name = type(detector).__name__
        raise TypeError(
            f"{name} is no Detector: it lacks prepare, loss or score. Wrap the network, as in "
            "fmabs_lite.models.Reconstruction(network), or write a class with the three verbs."
        )


def refuse_parts(parts: object, count: int) -> None:
    """Raise a ValueError when `score` did not return S_o, or parts not of `count` images."""
    if not isinstance(parts, dict) or "S_o" not in parts:
        found = f"the parts {', '.join(parts)}" if isinstance(parts, dict) else type(parts).__name__
        raise ValueError(
            f"score returned {found}; it must return a dict with S_o, the score of each image "
            '(B,), as in {"S_o": error.mean(dim=(1, 2, 3)), "map_o": error.mean(dim=1)}.'
        )
    for name, part in parts.items():
        if not isinstance(part, Tensor) or part.dim() < 1 or len(part) != count:
            shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(f"score returned {name} as {shape} for {count} images; give a tensor "
                             "with one entry for each image.")  # fmt: skip


def refuse_not_finite(name: str, part: np.ndarray) -> None:
    """Raise a ValueError for scores or maps (N, …) with a NaN: no threshold would ever find it."""
    wrong = (~np.isfinite(part)).reshape(len(part), -1).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"{name} is not finite for {wrong.sum()} of {len(part)} images, first for number "
            f"{wrong.argmax()}. Weights may be lost: train again, or look at what score divides by."
        )
