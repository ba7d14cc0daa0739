"""The options of a recipe on the command line: where they go, what is said of them, and what may not change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wb.cli.main import app
from wb.compress.binarize.begin import configured as binarizing
from wb.compress.prune.config import configured as pruning
from wb.core.errors import BadOption
from wb.models.model import load
from wb.search.beginning.options import configured, resumed
from wb.training.recipes.recipe import RecipeOptions

OLD = Path(__file__).parent.parent / "old" / "0.1"
ASKED = {"flip": True, "erase": 0.2, "recipe": "light"}


def wb(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_recipe_is_asked_of_every_training() -> None:
    expected = RecipeOptions(flip=True, erase=0.2, recipe="light")
    for config in (configured(ASKED), pruning("nvit", ASKED), pruning("depth", ASKED), binarizing(ASKED)):
        assert config.training == expected


@pytest.mark.parametrize("options", [{"erase": 2.0}, {"recipe": "heavy"}, {"smoothing": 1.0}])
def test_a_value_that_does_not_fit_is_named_as_its_option(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(BadOption, match=rf"wrong option: {name}: "):
        configured(options)


def test_a_resumed_search_keeps_its_recipe() -> None:
    assert resumed(OLD / "run", {}, None).training == RecipeOptions()
    with pytest.raises(BadOption, match="--flip, --weight-decay cannot change when a run is resumed"):
        resumed(OLD / "run", {"flip": True, "weight_decay": 0.5, "trials": 5}, None)


def test_the_plan_says_the_recipe() -> None:
    options = ("--data", "digits", "--limit", 60, "--epochs", 4, "--erase", 0.25)
    plan = json.loads(wb("train", "-o", "t.pt", *options, "--dry-run", "--json").stdout)
    (said,) = [stage["what"] for stage in plan["stages"] if stage["name"] == "training"]
    assert "recipe plain (for 20" in said
    assert "60 grey images of 8x8, 4 epochs): small shifts, no flips, 25% erased" in said


def test_a_teacher_and_a_recipe_are_written_down(tmp_path: Path) -> None:
    options = ("--data", "digits", "--limit", 60, "--epochs", 1)
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    assert wb("train", "-o", first, *options).exit_code == 0
    assert wb("train", "-o", second, *options, "--teacher", first, "--cutmix", 0.5, "--ema").exit_code == 0
    alone, taught = load(first), load(second)
    assert (taught.history[0].arguments["cutmix"], taught.history[0].arguments["average"]) == (0.5, True)
    assert "cutmix" not in alone.history[0].arguments
    assert alone.fingerprint() != taught.fingerprint()
    refused = wb("train", "-o", tmp_path / "c.pt", *options, "--teacher", OLD / "binarize.json")
    assert refused.exit_code == 1
    assert "binarize.json" in refused.output
