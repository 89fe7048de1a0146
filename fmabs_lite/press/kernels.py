"""The kernels that chapters run in: this very Python, no message slept through, files held open."""

from __future__ import annotations

import time
from functools import partialmethod
from queue import Empty
from typing import Any

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from traitlets import Type

LOOK = 1.0  # seconds between two looks for a message


class Channel(AsyncZMQSocketChannel):
    """A channel that looks for a message every second, whether or not something wakes it.

    Now and then nothing does: a reply was there, the event loop slept on, and only a time-out had
    it look and read the reply (seen with pyzmq 27.3, after 600 s in which kernel and client both
    waited). Without a time-out, a run would wait for ever.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """Give the next message. Raises queue.Empty if there is none within `timeout` seconds."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(LOOK, left))
            except Empty:
                if left <= LOOK:
                    raise


class Client(AsyncKernelClient):
    """A client that reads replies and outputs through such channels."""

    shell_channel_class = Type(Channel)
    iopub_channel_class = Type(Channel)


def manager_class(held: list[int]) -> type[AsyncKernelManager]:
    """A class of kernel managers whose kernels keep the files `held` (descriptors) open.

    They run in this process' Python, whichever kernels Jupyter knows by the same name: it looks
    for them in JUPYTER_PATH and in the reader's home first.
    """

    class Manager(AsyncKernelManager):
        kernel_spec = KernelSpec(resource_dir="", **get_kernel_dict())
        client_factory = Type(Client)
        start_kernel = partialmethod(AsyncKernelManager.start_kernel, pass_fds=held)

    return Manager
