"""Figures that answer on a page without a kernel: a part to paint on, a clip, a threshold."""

from fmabs_lite.lesson.live.clip import of_objects, play
from fmabs_lite.lesson.live.paint import Stroke, paint
from fmabs_lite.lesson.live.threshold import drag

__all__ = ["Stroke", "drag", "of_objects", "paint", "play"]
