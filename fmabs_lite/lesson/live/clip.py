"""A clip that plays on the page, in step with its score curve (chapters 11, 12, 13 and 15)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from fmabs_lite.lesson.live import page

MOST = 200  # frames: a longer clip is no longer watched to its end
LARGE = 120_000  # bytes of the frames, which base64 makes 160 kB; else they are stored coarser
TOO_LARGE = 350_000  # bytes of the frames at the coarsest quality
QUALITIES = (75, 60, 50, 40, 30)
COLUMNS = 10  # frames side by side in the one picture that holds all of them
WIDE = 540  # pixels that the clip is drawn in, or a little less

STYLE = """\
<style>
.live-clip canvas, .live-clip .still { display: block; height: auto; image-rendering: pixelated;
  margin: 0; max-width: 100%; }
.live-clip .controls { align-items: center; display: flex; flex-wrap: wrap; gap: 0 1em;
  margin-top: .5em; }
.live-clip label { flex: 1; min-width: 12em; }
.live-clip output { flex-basis: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
.live-clip .curve { column-gap: .5em; display: grid; font-size: .8rem;
  grid-template-columns: max-content 1fr; line-height: 1.2; margin-top: .6em; }
.live-clip .curve > :nth-child(1) { grid-column: 2; margin-bottom: .4em; }
.live-clip .range { display: flex; flex-direction: column; justify-content: space-between;
  text-align: right; }
.live-clip .plot { cursor: crosshair; touch-action: pan-y; }
.live-clip svg { height: 120px; }
.live-clip .below { display: flex; grid-column: 2; justify-content: space-between; }
.live-clip .truth { fill: #D55E00; fill-opacity: .18; }
.live-clip .edge { fill: none; stroke: #D55E00; stroke-width: 4; }
.live-clip .cursor { stroke: currentColor; stroke-dasharray: 4 3; }
"""


def play(
    frames: ArrayLike,
    scores: ArrayLike,
    truth: ArrayLike,
    boxes: Sequence[ArrayLike] | None = None,
    *,
    alt: str,
    transcript: str,
    rate: float = 10,
    name: str = "anomaly score",
) -> None:
    """Display a clip to play, in step with its score; it never starts by itself.

    Args:
        frames: uint8 (T, H, W), or (T, C, H, W) with 1 or 3 channels. They are stored with losses.
        scores: (T,), larger is more anomalous; NaN where a frame is not judged.
        truth: (T,), 1 or True where a frame is abnormal.
        boxes: for each frame an array (K, 4) of x0, y0, x1, y1, or (K, 5) with a score behind:
            the box with the highest one of its frame is drawn thicker. None: no boxes.
        alt: what the clip shows, for one who cannot see it.
        transcript: a sentence of the author's on what happens; what can be computed is added.
        rate: frames in a second.
        name: what the curve shows, with its unit.

    Raises:
        ValueError: for shapes, types or labels that do not fit, an empty `alt` or `transcript`,
            more than 200 frames, or frames too large for a page.
    """
    pictures = _pictures(frames)
    scores, truth = _curve(scores, truth, len(pictures))
    found = _boxes(boxes, len(pictures))
    for what, text in (("alt", alt), ("transcript", transcript)):
        if not (isinstance(text, str) and text.strip()):
            raise ValueError(f"play: {what} is empty; say what the clip shows")
    if not rate > 0:
        raise ValueError(f"play: rate is {rate}; give frames in a second, such as 10")
    words = [transcript.strip(), *told(scores, truth)]
    if boxes is not None:
        words.append("Labels are of frames: they do not say which object is the abnormal one.")
    page.show(
        _html(pictures, scores, truth, found, alt.strip(), " ".join(words), rate, name), alt.strip()
    )


def of_objects(
    index: np.ndarray, values: ArrayLike, number: int, count: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What `play` wants of one clip in which objects are judged (chapters 12, 13 and 15).

    Args:
        index: int (N, 6), an object each: its clip, frame, x0, y0, x1, y1, as `Cubes.index`.
        values: (N,), how anomalous each object is.
        number, count: the clip, and how many frames it has.
    Returns:
        The highest value of each frame, NaN without an object: (count,); and its boxes (K, 5).
    """
    rows = np.column_stack([index[:, 2:], values])
    boxes = [rows[(index[:, :2] == (number, t)).all(axis=1)] for t in range(count)]
    return np.array([each[:, 4].max() if len(each) else np.nan for each in boxes]), boxes


def _pictures(frames: ArrayLike) -> np.ndarray:
    """Frames as (T, H, W), or in colour as (T, H, W, 3)."""
    frames = np.asarray(frames)
    colour = frames.ndim == 4
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or colour and frames.shape[1] in (1, 3)):
        raise ValueError(
            f"play: frames are {frames.dtype} {frames.shape}; give uint8 (T, H, W) or (T, C, H, W) "
            "with 1 or 3 channels"
        )
    if not 2 <= len(frames) <= MOST:
        raise ValueError(f"play: {len(frames)} frames; give 2 to {MOST}, such as every second one")
    if colour and frames.shape[1] == 1:
        return frames[:, 0]
    return frames.transpose(0, 2, 3, 1) if colour else frames


def _curve(scores: ArrayLike, truth: ArrayLike, count: int) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = np.asarray(scores, float), np.asarray(truth)
    for what, array in (("scores", scores), ("truth", truth)):
        if array.shape != (count,):
            raise ValueError(f"play: {what} {array.shape} for {count} frames; give one a frame")
    if np.isinf(scores).any() or np.isnan(scores).all():
        raise ValueError("play: scores are infinite or all NaN; NaN stands for frames not judged")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("play: truth must be 0 (normal) or 1 (abnormal)")
    return scores, truth.astype(bool)


def _boxes(boxes: Sequence[ArrayLike] | None, count: int) -> list[np.ndarray]:
    if boxes is None:
        return [np.empty((0, 4))] * count
    found = [np.asarray(each, float) for each in boxes]
    if len(found) != count:
        raise ValueError(f"play: boxes of {len(found)} frames for {count} frames; give one array a "
                         "frame, of shape (0, 4) where there is none")  # fmt: skip
    for t, each in enumerate(found):
        if each.ndim != 2 or each.shape[1] not in (4, 5):
            raise ValueError(f"play: boxes of frame {t} are {each.shape}; give (K, 4), or (K, 5) "
                             "with scores")  # fmt: skip
    return found


def told(scores: np.ndarray, truth: np.ndarray) -> list[str]:
    """In sentences: when the truth and the score are high, and whether they agree."""
    judged, high = ~np.isnan(scores), np.nanargmax(scores)
    lines = [f"The clip has {len(scores)} frames, counted from 0.",
             f"By the labels {_runs(truth)} abnormal."]  # fmt: skip
    if not judged.all():
        lines.append(f"{_runs(~judged).capitalize()} not judged.")
    what, so = (("abnormal", "highest score and labels agree") if truth[high]
                else ("normal", "highest score and labels do not agree"))  # fmt: skip
    lines.append(f"The score is highest in frame {high}, which is {what}: {so}.")
    normal, abnormal = scores[judged & ~truth], scores[judged & truth]
    if len(normal) and len(abnormal):
        over = (abnormal > normal.max()).sum()
        lines.append(f"Higher than all normal ones: {over} of {len(abnormal)} abnormal frames.")
    return lines


def spans(marked: np.ndarray) -> list[tuple[int, int]]:
    """First and last place of each run of True."""
    steps = np.diff(np.concatenate([[0], marked.astype(int), [0]]))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _runs(marked: np.ndarray) -> str:
    """Such as "frames 3 to 9 and 12 are", with its verb."""
    said = [f"{a} to {b}" if b > a else f"{a}" for a, b in spans(marked)]
    if not said:
        return "no frame is"
    together = " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))
    return f"frame {together} is" if marked.sum() == 1 else f"frames {together} are"


def _html(
    pictures: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray,
    boxes: list[np.ndarray],
    alt: str,
    words: str,
    rate: float,
    name: str,
) -> str:
    """The figure; what is drawn at first is the frame with the highest score."""
    high, last = int(np.nanargmax(scores)), len(pictures) - 1
    height, width = pictures.shape[1:3]
    scale = max(1, WIDE // width)
    still = page.address(page.webp(_still(pictures[high], boxes[high]), quality=75))
    data = {
        "sheet": page.address(_sheet(pictures)), "columns": COLUMNS, "rate": rate, "scale": scale,
        "width": width, "height": height, "truth": truth.astype(int).tolist(),
        "scores": [None if np.isnan(s) else float(f"{s:.4g}") for s in scores],
        "boxes": [each[:, :4].round().astype(int).tolist() for each in boxes],
        "worst": [_worst(each) for each in boxes],
    }  # fmt: skip
    return f"""\
<div class="live live-clip" role="group" aria-label="A clip to play: {escape(name)}">
{STYLE}{page.STYLE}</style>
<img class="still" src="{still}" width="{width * scale}" height="{height * scale}" \
alt="{escape(alt)} Frame {high}, where the score is highest.">
<canvas role="img" aria-label="{escape(alt)}" hidden></canvas>
<div class="controls on-screen" hidden>
<button type="button">Play</button>
<label>frame <input type="range" min="0" max="{last}" value="0" autocomplete="off"></label>
<output aria-live="off"></output>
<span class="spoken" role="status"></span>
</div>
{_curve_html(scores, truth, rate, name)}
<p>{_key(boxes)}</p>
<details><summary>The clip in words</summary><p>{escape(words)}</p></details>
{page.block(data)}
<script>
{page.script("clip.js")}</script>
</div>"""


def _still(picture: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """One frame with its boxes."""
    picture = Image.fromarray(picture).convert("RGB")
    pen, best = ImageDraw.Draw(picture), _worst(boxes)
    for k, (x0, y0, x1, y1) in enumerate(boxes[:, :4].tolist()):
        colour = "white" if best not in (-1, k) else page.BRIGHT
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour)
    return np.asarray(picture)


def _worst(boxes: np.ndarray) -> int:
    """The box with the highest score; -1 where boxes have none."""
    return int(boxes[:, 4].argmax()) if boxes.shape[1] == 5 and len(boxes) else -1


def _sheet(pictures: np.ndarray) -> bytes:
    """All frames as one picture, as fine as fits."""
    sheet = page.tiled(pictures, COLUMNS)
    for quality in QUALITIES:
        if len(file := page.webp(sheet, quality=quality)) <= LARGE:
            break
    if len(file) > TOO_LARGE:
        raise ValueError(
            f"play: {len(pictures)} frames of {pictures.shape[2]} x {pictures.shape[1]} pixels "
            f"make {len(file) / 1000:.0f} kB; make them smaller, or leave some out"
        )
    return file


def _curve_html(scores: np.ndarray, truth: np.ndarray, rate: float, name: str) -> str:
    """The curve over the frames; one unit across is one frame, the height is 0 to 1."""
    low, high, last = np.nanmin(scores), np.nanmax(scores), len(scores) - 1
    level = (high - scores) / (high - low) if high > low else scores * 0 + 0.5
    line = page.path(np.stack([np.arange(len(scores)), level], axis=1))
    shades = "".join(
        f'<rect class="truth" x="{max(a - 0.5, 0)}" y="0" '
        f'width="{min(b + 0.5, last) - max(a - 0.5, 0)}" height="1"/>'
        f'<path class="edge" d="M{max(a - 0.5, 0)} 0H{min(b + 0.5, last)}"/>'
        for a, b in spans(truth)
    )
    what = escape(f"{name} over the frames of the clip")
    return f"""\
<div class="curve"><span>{escape(name)}</span>
<span class="range"><span>{high:.3g}</span><span>{low:.3g}</span></span>
<div class="plot"><svg viewBox="0 0 {last} 1" preserveAspectRatio="none" role="img" \
aria-label="{what}">{shades}<path class="frame" d="M0 0V1H{last}"/>
<path class="line" d="{line}"/><path class="cursor" d="M0 0V1" visibility="hidden"/>
<path class="dot" d="" visibility="hidden"/></svg></div>
<span class="below"><span>0</span><span>frame ({rate:g} a second)</span>\
<span>{last}</span></span></div>"""


def _key(boxes: Sequence[np.ndarray]) -> str:
    """What shades and frames mean."""
    scored = any(each.shape[1] == 5 and len(each) for each in boxes)
    key = "Shaded, with a bar above: abnormal by the labels."
    return key + (" Thick box: the object with the highest score." if scored else "")
