"""The clip that plays: what its figure holds, what its words say, what it refuses."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fmabs_lite.lesson.live import of_objects, play
from fmabs_lite.lesson.live.clip import COLUMNS, MOST, spans, told

T, H, W = 23, 12, 16
SCORES = np.linspace(0, 1, T)
TRUTH = np.arange(T) >= 15
WORDS = {"alt": "A street.", "transcript": "Somebody cycles."}


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """The bundles that a figure displays."""
    found: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda it, raw: found.append(it) or None)
    return found


def clip(channels: int = 0) -> np.ndarray:
    """Frame t is of the one grey 10 · t, or in colour of the red 10 · t."""
    shape = (T, channels, H, W) if channels else (T, H, W)
    frames = np.zeros(shape, np.uint8)
    grey = 10 * np.arange(T, dtype=np.uint8)
    if channels == 3:
        frames[:, 0] = grey[:, None, None]
    else:
        frames[:] = grey.reshape(-1, *[1] * (frames.ndim - 1))
    return frames


def held(html: str) -> dict:
    """The numbers in a figure, as its script reads them."""
    (block,) = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.S)
    return json.loads(block)


def picture(address: str) -> Image.Image:
    kind, data = address.split(",")
    assert kind == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(data))).convert("RGB")


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_the_sheet_holds_each_frame_at_its_place(shown, channels):
    assert play(clip(channels), SCORES, TRUTH, **WORDS) is None
    data = held(shown[0]["text/html"])
    sheet = picture(data["sheet"])
    assert sheet.size == (COLUMNS * W, 3 * H) and data["columns"] == COLUMNS
    for t in range(T):
        pixel = sheet.getpixel((t % COLUMNS * W + W // 2, t // COLUMNS * H + H // 2))
        grey = 10 * t
        assert pixel == pytest.approx((grey, 0, 0) if channels == 3 else (grey,) * 3, abs=8)


def test_scores_truth_and_boxes_arrive_and_the_worst_box_is_known(shown):
    scores = np.where(np.arange(T) < 2, np.nan, SCORES / 3)
    boxes = [np.empty((0, 5))] * T
    boxes[4] = np.array([[1, 2, 5, 6, 0.1], [7, 2, 9, 6, 0.9], [0, 0, 3, 3, 0.5]])
    play(clip(), scores, TRUTH, boxes, rate=5, **WORDS)
    html = shown[0]["text/html"]
    data = held(html)
    assert data["scores"][:2] == [None, None]
    assert data["scores"][2:] == pytest.approx(scores[2:], rel=1e-3)
    assert data["truth"] == TRUTH.astype(int).tolist() and data["rate"] == 5
    assert data["boxes"][4] == [[1, 2, 5, 6], [7, 2, 9, 6], [0, 0, 3, 3]]
    assert data["worst"][4] == 1 and data["worst"][5] == -1
    assert "Thick box" in html and "frame (5 a second)" in html


def test_boxes_without_scores_have_no_worst(shown):
    play(clip(), SCORES, TRUTH, [np.array([[1, 2, 5, 6]])] * T, **WORDS)
    assert set(held(shown[0]["text/html"])["worst"]) == {-1}
    assert "Thick box" not in shown[0]["text/html"]


def test_the_still_picture_is_the_frame_with_the_highest_score(shown):
    play(clip(), -np.abs(np.arange(T) - 7.0), TRUTH, **WORDS)
    html = shown[0]["text/html"]
    ((src, alt),) = re.findall(
        r'<img class="still" src="([^"]*)".*?alt="([^"]*)"', html, flags=re.S
    )
    assert picture(src).getpixel((8, 6)) == pytest.approx((70, 70, 70), abs=8)
    assert alt == "A street. Frame 7, where the score is highest."


def test_the_curve_is_drawn_from_0_to_1_and_the_truth_is_shaded(shown):
    play(clip(), [3, np.nan, 5, 4] + [3] * (T - 4), TRUTH, name="error (grey²)", **WORDS)
    html = shown[0]["text/html"]
    (line,) = re.findall(r'<path class="line" d="([^"]*)"', html)
    assert line.startswith("M0 1M2 0L3 0.5L4 1L5 1")  # y goes down; a gap where none is known
    (rect,) = re.findall(r'<rect class="truth" x="([\d.]+)" y="0" width="([\d.]+)"', html)
    assert rect == ("14.5", "7.5")
    assert "<span>error (grey²)</span>" in html and "<span>5</span><span>3</span>" in html


def test_the_figure_can_stand_alone_and_twice(shown):
    words = {"alt": 'A "<b>".', "transcript": "<i> & </script>."}
    play(clip(), SCORES, TRUTH, name="<u>", **words)
    html = shown[0]["text/html"]
    assert not re.search("<[biu]>", html) and html.count("</script>") == 2
    text = re.sub(r'base64,[^"]*', "", html)
    assert not re.search(r"https?:|//[a-z]", text) and not re.search(r'\bid="', html)
    assert "<i> & </script>. The clip has" in unescape(html)
    assert html.index("<img") < html.index('<div class="controls on-screen" hidden>')
    assert "<canvas" in html and re.search(r"<canvas[^>]* hidden>", html)
    assert shown[0]["text/plain"] == 'A "<b>".'


def test_words_say_when_and_whether_score_and_labels_agree():
    scores = np.array([np.nan, 0.1, 0.3, 0.2, 0.9, 0.25, 0.8])
    truth = np.array([0, 0, 0, 1, 1, 0, 1], bool)
    assert told(scores, truth) == [
        "The clip has 7 frames, counted from 0.",
        "By the labels frames 3 to 4 and 6 are abnormal.",
        "Frame 0 is not judged.",
        "The score is highest in frame 4, which is abnormal: highest score and labels agree.",
        "Higher than all normal ones: 2 of 3 abnormal frames.",
    ]
    assert told(scores, ~truth)[3].endswith("normal: highest score and labels do not agree.")
    quiet = told(np.arange(3.0), np.zeros(3, bool))
    assert quiet[1] == "By the labels no frame is abnormal." and len(quiet) == 3


def test_of_objects_takes_the_boxes_and_the_highest_value_of_each_frame():
    index = np.array(
        [[0, 1, 9, 9, 9, 9], [1, 1, 0, 0, 4, 4], [1, 1, 2, 2, 5, 7], [1, 3, 1, 1, 2, 2]]
    )
    scores, boxes = of_objects(index, [9.0, 1.0, 2.5, 0.5], 1, 4)
    assert np.array_equal(scores, [np.nan, 2.5, np.nan, 0.5], equal_nan=True)
    assert boxes[1].tolist() == [[0, 0, 4, 4, 1], [2, 2, 5, 7, 2.5]]
    assert [each.shape for each in boxes] == [(0, 5), (2, 5), (0, 5), (1, 5)]


@pytest.mark.parametrize(
    ("marked", "found"),
    [([0, 0], []), ([1, 1], [(0, 1)]), ([1, 0, 1, 1, 0], [(0, 0), (2, 3)])],
)
def test_spans(marked, found):
    assert spans(np.array(marked, bool)) == found


BOXES = [np.zeros((1, 4))] * T
MISTAKES = [
    ({"frames": clip().astype(float)}, r"frames are float64 \(23, 12, 16\); give uint8"),
    ({"frames": clip(2)}, r"frames are uint8 \(23, 2, 12, 16\)"),
    ({"frames": clip()[:1]}, "1 frames; give 2 to 200"),
    ({"frames": np.zeros((MOST + 1, 2, 2), np.uint8)}, "201 frames; give 2 to 200"),
    ({"scores": SCORES[1:]}, r"scores \(22,\) for 23 frames"),
    ({"scores": np.full(T, np.nan)}, "scores are infinite or all NaN"),
    ({"truth": TRUTH[1:]}, r"truth \(22,\) for 23 frames"),
    ({"truth": 2 * TRUTH}, "truth must be 0"),
    ({"boxes": BOXES[1:]}, "boxes of 22 frames for 23 frames"),
    ({"boxes": [*BOXES[1:], np.zeros(4)]}, r"boxes of frame 22 are \(4,\); give \(K, 4\)"),
    ({"alt": " "}, "alt is empty"),
    ({"transcript": ""}, "transcript is empty"),
    ({"rate": 0}, "rate is 0; give frames in a second"),
]


@pytest.mark.parametrize(("wrong", "message"), MISTAKES, ids=lambda part: str(part)[:24])
def test_wrong_input_is_told_and_nothing_shown(shown, wrong, message):
    given = {"frames": clip(), "scores": SCORES, "truth": TRUTH, **WORDS} | wrong
    with pytest.raises(ValueError, match=message):
        play(given.pop("frames"), given.pop("scores"), given.pop("truth"), **given)
    assert shown == []


def test_a_clip_that_does_not_fit_is_stored_coarser_and_at_last_refused(shown, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (T, 48, 64), dtype=np.uint8)
    sizes = []
    for large in (10**6, 1):
        monkeypatch.setattr("fmabs_lite.lesson.live.clip.LARGE", large)
        play(noise, SCORES, TRUTH, **WORDS)
        sizes.append(len(held(shown[-1]["text/html"])["sheet"]))
    assert sizes[1] < 0.8 * sizes[0]
    monkeypatch.setattr("fmabs_lite.lesson.live.clip.TOO_LARGE", 1000)
    with pytest.raises(ValueError, match=r"23 frames of 64 x 48 pixels make \d+ kB; make them"):
        play(noise, SCORES, TRUTH, **WORDS)
    assert len(shown) == 2
