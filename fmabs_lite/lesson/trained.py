"""Trained networks that travel with the book, to show what longer training gives.

A reader's own run lasts seconds; what more time gives lies in `book/weights`: half precision, at
most 4 MB each, made by the book's own code from its synthetic data. `made.json` beside them says
by which run. Chapters look at them and conclude nothing from them (built for chapter 10).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from fmabs_lite.lesson.records import RecordError, book_path, read_json, write_json

LIST = "weights/made.json"
FACTS = ("parameters", "device", "seconds")  # of the run, which a chapter tells
RESTORE = "restore it with git, or install the package anew"
LARGEST = 4_000_000  # bytes of one file
Network = TypeVar("Network", bound=nn.Module)


class Trained(NamedTuple):
    """Weights, the parameters of the chapter that trained them, and the run they come from."""

    name: str
    state: dict[str, Tensor]
    used: dict[str, Any]
    made: dict[str, Any]

    def into(self, network: Network) -> Network:
        """Fill a network of the same shape with these weights, and return it, ready to judge.

        Raises:
            RecordError: for a network of another shape; it names the parameters to build with.
        """
        try:
            network.load_state_dict(self.state)
        except RuntimeError as error:
            first = str(error).strip().splitlines()[1].strip()
            raise RecordError(
                f"The weights {self.name!r} are of another network ({first}). Build it with the "
                f"parameters that trained it: {self.used}"
            ) from None
        return network.eval()

    @property
    def basis(self) -> str:
        """In words: data, training and seed."""
        samples = self.used["steps"] * self.used["batch_size"]
        minutes, where = self.made["seconds"] / 60, self.made["device"]
        return (f"Synthetic data, {samples:,} samples, {minutes:.0f} minutes on a {where}, "
                f"seed {self.used['seeds'][0]}.")  # fmt: skip


def trained(name: str) -> Trained:
    """The network in `book/weights/<name>.safetensors`, such as "10_draem"; floats are float32.

    Raises:
        RecordError: if there is none of that name, or its file is not the one that was listed.
    """
    from safetensors.torch import load

    listed = read_json(book_path(LIST), RESTORE)
    if name not in listed:
        raise RecordError(f"There are no weights {name!r}; there are {', '.join(listed)}.")
    path, made = book_path(f"weights/{name}.safetensors"), listed[name]
    if lost := [key for key in ("sha256", *FACTS) if key not in made]:
        raise RecordError(f"{book_path(LIST)}, {name}: {lost[0]} is missing; {RESTORE}.")
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != made["sha256"]:
        raise RecordError(f"{path} is missing or damaged; {RESTORE}.")
    state = {key: value.float() if value.is_floating_point() else value
             for key, value in load(content).items()}  # fmt: skip
    return Trained(name, state, made["parameters"], made)


def keep_trained(name: str, run: Path, network: str, book: Path) -> dict[str, Any]:
    """Write the weights of a finished run to `book/weights`, and list them.

    Args:
        name: what a chapter asks for, such as "10_draem".
        run: the run's folder, which holds its run.json.
        network: a checkpoint that `fit` wrote.
        book: the folder `book` of the checkout.
    Returns:
        The line of the list.
    Raises:
        RecordError: for a run that has not ended or is on other data than synthetic, a file that
            is no checkpoint or has more than 4 MB, or weights that half precision cannot hold.
    """
    from safetensors.torch import save

    state = read_json(run / "run.json")
    if "measured" not in state:
        raise RecordError(f"{run} has not ended; run the same command again.")
    found = state["provenance"] | state["measured"]
    if any(source != "drawn" for source in found["data"].values()):
        raise RecordError(f"{run} is a run on real data, whose weights do not travel.")
    weights = torch.load(network, map_location="cpu", weights_only=True).get("detector")
    if weights is None:
        raise RecordError(f"{network} is no checkpoint of a detector, such as `fit` writes.")
    halved = {key: (value.half() if value.is_floating_point() else value).contiguous()
              for key, value in weights.items()}  # fmt: skip
    if lost := [key for key, value in halved.items() if not torch.isfinite(value).all()]:
        raise RecordError(f"Half precision cannot hold {lost[0]}.")
    content = save(halved)
    if len(content) > LARGEST:
        raise RecordError(f"{len(content):,} bytes are more than {LARGEST:,}; train a smaller one.")
    facts = ("chapter", "profile", "commit", *FACTS)
    made = {"sha256": hashlib.sha256(content).hexdigest()}
    made |= {key: found[key] for key in facts if key in found}
    folder = book / "weights"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(content)
    listed = read_json(book / LIST) if (book / LIST).exists() else {}
    write_json(book / LIST, dict(sorted((listed | {name: made}).items())))
    return made
