"""Describable Textures Dataset in its official layout (chapter 10; Cimpoi et al., CVPR 2014).

    <root>/images/<class>/<class>_0001.jpg

Release r1.0.1 has 47 classes of 120 pictures. DRAEM takes its synthetic anomalies from them.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fmabs_lite.data.files import each, image_files, read_image, resize
from fmabs_lite.data.folder import DataError, listing

__all__ = ["DTD"]


class DTD:
    """All pictures of DTD, or of the classes of it that are there; read on first use of `.images`.

    classes: names, sorted. names: paths relative to the folder `images`, class by class.
    images: uint8 (N, 3, size, size), red, green, blue; at 256 all of DTD takes 1.1 GB.

    Every picture becomes a square whatever its shape, as in DRAEM; by area average, as all pictures
    of this book. `root` may also be the folder above `dtd`. Raises DataError naming the path and
    the remedy if the pictures are missing, a class has none, or a file is unreadable.
    """

    def __init__(self, root: Path | str, size: int = 256) -> None:
        self.folder = _find_images(Path(root))
        self.size = size
        self.classes = [path.name for path in listing(self.folder) if path.is_dir()]
        if not self.classes:
            raise DataError(
                f"{self.folder} holds no folders: one for each class of textures should be there. "
                f"Unpack DTD again."
            )
        self._files = [path for name in self.classes for path in self._images(name)]
        self.names = [path.relative_to(self.folder).as_posix() for path in self._files]

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def images(self) -> Tensor:
        """All pictures, in the order of `names`."""
        images = torch.empty((len(self), 3, self.size, self.size), dtype=torch.uint8)
        for number, image in enumerate(each(read_image, self._files)):
            small = resize(image, (self.size, self.size)).transpose(2, 0, 1)
            images[number] = torch.from_numpy(np.ascontiguousarray(small))
        return images

    def _images(self, name: str) -> list[Path]:
        files = image_files(self.folder / name)
        if not files:
            raise DataError(
                f"{self.folder / name} holds no images. Unpack DTD again, or remove this folder."
            )
        return files


def _find_images(root: Path) -> Path:
    # The archive holds a folder `dtd`; unpacked into one of its own, it lies a level deeper.
    for folder in (root / "images", root / "dtd" / "images"):
        if folder.is_dir():
            return folder
    raise DataError(
        f"{root} does not hold DTD: there is no folder {root / 'images'}. Unpack "
        f"dtd-r1.0.1.tar.gz again, and name the folder `dtd` that is in it."
    )
