"""What DRAEM costs here and in anomalib: inventing anomalies, and one training step.

    python tests/benchmarks/bench_draem.py [rounds]

Synthesis: images of 256², each of which gets an anomaly. Our textures lie in memory; anomalib
reads one from its file for each anomaly, as it does in a training. In a training we also turn three
images in ten, which is a row of its own. Step: loss, backward and Adam at the published widths, on
a batch that was corrupted before, in fp32 but for the row that says otherwise.

All take turns in every round; the ratio is the median of the rounds' ratios to ours, the spread
that of their quartiles, and the second row of ours the noise of this run. Times are those of one
thread on the processor. Without anomalib (pip install -e ".[peers]") there are only our own rows.
Nothing here is a pass mark.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rounds import compare
from torch import Tensor
from torchvision.io import write_png

from fmabs_lite.data.synthesis import Corrupted, corrupt
from fmabs_lite.models import Draem

try:
    from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
    from anomalib.models.image.draem.loss import DraemLoss
    from anomalib.models.image.draem.torch_model import DraemModel
except ImportError:
    DraemModel = None

OURS = "ours"


def synthesis(images: Tensor, textures: Tensor, folder: Path) -> dict[str, Callable]:
    """What is measured: name → a function without arguments."""
    runs = {OURS: lambda: corrupt(images, textures, share=1, turned=0)}
    runs["ours, again"] = runs[OURS]
    runs["ours, 3 in 10 turned"] = lambda: corrupt(images, textures, share=1)
    if DraemModel is not None:
        for number, texture in enumerate(textures):
            write_png(texture, str(folder / f"{number}.png"))
        generator = PerlinAnomalyGenerator(folder, probability=1.0, blend_factor=(0.1, 1.0))
        runs["anomalib"] = lambda: generator(images)
    return runs


def step_of(network: torch.nn.Module, loss: Callable[[], Tensor], precision=None) -> Callable:
    """One step of Adam."""
    optimiser = torch.optim.Adam(network.train().parameters(), lr=1e-4)

    def step() -> None:
        with torch.autocast("cpu", precision, enabled=precision is not None):
            value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return step


def steps(prepared: Corrupted) -> dict[str, Callable]:
    """The same for a step. Each network has 97 million parameters."""
    plain, laid = Draem(), Draem().to(memory_format=torch.channels_last)
    runs = {
        OURS: step_of(plain, lambda: plain.loss(prepared)),
        "ours, again": step_of(plain, lambda: plain.loss(prepared)),
        "ours, channels_last": step_of(laid, lambda: laid.loss(prepared)),
        "ours, channels_last, bf16": step_of(laid, lambda: laid.loss(prepared), torch.bfloat16),
    }
    if DraemModel is not None:
        model, loss = DraemModel(), DraemLoss()

        def theirs() -> Tensor:
            repair, logits = model(prepared.input)
            return loss(prepared.target, repair, prepared.mask.float(), logits)

        runs["anomalib"] = step_of(model, theirs)
    return runs


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    if DraemModel is None:
        print('anomalib is not installed (pip install -e ".[peers]"): ours only')
    textures = torch.randint(0, 256, (16, 3, 256, 256)).byte()
    with tempfile.TemporaryDirectory() as folder:
        runs = synthesis(torch.rand(32, 3, 256, 256), textures, Path(folder))
        compare("synthesis, 32 images of 256²", runs, OURS, rounds, 32)
    prepared = corrupt(torch.rand(4, 3, 64, 64), textures[..., :64, :64], share=1)
    compare("training step, 4 images of 64²", steps(prepared), OURS, max(3, rounds // 3), 4)


if __name__ == "__main__":
    main()
