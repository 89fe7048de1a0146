"""The one protocol of the book: a network and three verbs (chapter 03)."""

from typing import NamedTuple

from torch import Tensor, nn


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
