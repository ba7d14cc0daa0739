"""What is said of a fused model: worse, no better, better, against what, and by how much."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem
from wb.core.statistics.paired import Paired
from wb.core.statistics.verdict import Remark
from wb.fusion.job.record import Fusion, ParentRow
from wb.fusion.job.verdict import remarks

WORSE, LESS, LITTLE, BETTER = (Paired(won=won, lost=lost, n=359) for won, lost in ((4, 25), (8, 13), (12, 10), (25, 4)))
Made = Callable[..., Fusion]


@pytest.fixture
def record() -> Made:
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    a = assembled(
        input=image, stem=PatchStem(patch=2), stages=(Stage(embed=6, blocks=(Block(ffn=Mlp(mlp=3)),)),), classes=3
    )

    def made(*parents: Paired | None, **given: Paired) -> Fusion:
        rows = tuple(
            ParentRow(name=f"runs/{'ab'[i]}.pt", key="0", architecture=a, paired=p) for i, p in enumerate(parents)
        )
        return Fusion.model_validate(
            {
                "created": "",
                "version": "",
                "machine": {},
                "versions": {},
                "config": {},
                "parents": rows,
                "anchor": 0,
                **given,
            }
        )

    return made


def test_a_model_that_is_worse_than_a_parent_is_called_so(record: Made) -> None:
    first, second = remarks(record(WORSE, LESS))
    assert first == Remark(
        "The fused model is worse than a.pt: -5.8 points, 95 % interval -8.8 to -2.9; "
        "4 of 359 images are right only here, 25 only there.",
        True,
    )
    assert second.text.startswith("The fused model is no better than b.pt, as far as one can tell: -1.4 points")
    assert not second.warn, "that may be chance"


def test_what_is_better_and_what_cannot_be_told(record: Made) -> None:
    first, second = remarks(record(BETTER, LITTLE))
    assert first.text.startswith("The fused model is better than a.pt: +5.8 points, 95 % interval +2.9 to +8.8")
    assert second.text.startswith("The fused model is no better than b.pt, as far as one can tell: +0.6 points")
    assert not first.warn
    assert not second.warn


def test_one_model_in_another_size_is_not_called_fused(record: Made) -> None:
    (only,) = remarks(record(WORSE))
    assert only.text.startswith("The new model is worse than a.pt: ")


def test_the_ensemble_is_no_warning(record: Made) -> None:
    """It costs as much as all parents together."""
    found = remarks(record(LITTLE, LITTLE, against_ensemble=WORSE))[-1]
    assert found.text.startswith("The fused model is worse than the ensemble of the parents: -5.8 points")
    assert not found.warn


@pytest.mark.parametrize(
    ("paired", "words", "warn"),
    [
        (WORSE, "It is worse after fine-tuning than before: -5.8 points", True),
        (LESS, "It is no better after fine-tuning than before, as far as one can tell: -1.4 points", False),
        (LITTLE, "It is no better after fine-tuning than before, as far as one can tell: +0.6 points", False),
        (BETTER, "It is better after fine-tuning than before: +5.8 points", False),
    ],
)
def test_fine_tuning_that_did_not_help_is_called_so(record: Made, paired: Paired, words: str, warn: bool) -> None:
    found = remarks(record(LITTLE, LITTLE, against_untuned=paired))[-1]
    assert found.text.startswith(words)
    assert found.warn == warn


def test_records_of_before_say_nothing(record: Made) -> None:
    assert remarks(record(None, None)) == []
