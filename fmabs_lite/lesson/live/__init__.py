"""Figures that live on a page without a kernel: a clip that plays, a threshold to drag."""

from fmabs_lite.lesson.live.clip import play
from fmabs_lite.lesson.live.threshold import drag

__all__ = ["drag", "play"]
