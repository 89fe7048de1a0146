"""The figure that one paints on, in a headless Chromium: by mouse, finger and keyboard."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from fmabs_lite.attention import SpatioChannelAttention
from fmabs_lite.lesson.live import Stroke, paint
from fmabs_lite.lesson.live.engine import maps_of, networks_of
from fmabs_lite.metrics import auroc
from fmabs_lite.mimicry import Boosted
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.press.chromium import Tab

pytestmark = pytest.mark.browser
SIDE = 64
PARTS = torch.randint(0, 256, (6, 3, SIDE, SIDE), generator=torch.manual_seed(0),
                      dtype=torch.uint8)  # fmt: skip
READY = {
    "a copy": Stroke("copy", 3, [(30, 12), (40, 20), (33, 41)]),
    "a mirror": Stroke("mirror", 5, [(3, 60)]),
    "a <scratch>": Stroke("light", 0, [(1, 1), (60, 33)]),
}
PAGE = ('<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><title>paint</title><body>')  # fmt: skip
SAID = "[...document.querySelectorAll('.live-paint')[{}].querySelectorAll('[data-said]')]"


def network(seed: int) -> AutoEncoder:
    torch.manual_seed(seed)
    made = AutoEncoder(width=4, code=8)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.2, 1)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return made.eval()


def systems() -> list:
    """What a page shows: the plain network, and a student with spatio-channel attention."""
    torch.manual_seed(5)
    student = Boosted(Reconstruction(network(0)), network(1),
                      attention=SpatioChannelAttention(8, 2))  # fmt: skip
    return [Reconstruction(network(2)), student.eval()]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", lambda it, raw: told.append(it["text/html"]))
        for system in systems():
            paint(system, PARTS[:2], PARTS[2:], READY, alt="A painted part.", sigma=1.0)
    path = tmp_path_factory.mktemp("painted") / "page.html"
    path.write_text(PAGE + "<hr>".join(told), encoding="utf-8")
    return path.as_uri()


def answer(tab: Tab, figure: int) -> dict[str, np.ndarray]:
    told = tab.run(
        f"JSON.stringify(Object.fromEntries(Object.entries(document.querySelectorAll('.live-paint')"
        f"[{figure}].answer).map(([name, map]) => [name, [...map.data]])))"
    )
    return {name: np.array(values) for name, values in json.loads(told).items()}


def said(tab: Tab, figure: int) -> dict[str, str]:
    return tab.run(
        f"Object.fromEntries({SAID.format(figure)}.map(e => [e.dataset.said, e.textContent]))"
    )


def press(tab: Tab, figure: int, words: str) -> None:
    tab.run(f"[...document.querySelectorAll('.live-paint')[{figure}].querySelectorAll('button')]"
            f".find(button => button.textContent === {json.dumps(words)}).click()")  # fmt: skip


def painted(tab: Tab, figure: int) -> np.ndarray:
    """The pixels on the part's canvas, (S, S, 3)."""
    told = tab.run(
        f"[...document.querySelectorAll('.live-paint')[{figure}].querySelector('canvas')"
        f".getContext('2d').getImageData(0, 0, {SIDE}, {SIDE}).data]"
    )
    return np.array(told, dtype=np.uint8).reshape(SIDE, SIDE, 4)[..., :3]


def part(k: int) -> np.ndarray:
    return PARTS[k].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("figure", [0, 1])
@pytest.mark.parametrize("ready", READY)
def test_javascript_answers_as_torch_does(tab, page, figure, ready):
    tab.open(page)
    press(tab, figure, ready)
    found, whole = answer(tab, figure), PARTS[0].numpy()
    stroke = READY[ready].on(whole)
    np.testing.assert_array_equal(painted(tab, figure), stroke.transpose(1, 2, 0))
    wanted = maps_of(networks_of(systems()[figure]), torch.as_tensor(stroke)[None], 1.0)
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values.ravel(), atol=1e-4, err_msg=name)
    changed = (stroke != whole).any(axis=0)
    told = auroc(wanted["error"].ravel(), changed.ravel())
    assert f"AUROC of what you changed {told:.2f}" in said(tab, figure)["error"]


def test_the_peak_is_counted_among_the_normal_parts(tab, page):
    tab.open(page)
    networks = networks_of(systems()[0])
    mine, normal = (maps_of(networks, images, 1.0)["error"].max(axis=(1, 2))
                    for images in (PARTS[:1], PARTS[2:]))  # fmt: skip
    assert f"above {(normal < mine).sum()} of 4 normal parts" in said(tab, 0)["error"]
    assert "AUROC" not in said(tab, 0)["error"]  # nothing was changed yet


def test_m_has_not_moved_before_something_is_painted(tab, page):
    tab.open(page)
    assert said(tab, 1)["mask"] == "moved by 0.000 at most, of 1"
    press(tab, 1, "a mirror")
    assert said(tab, 1)["mask"] != "moved by 0.000 at most, of 1"


def test_undo_goes_back_one_stroke_and_clear_all(tab, page):
    tab.open(page)
    press(tab, 0, "a copy")
    once = painted(tab, 0)
    press(tab, 0, "a mirror")
    twice = painted(tab, 0)
    press(tab, 0, "undo")
    np.testing.assert_array_equal(painted(tab, 0), once)
    press(tab, 0, "a mirror")
    np.testing.assert_array_equal(painted(tab, 0), twice)
    press(tab, 0, "clear")
    np.testing.assert_array_equal(painted(tab, 0), part(0))
    press(tab, 0, "undo")
    np.testing.assert_array_equal(painted(tab, 0), twice)
    np.testing.assert_array_equal(painted(tab, 1), part(0))  # the other figure is its own


def spot(tab: Tab, figure: int, x: float, y: float) -> dict[str, float]:
    """Where a pixel of the part is on the screen."""
    box = tab.run(
        f"(() => {{const canvas = document.querySelectorAll('.live-paint')[{figure}]"
        ".querySelector('canvas'); canvas.scrollIntoView({block: 'center'});"
        "const box = canvas.getBoundingClientRect();"
        "return [box.left, box.top, box.width, box.height]; })()"
    )
    return {"x": box[0] + (x + 0.5) / SIDE * box[2], "y": box[1] + (y + 0.5) / SIDE * box[3]}


@pytest.mark.parametrize("width", [390, 1280])
def test_a_mouse_draws_a_line(tab, page, width):
    tab.open(page, width)
    at = [spot(tab, 1, *place) for place in ((10, 10), (10, 30))]
    tab.tell("Input.dispatchMouseEvent", type="mousePressed", button="left", clickCount=1, **at[0])
    tab.tell("Input.dispatchMouseEvent", type="mouseMoved", button="left", **at[1])
    tab.tell("Input.dispatchMouseEvent", type="mouseReleased", button="left", **at[1])
    wanted = Stroke("dark", 2, [(10, 10), (10, 30)]).on(PARTS[0].numpy())
    np.testing.assert_array_equal(painted(tab, 1), wanted.transpose(1, 2, 0))
    told = tab.run("document.querySelectorAll('.live-paint [role=status]')[1].textContent")
    assert told.startswith("error: AUROC of what you changed")
    tab.tell("Input.dispatchMouseEvent", type="mouseMoved", **at[0])
    np.testing.assert_array_equal(painted(tab, 1), wanted.transpose(1, 2, 0))  # no button


@pytest.mark.parametrize("width", [390, 1280])
def test_a_finger_draws_and_the_page_stays(tab, page, width):
    tab.open(page, width)
    tab.tell("Emulation.setTouchEmulationEnabled", enabled=True)
    at = [spot(tab, 0, *place) for place in ((20, 12), (40, 50))]
    before = tab.run("scrollY")
    tab.tell("Input.dispatchTouchEvent", type="touchStart", touchPoints=[at[0]])
    tab.tell("Input.dispatchTouchEvent", type="touchMove", touchPoints=[at[1]])
    tab.tell("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    tab.tell("Emulation.setTouchEmulationEnabled", enabled=False)
    wanted = Stroke("dark", 2, [(20, 12), (40, 50)]).on(PARTS[0].numpy())
    np.testing.assert_array_equal(painted(tab, 0), wanted.transpose(1, 2, 0))
    assert tab.run("scrollY") == before


def touch(tab: Tab, kind: str, **fingers: dict) -> None:
    points = [{"id": int(name[1:]), **place} for name, place in fingers.items()]
    tab.tell("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=points)


def test_a_second_finger_draws_nothing(tab, page):
    tab.open(page, 390)
    tab.tell("Emulation.setTouchEmulationEnabled", enabled=True)
    at = [spot(tab, 0, *place) for place in ((10, 10), (50, 50), (10, 20), (50, 40))]
    touch(tab, "Start", f0=at[0])
    touch(tab, "Start", f0=at[0], f1=at[1])
    touch(tab, "Move", f0=at[2], f1=at[3])
    touch(tab, "End")
    tab.tell("Emulation.setTouchEmulationEnabled", enabled=False)
    wanted = Stroke("dark", 2, [(10, 10), (10, 20)]).on(PARTS[0].numpy())
    np.testing.assert_array_equal(painted(tab, 0), wanted.transpose(1, 2, 0))


def test_a_stroke_may_leave_the_part_and_come_back(tab, page):
    tab.open(page)
    way = [(20, 5), (20, -9), (40, -9), (40, 6)]
    at = [spot(tab, 0, *place) for place in way]
    for kind, place in zip(("Pressed", "Moved", "Moved", "Moved", "Released"), [*at, at[-1]],
                           strict=True):  # fmt: skip
        tab.tell("Input.dispatchMouseEvent", type=f"mouse{kind}", button="left", clickCount=1,
                 **place)  # fmt: skip
    wanted = Stroke("dark", 2, way).on(PARTS[0].numpy())
    np.testing.assert_array_equal(painted(tab, 0), wanted.transpose(1, 2, 0))


def test_where_everything_was_changed_nothing_is_compared(tab, page):
    tab.open(page)
    tab.run("document.querySelector('.live-paint [name=radius]').value = 10")
    at = [spot(tab, 0, x, y) for y in range(5, 64, 8) for x in (0, 63)]
    tab.tell("Input.dispatchMouseEvent", type="mousePressed", button="left", clickCount=1, **at[0])
    for place in at:
        tab.tell("Input.dispatchMouseEvent", type="mouseMoved", button="left", **place)
    tab.tell("Input.dispatchMouseEvent", type="mouseReleased", button="left", **at[-1])
    assert (painted(tab, 0) == 20).all()
    assert said(tab, 0)["error"].startswith("its peak lies above")


def test_undo_passes_over_what_changed_nothing(tab, page):
    tab.open(page)
    press(tab, 0, "a mirror")
    press(tab, 0, "a mirror")
    press(tab, 0, "undo")
    np.testing.assert_array_equal(painted(tab, 0), part(0))


def keys(tab: Tab, *names: str, shift: bool = False) -> None:
    for name in names:
        text = {"text": " "} if name == " " else {}
        for kind in ("keyDown", "keyUp"):
            tab.tell("Input.dispatchKeyEvent", type=kind, key=name, modifiers=8 * shift, **text)


def test_the_keyboard_paints_too(tab, page):
    tab.open(page)
    tab.run("document.querySelector('.live-paint [name=brush]').value = 'light'")
    tab.run("document.querySelector('.live-paint canvas').focus()")
    keys(tab, "ArrowLeft", "ArrowLeft", "ArrowUp")
    keys(tab, "ArrowDown", shift=True)
    keys(tab, " ")
    wanted = Stroke("light", 2, [(30, 39)]).on(PARTS[0].numpy())
    np.testing.assert_array_equal(painted(tab, 0), wanted.transpose(1, 2, 0))


def test_another_part_begins_untouched(tab, page):
    tab.open(page)
    press(tab, 0, "a mirror")
    tab.run("(() => {const parts = document.querySelector('.live-paint [name=part]');"
            "parts.value = '1'; parts.dispatchEvent(new Event('change'))})()")  # fmt: skip
    np.testing.assert_array_equal(painted(tab, 0), part(1))


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_it_fits_and_asks_for_nothing(tab, page, width):
    tab.open(page, width)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("performance.getEntriesByType('resource').map(e => e.name)"
                   ".filter(name => !name.startsWith('data:'))") == []  # fmt: skip
    heights = tab.run(
        "[...document.querySelectorAll('.live-paint :is(button, select, input)')]"
        ".map(e => e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44  # a finger's width


def test_without_scripts_a_picture_and_its_text_remain(tab, page):
    tab.tell("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(page)
    tab.tell("Emulation.setScriptExecutionDisabled", value=False)
    seen = tab.run(
        "[...document.querySelectorAll('.live-paint img')].map(e => [e.alt, e.naturalWidth > 100,"
        "e.checkVisibility()]).concat([...document.querySelectorAll('.live-paint canvas')]"
        ".map(e => e.checkVisibility()))"
    )
    assert seen[:2] == [["A painted part.", True, True]] * 2
    assert seen[2:] and not any(seen[2:])
