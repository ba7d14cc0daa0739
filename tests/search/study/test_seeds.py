from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.networks import wired
from wb.core.architecture import Architecture, resize
from wb.core.errors import BadOption, NotInSpace
from wb.core.measures.metrics import METRICS, parse_budget
from wb.core.measures.readings import Reading
from wb.core.records import Classify, ImageInput
from wb.core.space import random_choices
from wb.models.counting import count_macs, count_parameters
from wb.search.beginning.config import SearchConfig
from wb.search.crew.crew import Crew
from wb.search.evaluate import Evaluation
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.seeds import enqueue, regular_choices, seed_choices
from wb.search.study.study import create_study, load_study
from wb.search.study.trials import choices_of, evaluated
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import PLAIN, TINY
from wb.spaces.columnar.space import Vit
from wb.spaces.hybrid.presets import PRESETS
from wb.spaces.hybrid.space import Hybrid

METRICS2 = (METRICS["acc"], METRICS["params"])
SAMPLERS = ["guided", "nsga2", "tpe", "random"]


@pytest.fixture
def space(image: ImageInput) -> Vit:
    return Vit(options_with(TINY, {"embed": [8, 16], "depth": [1, 2], "mixer": ["none", "pool", "softmax"]}), image, 3)


@pytest.fixture
def plain(image: ImageInput) -> Vit:
    return Vit(PLAIN, image, 3, ("a", "b", "c"), "plain")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db"


def evaluate(architecture: Architecture) -> Evaluation:
    params = count_parameters(architecture).value
    readings = {
        "acc": Reading(value=1 - 100 / params, unit="fraction", how="measured"),
        "params": Reading(value=params, unit="parameters", how="counted"),
    }
    return Evaluation(readings, {"score": 0.0})


def run(url: str, space: Vit, sampler: str, trials: int, seeds: list[Architecture]) -> optuna.Study:
    """As the pipeline does it, when a run begins and when it is resumed."""
    study, crew = load_study(url, "s"), Crew(Path(url.removeprefix("sqlite:///")).parent)
    study.sampler = make_sampler(sampler, space, (), 0, crew.name)  # type: ignore[arg-type]
    enqueue(study, space, {seed.key: choices for seed, choices in zip(seeds, seed_choices(space, seeds), strict=True)})
    Optimization(study, space, METRICS2, (), evaluate, trials, lambda done, trial: None, crew)()
    return study


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_come_first_once_and_in_their_order(space: Vit, url: str, sampler: str) -> None:
    rng = random.Random(0)
    seeds = [space.decode(random_choices(space, rng)) for _ in range(3)]
    create_study(url, "s", METRICS2)
    run(url, space, sampler, 4, [*seeds, seeds[0]])
    study = run(url, space, sampler, 9, seeds)
    found = [space.decode(choices_of(space, trial)) for trial in evaluated(study)]
    assert found[:3] == seeds
    assert len(set(found)) == len(found) == 9
    named = [trial.user_attrs["seed_architecture"] for trial in study.trials if "seed_architecture" in trial.user_attrs]
    assert named == [seed.key for seed in seeds]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_whose_worker_was_killed_is_evaluated_by_the_next(space: Vit, url: str, sampler: str) -> None:
    seeds = [space.largest(), space.smallest()]
    study = create_study(url, "s", METRICS2)
    enqueue(study, space, dict(zip(("a", "b"), seed_choices(space, seeds), strict=True)))
    with pytest.warns(UserWarning, match="Heartbeat"):
        study.ask()  # and nothing more is heard of it
    again = run(url, space, sampler, 6, seeds)
    found = [space.decode(choices_of(space, trial)) for trial in evaluated(again)]
    assert set(found[:2]) == set(seeds)
    assert len(set(found)) == 6
    assert [trial.state for trial in again.trials if trial.state == TrialState.WAITING] == []


def test_names_and_architectures(space: Vit) -> None:
    found = seed_choices(space, ["largest", "smallest", space.largest()])
    assert [space.decode(choices) for choices in found] == [space.largest(), space.smallest(), space.largest()]
    with pytest.raises(BadOption, match="preset 'custom' has no seed architecture 'revit'"):
        seed_choices(space, ["revit"])


def test_only_the_structure_counts(plain: Vit) -> None:
    """A pruned file has labels and statistics of its own, and scales that keep its weights' function."""
    seed = plain.largest("softmax")
    blocks = tuple(
        block.model_copy(update={"mixer": block.mixer.model_copy(update={"scale": 0.3})})
        for block in seed.stages[0].blocks
        if block.mixer is not None
    )
    image = plain.image.model_copy(update={"mean": (0.1,), "std": (0.9,)})
    stages = (seed.stages[0].model_copy(update={"blocks": blocks}),)
    given = seed.with_labels(()).model_copy(update={"input": image, "stages": stages})
    assert plain.decode(*seed_choices(plain, [given])) == seed


def test_blocks_that_are_off_may_be_added_or_left_out(image: ImageInput) -> None:
    seed = Vit(options_with(PLAIN, {"depth": [3]}), image, 3).largest("softmax")
    deeper = Vit(options_with(PLAIN, {"depth": [2, 5]}), image, 3)
    found = deeper.decode(*seed_choices(deeper, [seed]))
    assert len(found.stages[0].blocks) == 5
    assert found.compact() == seed
    flat = Vit(options_with(PLAIN, {"depth": [3], "mixer": ["softmax"], "mlp": [4]}), image, 3)
    assert flat.decode(*seed_choices(flat, [found])) == seed


def test_what_does_not_fit_is_named_with_how_to_widen_the_space(plain: Vit) -> None:
    pruned = resize(plain.largest("softmax"), {"s0.embed": 48, "s0.b1.qk": 7, "s0.b2.mlp": 101, "s0.b4.mlp": 17})
    with pytest.raises(NotInSpace) as caught:
        seed_choices(plain, [pruned])
    text = str(caught.value)
    assert f"the seed architecture {pruned.key} does not fit: b0.mlp=5.33" in text
    assert "(0.0, 0.5, 1.0, 2.0, 3.0, 4.0)" in text
    changes = dict(part.split("=") for part in text.partition("with --set ")[2].split(" --set "))
    assert set(changes) == {"qk", "mlp"}
    wide = Vit(
        options_with(plain.options, {name: value.split(",") for name, value in changes.items()}),
        plain.image,
        3,
        plain.labels,
    )
    assert wide.decode(*seed_choices(wide, [pruned])) == pruned


def test_patch_and_pooling_are_suggested_as_well(plain: Vit) -> None:
    other = Vit(options_with(PLAIN, {"pool": "mean", "patch": 4}), plain.image, 3).largest()
    with pytest.raises(NotInSpace, match=r"widen the space with --set patch=4 --set pool=mean$"):
        seed_choices(plain, [other])


def test_a_post_norm_seed_is_refused(plain: Vit) -> None:
    """Whatever its widths are, no option of the space would help."""
    for sizes in ({}, {"s0.embed": 9}):
        seed = wired(resize(plain.largest("softmax"), sizes), "post")
        with pytest.raises(NotInSpace, match=r"does not fit: .* is post-norm, but .*; choose another$"):
            seed_choices(plain, [seed])


def test_another_task_is_refused(plain: Vit) -> None:
    seed = plain.largest()
    wide = plain.image.model_copy(update={"width": 16})
    for changes, words in (
        ({"input": wide}, "images of 1x8x16 and 3 classes, but the data have images of 1x8x8 and 3 classes"),
        ({"head": Classify(classes=5)}, "and 5 classes, but the data have images of 1x8x8 and 3 classes"),
    ):
        with pytest.raises(NotInSpace, match=words):
            seed_choices(plain, [seed.model_copy(update=changes)])


def test_the_configuration_keeps_architectures_and_not_files(plain: Vit) -> None:
    config = SearchConfig(seeds=("largest", plain.smallest()))
    assert SearchConfig.model_validate_json(config.model_dump_json()) == config
    assert config.seed_texts == ("largest", f"architecture {plain.smallest().key}")


def test_a_search_of_photographs_begins_with_regular_networks_within_its_limits(url: str) -> None:
    space = Hybrid(PRESETS["tiny28"], ImageInput(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.2,) * 3), 3)
    every = {name: count_macs(one).value for name, one in space.regular.items()}
    assert list(regular_choices(space, 1000, ())) == list(every)
    assert len(regular_choices(space, 20, ())) == 5
    limit = parse_budget(["macs=3M"])
    found = regular_choices(space, 1000, limit)
    assert set(found) == {name for name, macs in every.items() if macs <= limit[0].value}
    create_study(url, "s", METRICS2)
    study = load_study(url, "s")
    enqueue(study, space, found)
    assert [space.decode(trial.system_attrs["fixed_params"]) for trial in study.trials] == [
        space.regular[name] for name in found
    ]
