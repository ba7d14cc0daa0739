"""Options that are derived from a configuration: each of its fields is reachable, and nothing is given that was not typed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from wb.cli.analyzing import attention as analyze_attention
from wb.cli.analyzing import depth as analyze_depth
from wb.cli.converting import convert, exits
from wb.cli.frame.options import After, Command, Offer, options
from wb.cli.looking import measure
from wb.cli.making import binarize, fuse, quantize, train
from wb.cli.pruning import depgraph, depth, nvit
from wb.cli.searching import search
from wb.cli.sweeping import aspect
from wb.compress.prune.config import PruneConfig, configured
from wb.core.commands.option import Cli, flat, option_of, structured
from wb.core.records import Classify
from wb.data import load
from wb.jobs.frame.config import TrainConfig
from wb.search.beginning.config import QUALITY
from wb.tasks.known import TASKS
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import Recipe

QUANTIZE = quantize._offer()
OFFERS = {
    "search": search._offer(),
    "train": train._offer(),
    "measure": measure._offer(),
    "prune nvit": nvit._offer(),
    "prune depth": depth._offer(),
    "prune depgraph": depgraph._offer(),
    "quantize": QUANTIZE._replace(without=(*QUANTIZE.without, "background")),  # an option of all commands
    "binarize": binarize._offer(),
    "convert": convert._offer(),
    "exits": exits._offer(),
    "fuse": fuse._offer(),
    "analyze depth": analyze_depth._offer(),
    "analyze attention": analyze_attention._offer(),
    "sweep aspect": aspect._offer(),
}
# What is typed and what comes of it, where that is not any text or number.
TYPED: Mapping[str, tuple[str, Any]] = {
    "changes": ("embed=16,32", {"embed": "16,32"}),
    "keep": ("mlp,qk", ("mlp", "qk")),
    "snapshots": ("0.75x,0.5x", (0.75, 0.5)),
    "anchor": ("2", 2),
    "weights": ("0.3,0.7", (0.3, 0.7)),
    "depths": ("4,2", ("4", "2")),
    "lengths": ("8,16", ("8", "16")),
}


def parsed(offer: Offer, *words: str) -> tuple[dict[str, Any], typer.core.TyperCommand]:
    """What a command with the options of `offer` is given for `words`."""
    found: dict[str, Any] = {}

    @options(lambda: offer)
    def command(given: dict[str, Any]) -> None:
        found.update(given)

    app = typer.Typer(add_completion=False)
    app.command(cls=Command)(command)
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    made = typer.main.get_command(app)
    assert isinstance(made, typer.core.TyperCommand)
    return found, made


def fields() -> Iterator[tuple[str, str, type[BaseModel], str]]:
    """Command, path, owner and name of every field that is offered."""
    for name, offer in OFFERS.items():
        for path, owner, field in flat(offer.config):
            if path not in offer.without:
                yield name, path, owner, field


@functools.cache
def parameters(name: str) -> dict[str, Any]:
    """The options of a command by the names of their fields."""
    needed = ("--budget", "x") if name == "prune depgraph" else ()
    return {str(parameter.name): parameter for parameter in parsed(OFFERS[name], *needed)[1].params}


@pytest.mark.parametrize(("name", "path", "owner", "field"), list(fields()), ids=lambda value: str(value))
def test_every_field_is_reachable(name: str, path: str, owner: type[BaseModel], field: str) -> None:
    parameter = parameters(name)[field]
    opposite = parameter.secondary_opts or parameter.opts
    expected: Any
    needed = ("--budget", "x") if name == "prune depgraph" and field != "budget" else ()
    if parameter.is_flag:
        words, expected = [opposite[0]], not (parameter.default or parameter.default is None)
    elif field in TYPED and (not parameter.multiple or field == "changes") and path != "weights" and name != "binarize":
        words, expected = [parameter.opts[0], TYPED[field][0]], TYPED[field][1]
    else:
        words, expected = [parameter.opts[0], "3"], "3"
    given, _ = parsed(OFFERS[name], *words, *needed)
    assert parameter.opts[0] == option_of(owner, field)
    assert given.keys() == {field, *OFFERS[name].defaults, *(["budget"] if needed else [])}, "and nothing else is given"
    got = given[field]
    assert got == expected or str(got[0] if isinstance(got, list) else got).removesuffix(".0") == str(expected)


@pytest.mark.parametrize("name", OFFERS)
def test_what_is_not_typed_is_not_given(name: str) -> None:
    if name != "prune depgraph":  # which needs a budget
        assert parsed(OFFERS[name])[0] == OFFERS[name].defaults


class Inner(BaseModel):
    """A configuration in a configuration."""

    often: Annotated[int, Field(gt=0, lt=9, description="How often.")] = 2
    rate: Annotated[float, Field(gt=0, description="How fast.")] = 0.5
    seed: Annotated[Annotated[int, Field(ge=1, description="Any.")] | None, Cli(default="chance")] = None


class Outer(BaseModel):
    """One that has each kind of field."""

    seed: Annotated[int, Field(ge=0, description="Any.")] = 0
    inner: Inner = Field(default_factory=Inner)
    colour: Annotated[Literal["red", "green", "blue"], Field(description="Of the page.")] = "red"
    fast: Annotated[bool, Field(description="Faster.")] = True
    names: Annotated[tuple[str, ...], Field(description="A name."), Cli("--called", typed=list[str])] = ()


def test_an_option_says_what_its_field_says() -> None:
    _, command = parsed(Offer(Outer))
    found: dict[str, Any] = {str(parameter.name): parameter for parameter in command.params}
    assert list(found) == ["often", "rate", "colour", "fast", "names", "seed"], "what all commands have is last"
    assert (found["often"].help, found["often"].default) == ("How often (more than 0, less than 9).", 2)
    assert (found["rate"].help, found["rate"].default) == ("How fast (more than 0).", 0.5)
    assert found["seed"].help == "Any (0 or more).", "the first of that name"
    assert found["colour"].help == "Of the page: red, green or blue."
    assert (found["fast"].opts, found["fast"].secondary_opts) == (["--fast"], ["--no-fast"])
    assert found["names"].opts == ["--called"]
    assert found["names"].multiple


def test_values_go_where_there_is_a_field_of_their_name() -> None:
    given = {"seed": 3, "often": 4, "unknown": 5}
    assert structured(Outer, given) == {"seed": 3, "inner": {"seed": 3, "often": 4}, "unknown": 5}
    assert structured(Outer, given, without=("inner.seed",)) == {"seed": 3, "inner": {"often": 4}, "unknown": 5}
    assert structured(Outer, {"seed": 3}, without=("seed", "inner.seed")) == {"seed": 3}, "for the validation to refuse"


def test_own_options_stand_where_they_say_and_replace_a_field() -> None:
    seen: dict[str, Any] = {}

    @options(lambda: Offer(Outer, without=("inner.seed",), defaults={"often": 7}))
    def command(
        given: dict[str, Any],
        file: Annotated[Path | None, typer.Argument()] = None,
        *,
        more: Annotated[bool, typer.Option("--more"), After("nothing", "colour")] = False,
        seed: Annotated[str, typer.Option()] = "none",
    ) -> None:
        seen.update(given, own=(file, more, seed))

    app = typer.Typer(add_completion=False)
    app.command(cls=Command)(command)
    assert CliRunner().invoke(app, ["a", "--more", "--rate", "0.25"]).exit_code == 0
    assert seen == {"often": 7, "rate": 0.25, "own": (Path("a"), True, "none")}
    names = [parameter.name for parameter in typer.main.get_command(app).params]
    assert names == ["file", "often", "rate", "colour", "more", "fast", "names", "seed"]


def test_what_depth_has_not_stays_the_default() -> None:
    config = configured("depth", {"learning_rate": 0.5, "seed": 3, "calibration": 9})
    assert (config.learning_rate, config.settings.learning_rate) == (0.5, 1e-3)
    assert (config.settings.seed, config.settings.calibration, config.settings.rounds) == (3, 9, 1)
    assert (config.settings.rotate, config.settings.compensate) == (False, True), "which it does not, and does"
    nvit = configured("nvit", {"method": "taylor", "learning_rate": 0.5})
    assert (nvit.method, nvit.settings.method, nvit.settings.recovery) == ("nvit", "taylor", 20)
    assert nvit.settings.learning_rate == nvit.learning_rate == 0.5
    assert PruneConfig().settings.recovery == 0, "of the pass, which the command changes"


def test_a_training_is_by_default_what_the_recipe_is() -> None:
    config = TrainConfig()
    data = load("digits")
    found = recipe_for(
        config.training, 5e4, data, config.passes(data), learning_rate=config.learning_rate, batch=config.batch
    )
    assert found.model_copy(update={"why": ""}) == Recipe()


def test_a_search_aims_at_the_quality_of_what_its_spaces_hold() -> None:
    assert TASKS[Classify.task].metric == QUALITY
