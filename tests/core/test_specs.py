"""Shapes of the arrays that a network takes."""

from __future__ import annotations

from wb.core.specs import Spec, image_spec, text_specs


def test_the_batch_is_in_front_and_not_part_of_an_example() -> None:
    spec = image_spec(3, 224, 192)
    assert spec == Spec("pixel_values", "float32", ("batch", 3, 224, 192))
    assert spec.sized(7, tokens=5) == (7, *spec.example)
    assert spec.text == "3x224x192"
    assert spec.dynamic == {0: "batch"}


def test_texts_have_any_number_of_tokens() -> None:
    ids, mask = text_specs(3000)
    assert ids.dynamic == mask.dynamic == {0: "batch", 1: "tokens"}
    assert ids.sized(7, tokens=5) == mask.sized(7, tokens=5) == (7, 5)
    assert ids.text == "tokens below 3000"
