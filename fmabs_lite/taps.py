"""Reach into networks that nobody here wrote: find layers, watch them, stop early (chapter 08)."""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase


def layer(network: nn.Module, at: str) -> nn.Module:
    """Return the submodule named `at`, or raise a ValueError that lists the layers there are."""
    names = [name for name, _ in network.named_modules() if name]
    if at not in names:
        raise ValueError(
            f"at={at!r} names no layer of {type(network).__name__}. Choose one of: "
            + ", ".join(names)
        )
    return network.get_submodule(at)


def first_tensor(output) -> Tensor | None:
    """The output itself, or the first tensor of a tuple or list; None where there is none."""
    if isinstance(output, (tuple, list)):
        return next((part for part in output if isinstance(part, Tensor)), None)
    return output if isinstance(output, Tensor) else None


def with_first_tensor(output, new: Tensor):
    """The output again, its first tensor replaced by `new`."""
    if isinstance(output, Tensor):
        return new
    place = next(k for k, part in enumerate(output) if isinstance(part, Tensor))
    parts = [*output[:place], new, *output[place + 1 :]]
    named = hasattr(output, "_fields")  # a namedtuple takes its parts one by one
    return type(output)(*parts) if named else type(output)(parts)


def survey(
    network: nn.Module, run: Callable, args: tuple, kwargs: dict
) -> dict[str, list[tuple | str]]:
    """Run a network once and note what each layer returns: a shape for each call, in order.

    A layer that returns no tensor has the name of the type in place of a shape. One that never
    ran is missing.

    Args:
        run: calls the network with `args` and `kwargs`.
    Raises:
        ValueError: when the network changes its input in place: a second network that is shown
            the same input would then be shown something else.
    """
    seen: dict[str, list[tuple | str]] = {}

    def note(name: str, module: nn.Module, inputs: tuple, output) -> None:
        tensor = first_tensor(output)
        what = type(output).__name__ if tensor is None else tuple(tensor.shape)
        seen.setdefault(name, []).append(what)

    given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    before = [version(value) for value in given]
    watched = [(name, module) for name, module in network.named_modules() if name]
    handles = [m.register_forward_hook(partial(note, name)) for name, m in watched]
    try:
        run(args, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    if [version(value) for value in given] != before:
        raise ValueError(
            f"{type(network).__name__} changes its input in place, so that teacher and student "
            "would not see the same. Begin its forward with x = x.clone(), or make its first "
            "layer work with inplace=False."
        )
    return seen


def version(value: Tensor) -> int:
    """How often a tensor was changed in place; 0 under `torch.inference_mode`, which forgets."""
    return 0 if value.is_inference() else value._version


def choices(seen: dict[str, list[tuple | str]]) -> str:
    """The layers of a survey that return tensors, with their shapes, for an error's last line."""
    kept = [f"{name} {calls[0]}" for name, calls in seen.items() if isinstance(calls[0], tuple)]
    return "Choose one of: " + ", ".join(kept)


class Teacher:
    """A frozen copy of a network that says what its layers `at` make of an input (chapter 08).

    It runs no further than the last of those layers. It is no nn.Module, so that no optimiser, no
    state_dict and no `.train()` finds it, and nothing it does changes it: batch normalisation
    stays in eval mode, and buffers that a forward pass writes to are lent to it as copies.
    """

    def __init__(self, network: nn.Module, at: Sequence[str]):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.at = at
        self.seen: dict[str, list[tuple | str]] = {}  # what `survey` found
        self._kept: dict[str, list[Tensor]] | None = None  # while `features` runs
        self._due = 0  # calls of tapped layers still to come; then the pass may stop
        for path in at:
            layer(self.network, path).register_forward_hook(partial(self._keep, path))

    def features(self, args: tuple, kwargs: dict) -> dict[str, list[Tensor]]:
        """For each layer the first tensor of each of its calls, when shown this input."""
        self._kept = kept = {path: [] for path in self.at}
        # Until every tapped layer has been seen, nobody knows when the last one has spoken.
        known = all(path in self.seen for path in self.at)
        self._due = sum(len(self.seen[path]) for path in self.at) if known else 0
        try:
            if known:
                self._run_until_stopped(args, kwargs)
            else:
                self.seen |= survey(self.network, self._run, args, kwargs)
        finally:
            self._kept = None
        return kept

    def _run_until_stopped(self, args: tuple, kwargs: dict) -> None:
        try:  # not contextlib's `suppress`, which older compilers of torch do not know
            self._run(args, kwargs)
        except _Stop:
            pass

    def _run(self, args: tuple, kwargs: dict) -> None:
        if any(m.training for m in self.network.modules()):  # somebody called .train()
            self.network.eval()
        with torch.no_grad():
            if memory := memory_of(self.network):
                functional_call(self.network, memory, args, kwargs)
            else:
                self.network(*args, **kwargs)

    def _keep(self, path: str, module: nn.Module, inputs: tuple, output) -> None:
        if self._kept is None:
            return  # somebody called the network by itself
        tensor = first_tensor(output)
        self._due -= 1
        if tensor is not None:
            # Cloned unless it is the last: a ReLU that works in place would overwrite it.
            self._kept[path].append(tensor.clone() if self._due else tensor)
        if self._due == 0:
            raise _Stop


class _Stop(Exception):
    """Ends the teacher's forward pass once all tapped layers have spoken."""


def memory_of(network: nn.Module) -> dict[str, Tensor]:
    """Copies of all buffers but those of normalisation layers, which eval mode leaves alone."""
    return {
        f"{path}.{name}" if path else name: buffer.clone()
        for path, module in network.named_modules()
        if not isinstance(module, _NormBase)
        for name, buffer in module.named_buffers(recurse=False)
    }


def fingerprint(network: nn.Module) -> Tensor:
    """SHA-256 of all that a network knows, uint8 (32,): names, shapes and values."""
    return torch.frombuffer(bytearray(digest(network.state_dict())), dtype=torch.uint8)


def digest(state: Mapping[str, Tensor]) -> bytes:
    """SHA-256 of named tensors, in the order of their names."""
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.digest()


def refuse_shared(student: nn.Module, teacher: nn.Module) -> None:
    """Raise a ValueError when the networks share a parameter: a frozen one cannot be trained."""
    theirs = {id(p) for p in teacher.parameters()}
    if any(id(p) in theirs for p in student.parameters()):
        raise ValueError(
            "The teacher shares parameters with the student, so there is nothing to mimic. "
            "Build the student anew, or pass copy.deepcopy(network) as the teacher."
        )
