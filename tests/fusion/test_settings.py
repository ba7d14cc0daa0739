"""Settings that contradict each other are refused, and say what to leave out."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wb.fusion.settings import Method, Settings, Stat


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"method": "regress", "repair": True}, "repair does not go with regress, for it fits everything already"),
        ({"method": "ot", "repair": True}, "repair does not go with ot, for its maps keep no activations to restore"),
        ({"anchor": "mean", "method": "vanilla"}, "anchor 'mean' compares weights in perm, orth and regress only"),
        ({"anchor": "mean", "method": "ot", "stat": "weights"}, "anchor 'mean' compares weights"),
        ({"anchor": "mean", "stat": "activations"}, "anchor 'mean' compares weights"),
        ({"size": "small", "anchor": 1}, "size 'small' chooses the anchor by its parameters; leave out anchor or size"),
        ({"size": "large", "anchor": "mean"}, "leave out anchor or size"),
        ({"solver": "emd", "reg": 0.1}, "reg is Sinkhorn's; emd has none"),
        ({"solver": "lap", "reg": 0.1}, "reg is Sinkhorn's; lap has none"),
        ({"reg": 0.1}, "reg is Sinkhorn's; lap has none"),
        ({"method": "vanilla", "stat": "weights"}, "vanilla compares nothing"),
        ({"method": "vanilla", "solver": "lap"}, "vanilla compares nothing"),
    ],
)
def test_contradictions_are_refused(chosen: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings.model_validate(chosen)


@pytest.mark.parametrize(
    "chosen",
    [
        {"method": "other"},
        {"anchor": 0},
        {"anchor": "first"},
        {"reg": 0.0, "solver": "sinkhorn"},
        {"reg": float("nan"), "solver": "sinkhorn"},
        {"ridge": 0.0},
        {"ridge": float("inf")},
        {"weights": (1.0, -1.0)},
        {"weights": (1.0, float("inf"))},
        {"seed": -1},
        {"nothing": 1},
    ],
)
def test_values_out_of_range_are_refused(chosen: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(chosen)


@pytest.mark.parametrize(
    "chosen",
    [
        {"method": "orth", "repair": True},
        {"method": "vanilla", "repair": True},
        {"anchor": "mean", "method": "regress"},
        {"size": "small"},
        {"solver": "sinkhorn", "reg": 0.01},
        {"method": "ot", "reg": 0.01},
    ],
)
def test_what_goes_together_is_taken(chosen: dict[str, object]) -> None:
    settings = Settings.model_validate(chosen)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("method", "stat", "repair", "compared", "needs_images"),
    [
        ("vanilla", None, False, "weights", False),
        ("vanilla", None, True, "weights", True),
        ("perm", None, False, "weights", False),
        ("orth", "activations", False, "activations", True),
        ("orth", None, True, "weights", True),
        ("regress", None, False, "weights", True),
        ("ot", None, False, "activations", True),
        ("ot", "weights", False, "weights", False),
    ],
)
def test_what_is_compared_and_what_needs_images(
    method: Method, stat: Stat | None, repair: bool, compared: Stat, needs_images: bool
) -> None:
    settings = Settings(method=method, stat=stat, repair=repair)
    assert settings.compared == compared
    assert settings.needs_images == needs_images
