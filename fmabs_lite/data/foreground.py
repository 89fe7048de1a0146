"""Where something is: boxes in a video (chapter 12), a silhouette in a picture (chapter 14)."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy import ndimage

from fmabs_lite.data.cache import cached
from fmabs_lite.data.clips import Clip

METHODS = ("motion", "detector")


def objects(
    clip: Clip,
    how: str = "motion",
    threshold: float | None = None,
    blur: float = 1 / 120,
    smallest: float = 1 / 16,
    narrowest: float = 0.0,
    weights: Path | str | None = None,
) -> np.ndarray:
    """Boxes around the foreground objects of every frame; computed once, then cached (ch. 12).

    Args:
        how: "motion", where a frame differs from the one before it (see `moving`): needs no
            weights, and misses who stands still; or "detector", torchvision's Faster R-CNN,
            trained on COCO (see `detected`).
        threshold: of "motion" in grey levels, 6 by default; of "detector" the confidence, 0.5.
        blur: σ of "motion", as a share of the frame's height.
        smallest: a box whose longer side is below this share of the frame's height is dropped.
        narrowest: the same for its shorter side. Slivers at the frame's edge show too little of
            who enters to be foreseen.
        weights: a file with the detector's weights, in place of torchvision's download.
    Returns:
        int32 (K, 5), sorted by frame: frame, x0, y0, x1, y1 in pixels, x1 and y1 not included.
        A frame may have none.
    Raises:
        ValueError: for an unknown `how`, or a clip of fewer than two frames.
        RuntimeError: when the detector's weights cannot be had.
    """
    if how not in METHODS:
        raise ValueError(f"how is {how!r}; choose one of {', '.join(METHODS)}.")
    if len(clip.frames) < 2:
        raise ValueError(f"Clip {clip.name} has {len(clip.frames)} frame(s); motion needs two.")
    if threshold is None:
        threshold = 6.0 if how == "motion" else 0.5

    frames, least = clip.frames, (smallest, narrowest)

    def make() -> np.ndarray:
        if how == "motion":
            return boxes_of(frames, least, lambda t: moving(frames, t, threshold, blur))
        network = load_detector(None if weights is None else str(weights))
        return boxes_of(frames, least, lambda t: detected(network, frames[t], threshold))

    source = getattr(frames, "filename", None)
    if source is None:  # frames that were made in memory
        return make()
    extra = f"blur={blur}" if how == "motion" else f"weights={weights}"
    what = f"objects {how} threshold={threshold} smallest={smallest} narrowest={narrowest} {extra}"
    return np.array(cached([Path(source)], what, make))


def boxes_of(
    frames: np.ndarray, least: tuple[float, float], find: Callable[[int], np.ndarray]
) -> np.ndarray:
    """The boxes (K, 4) that `find(t)` gives for every frame, as (K, 5), without the small ones.

    `least` is what the longer and the shorter side must reach, as shares of the frame's height.
    """
    found = [np.empty((0, 5), np.int32)]
    longer, shorter = (share * frames.shape[2] for share in least)
    for t in range(len(frames)):
        boxes = find(t)
        sides = boxes[:, 2:] - boxes[:, :2]
        boxes = boxes[(sides.max(axis=1) >= longer) & (sides.min(axis=1) >= shorter)]
        found.append(np.column_stack([np.full(len(boxes), t), boxes]).astype(np.int32))
    return np.concatenate(found)


def moving(frames: np.ndarray, t: int, threshold: float = 6.0, blur: float = 1 / 120) -> np.ndarray:
    """Boxes (K, 4) around what moves between frames t − 1 and t (chapter 12).

    The absolute difference is blurred, so that the edges of one person grow together, and cut at
    `threshold` grey levels; each connected region gets a box. Frame 0 is compared with frame 1.

    Args:
        frames: uint8 (T, C, H, W).
        blur: σ of the Gaussian as a share of H.
    """
    before, now = (frames[k].astype(np.float32) for k in (abs(t - 1), t))
    change = np.abs(now - before).mean(axis=0)
    change = cv2.GaussianBlur(change, (0, 0), blur * len(change), borderType=cv2.BORDER_REFLECT)
    regions = cv2.connectedComponentsWithStats((change > threshold).astype(np.uint8))[2][1:]
    x, y, width, height = regions[:, :4].T
    return np.stack([x, y, x + width, y + height], axis=1)


@torch.no_grad()
def detected(network: torch.nn.Module, frame: np.ndarray, threshold: float) -> np.ndarray:
    """Boxes (K, 4) around the objects, of any class, that the network is sure enough of.

    Args:
        network: one of torchvision's detectors, see `load_detector`.
        frame: uint8 (C, H, W), grey or colour.
    """
    device = next(network.parameters()).device
    image = torch.from_numpy(np.array(frame)).to(device).float().div_(255).expand(3, -1, -1)
    found = network([image])[0]
    boxes = found["boxes"][found["scores"] > threshold].cpu().numpy()
    low, high = np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])
    return np.concatenate([low, high], axis=1).clip(0, [*frame.shape[:0:-1]] * 2).astype(int)


@lru_cache(maxsize=1)
def load_detector(weights: str | None = None) -> torch.nn.Module:
    """torchvision's `fasterrcnn_resnet50_fpn_v2` with COCO's weights, in eval mode.

    Args:
        weights: a file with its state_dict; None lets torchvision download it (167 MB).
    Raises:
        RuntimeError: when the weights cannot be downloaded.
    """
    from torchvision.models import detection

    if weights is not None:
        network = detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    else:
        try:
            network = detection.fasterrcnn_resnet50_fpn_v2(weights="DEFAULT")
        except OSError as error:  # no connection: URLError is one
            raise RuntimeError(
                f"The detector's weights cannot be downloaded ({error}). Give a file with them as "
                "`weights`, or use how='motion', which needs none."
            ) from error
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def silhouette(image: np.ndarray, how: str = "threshold", margin: float = 1 / 64) -> np.ndarray:
    """Where the one object of a picture is, as bool (H, W): its background is False (chapter 14).

    Args:
        image: uint8 (C, H, W), one object on a plain ground that reaches the picture's border.
        how: "threshold" needs no weights: the grey levels are cut in two by Otsu's rule, and the
            largest region that is unlike the border is the object, its holes filled. "sam" asks
            Segment Anything for the object at that region's innermost point (see `segmented`).
        margin: the silhouette is widened by this share of the picture's height, because defects
            sit on edges too.
    Raises:
        ValueError: for an unknown `how`.
        RuntimeError: when "sam" lacks the package transformers, or its weights.
    """
    if how not in ("threshold", "sam"):
        raise ValueError(f"how is {how!r}; choose 'threshold' or 'sam'.")
    thing = unlike_border(image)
    if how == "sam" and thing.any():
        depth = ndimage.distance_transform_edt(np.pad(thing, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        thing = segmented(image, (int(x), int(y)))
    return ndimage.binary_dilation(thing, iterations=max(1, round(margin * len(thing))))


def unlike_border(image: np.ndarray) -> np.ndarray:
    """The largest region, bool (H, W), on the other side of Otsu's threshold than the border."""
    grey = image.astype(np.float32).mean(axis=0)
    grey = cv2.GaussianBlur(grey, (0, 0), len(grey) / 128).astype(np.uint8)  # noise has no region
    bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    marks, count = ndimage.label(bright != (border.mean() > 0.5))
    if not count:
        return np.zeros(grey.shape, bool)
    largest = 1 + np.bincount(marks.ravel())[1:].argmax()
    return ndimage.binary_fill_holes(marks == largest)


@lru_cache(maxsize=1)
def load_segmenter(weights: str) -> tuple[Any, Any]:
    """Segment Anything and what prepares its input, loaded once. Errors: see `segmented`."""
    try:
        from transformers import SamModel, SamProcessor
    except ImportError as error:
        raise RuntimeError(
            "Segment Anything comes with the package transformers, which is not installed. Run "
            "`pip install transformers`, or use how='threshold', which needs nothing."
        ) from error
    try:
        return SamModel.from_pretrained(weights), SamProcessor.from_pretrained(weights)
    except OSError as error:  # no connection, or no such folder
        raise RuntimeError(
            f"The weights of Segment Anything, {weights}, cannot be had ({error}). Name a folder "
            "with them, or use how='threshold', which needs none."
        ) from error


@torch.no_grad()
def segmented(
    image: np.ndarray, point: tuple[int, int], weights: str = "facebook/sam-vit-base"
) -> np.ndarray:
    """What Segment Anything takes for the object at `point`, as bool (H, W) (AST-MFR, Table 9).

    Of the three masks that it proposes, the one it is surest of.

    Args:
        image: uint8 (C, H, W), grey or colour.
        point: x and y of a pixel of the object.
        weights: a folder with them, or their name on the Hugging Face hub (375 MB).
    Raises:
        RuntimeError: when the package transformers is missing, or the weights cannot be had.
    """
    model, processor = load_segmenter(weights)
    picture = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    given = processor(picture.transpose(1, 2, 0), input_points=[[list(point)]], return_tensors="pt")
    said = model(**given)
    masks = processor.image_processor.post_process_masks(
        said.pred_masks, given["original_sizes"], given["reshaped_input_sizes"]
    )[0][0]
    return masks[said.iou_scores[0, 0].argmax()].numpy().astype(bool)
