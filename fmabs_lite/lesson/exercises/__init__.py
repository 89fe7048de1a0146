"""Automatic checks of the book's exercises, a file for each chapter."""

from fmabs_lite.lesson.exercises import (  # noqa: F401 - importing a file registers its checks
    chapter_00,
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
    chapter_13,
    chapter_14,
    chapter_15,
    chapter_16,
    chapter_17,
    chapter_18,
)
from fmabs_lite.lesson.exercises.registry import check, exercise

__all__ = ["check", "exercise"]
