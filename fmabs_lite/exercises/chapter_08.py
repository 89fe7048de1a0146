"""Checks of the exercises of chapter 08."""
