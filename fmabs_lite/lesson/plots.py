"""What every figure of the book shares: one palette, one size, one way to lay out pictures."""

from collections.abc import Sequence

import numpy as np

# Okabe and Ito's palette: told apart with any colour vision, and in print.
PALETTE = {
    "teacher": "#0072B2",
    "student": "#E69F00",
    "feature": "#009E73",
    "hybrid": "#D55E00",
    "trivial": "#767676",
    "control": "#CC79A7",
    "truth": "#D55E00",
    "normal": "#0072B2",
    "anomalous": "#D55E00",
}


def say(text: str) -> None:
    """Display Markdown below the cell: how a chapter prints a sentence with computed numbers."""
    from IPython.display import Markdown, display

    display(Markdown(text))


def table(rows: Sequence[dict], caption: str = "") -> None:
    """Display rows (dicts with the same keys) as a Markdown table, in the order given.

    Without rows, which happens where a record is not there, the caption stands alone.
    """
    if not rows:
        return say(caption or "*No rows.*")
    keys = list(rows[0])
    cells = [keys, *([row[key] for key in keys] for row in rows)]
    lines = [" | ".join(str(cell).replace("|", r"\|") for cell in line) for line in cells]
    lines = [f"| {line} |" for line in lines]
    lines.insert(1, "|" + "---|" * len(keys))
    say("\n".join(lines) + (f"\n\n{caption}" if caption else ""))


def use_style() -> None:
    """Set the book's look for all figures that follow: seaborn's ticks, as matplotlib has them."""
    import matplotlib.pyplot as plt

    # By name: to import seaborn for its theme alone costs each chapter more than a second.
    plt.style.use(["seaborn-v0_8-ticks", "seaborn-v0_8-colorblind"])
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 110,
            "font.size": 12,
            "axes.labelsize": 12,
            "axes.titlesize": 12,
            "axes.linewidth": 1.25,
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.cmap": "magma",
            "image.interpolation": "nearest",
            "legend.fontsize": 11,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }
    )


def as_picture(image) -> np.ndarray:
    """Turn (C, H, W), (H, W, C) or (H, W), tensor or array, into what imshow takes."""
    picture = np.asarray(image)
    if picture.ndim == 3 and picture.shape[0] in (1, 3) and picture.shape[-1] not in (1, 3):
        picture = picture.transpose(1, 2, 0)
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    return picture if picture.dtype == np.uint8 or picture.ndim == 2 else picture.clip(0, 1)


def show_images(images, titles=None, masks=None, columns=None, scale=2.0, limits=None):
    """Draw pictures in a grid and return the figure.

    Args:
        images: list of (C, H, W), (H, W, C) or (H, W); a (H, W) uint8 picture is drawn in grey,
            a (H, W) float one as a heat map.
        titles: one string a picture.
        masks: one (H, W) bool mask or None a picture; its outline is drawn.
        columns: pictures in a row; all in one row when not given.
        scale: height of a picture in inches.
        limits: (low, high) of all heat maps, so that they can be compared; each its own if None.
    """
    import matplotlib.pyplot as plt

    pictures = [as_picture(image) for image in images]
    columns = columns or len(pictures)
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    size = (scale * columns * width / height, (scale + 0.3 * bool(titles)) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for k, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        grey = picture.ndim == 2 and picture.dtype == np.uint8
        low, high = (0, 255) if grey else limits or (None, None)
        axis.imshow(picture, cmap="gray" if grey else None, vmin=low, vmax=high)
        if titles is not None:
            axis.set_title(titles[k], fontsize=10)
        if masks is not None and masks[k] is not None and np.any(np.asarray(masks[k])):
            axis.contour(np.asarray(masks[k]), [0.5], colors=PALETTE["truth"], linewidths=1.2)
    return figure
