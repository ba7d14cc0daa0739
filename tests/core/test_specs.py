"""Shapes of the arrays that a network takes."""

from __future__ import annotations

from wb.core.specs import Spec, image_spec


def test_the_batch_is_in_front_and_not_part_of_an_example() -> None:
    spec = image_spec(3, 224, 192)
    assert spec == Spec("pixel_values", "float32", ("batch", 3, 224, 192))
    assert spec.sized(7) == (7, *spec.example)
    assert spec.text == "3x224x192"
