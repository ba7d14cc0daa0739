"""Laws of alternatives that hold for every architecture of the catalogue."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.networks import images, random_model
from wb.core.architecture import Architecture
from wb.models.counting import count_macs
from wb.search.alternatives.combined import combined
from wb.search.alternatives.library import Library


def test_every_alternative_is_a_network_of_less_work(any_combination_of_images: Architecture, tmp_path: Path) -> None:
    """Alone, and the smallest of all sub-layers together; and wholes together are the model."""
    model = random_model(any_combination_of_images)
    x = images(any_combination_of_images)
    library = Library(tmp_path, model)
    library.make(x)
    found = {slot: list(library.read(slot).values()) for slot in library.slots}
    assert torch.equal(
        combined(library.model, {slot: of[0] for slot, of in found.items()}).network()(x), library.model.network()(x)
    )
    whole = count_macs(any_combination_of_images).value
    together = {slot: of[-1] for slot, of in found.items()}
    chosen = [{slot: one} for slot, of in found.items() for one in (of[1], of[-1])]
    for choice in (*chosen, together):
        smaller = combined(library.model, choice)
        smaller.check()
        assert count_macs(smaller.architecture).value <= whole - (choice is together)  # a mean has no products to save
        assert smaller.network()(x).isfinite().all()
