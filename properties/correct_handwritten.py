"""Backwards written by hand, and right, in the styles and for the layers that people write them."""

from __future__ import annotations

from properties import handwritten_layers, handwritten_styles

SUBJECTS = [*handwritten_styles.SUBJECTS, *handwritten_layers.SUBJECTS]
