"""Figures that answer on a page without a kernel: their scripts travel in the cell's output."""

from fmabs_lite.lesson.live.paint import Stroke, paint

__all__ = ["Stroke", "paint"]
