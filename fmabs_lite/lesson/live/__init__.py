"""Figures that live on a page without a kernel: a clip that plays, a threshold to drag."""

from fmabs_lite.lesson.live.clip import of_objects, play
from fmabs_lite.lesson.live.threshold import drag

__all__ = ["drag", "of_objects", "play"]
