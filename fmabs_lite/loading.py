"""What a training reads: data that are checked first, and batches that are read ahead."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fmabs_lite.data.mvtec import Images

ITEMS = ("__len__", "__getitem__")
AHEAD = 4  # batches that wait to be used: enough to bridge a slow file


class Data(Protocol):
    """Anything with a length whose items are uint8 tensors: (C, H, W), or (T, C, H, W) of videos.

    One tensor (N, C, H, W) is the fastest. A list of tensors will do, and so does a class with
    these two methods that opens a file when it is asked for it: its items are read ahead, one
    after the other, in a thread beside the training. It must not draw random numbers: `augment`
    of `fit` may. Where many items are read faster in one go, as in PyTorch's data sets,
    `__getitems__` takes a list of numbers and returns a batch, or a list of items.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Tensor: ...


def refuse_data(data: Data) -> None:
    """Raise a TypeError for what `fit` and `collect` cannot read, a ValueError for no data."""
    remedy = None
    if isinstance(data, Images):
        remedy = "Give its pictures: data.images."
    elif isinstance(data, DataLoader):
        remedy = "Give its data set: loader.dataset; batches are drawn here."
    elif isinstance(data, np.ndarray):
        remedy = "Give torch.from_numpy(images), uint8 of shape (N, C, H, W)."
    elif isinstance(data, str | dict) or not all(hasattr(data, verb) for verb in ITEMS):
        remedy = "Give a uint8 tensor (N, C, H, W), or an object with __len__ and __getitem__."
    if remedy:
        raise TypeError(f"The data are {article(data)}, not uint8 images. {remedy}")
    if isinstance(data, Tensor):
        refuse_floats(data)
    if not len(data):
        raise ValueError("The data are empty. Give at least one image.")


def article(thing: object) -> str:
    """ "a DataLoader", "an Images": the name of a thing's type in a sentence."""
    name = type(thing).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def refuse_floats(batch: Tensor) -> None:
    """Raise a TypeError for anything but a uint8 tensor: floats would be divided by 255 again."""
    if getattr(batch, "dtype", None) != torch.uint8:
        found = getattr(batch, "dtype", type(batch).__name__)
        raise TypeError(
            f"The data are {found}; give a tensor of uint8 in 0…255. Floats in [0, 1] become that "
            "by (255 * images).round().to(torch.uint8)."
        )


def to_float(batch: Tensor, device: torch.device) -> Tensor:
    """uint8 in 0…255 to float32 in [0, 1], moved while still a quarter of the size.

    Raises:
        TypeError: for anything but a uint8 tensor.
    """
    refuse_floats(batch)
    from_cpu = batch.device.type == "cpu"  # the CPU itself must wait for what it will read
    return batch.to(device, non_blocking=from_cpu).float() / 255


def batch_of(data: Data, numbers: Tensor) -> Tensor:
    """The items of these numbers (B,) as one batch, uint8 (B, …).

    Raises:
        TypeError: for items that are no uint8 tensors.
        ValueError: for items of different shapes.
    """
    if isinstance(data, Tensor):
        return data[numbers.to(data.device, non_blocking=True)]
    if hasattr(data, "__getitems__"):
        items = data.__getitems__(numbers.tolist())
        if isinstance(items, Tensor):
            return items
    else:
        items = [data[number] for number in numbers.tolist()]
    for item in items:
        if not isinstance(item, Tensor):
            raise TypeError(
                f"An item of the data is {article(item)}; give uint8 tensors (C, H, W) without "
                "labels, such as dataset.tensors[0] of a TensorDataset."
            )
    shapes = sorted({tuple(item.shape) for item in items})
    if len(shapes) > 1:
        raise ValueError(f"The data have items of shapes {shapes[0]} and {shapes[1]}; resize "
                         "them to one size, so that a batch can hold them.")  # fmt: skip
    return torch.stack(list(items))


def batches(data: Data, chosen: Tensor, device: torch.device) -> Generator[Tensor, None, None]:
    """The batches of the rows of `chosen`, (steps, B); what is not in memory is read ahead."""
    if isinstance(data, Tensor):
        yield from (batch_of(data, numbers) for numbers in chosen)
        return

    def read(numbers: Tensor) -> Tensor:
        batch = batch_of(data, numbers)
        # From pinned memory a GPU takes a batch while the CPU goes on.
        return batch.pin_memory() if device.type == "cuda" else batch

    reader = ThreadPoolExecutor(1, "reads-ahead")
    try:
        waiting: deque = deque()
        for numbers in chosen:
            waiting.append(reader.submit(read, numbers))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        reader.shutdown(cancel_futures=True)
