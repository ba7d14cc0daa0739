"""Networks as path ensembles: the same function until paths are cut, and those are cut that validation is better without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.jobs.suite import silent
from wb.compress.convert.begin import begin
from wb.compress.convert.config import ConvertConfig, configured
from wb.compress.convert.paths import PathEnsemble, ensembled, with_cuts
from wb.core.errors import BadOption
from wb.core.records.wirings import Ensemble, Parallel
from wb.data import Dataset
from wb.models.model import Model, load
from wb.tasks.known import task_of
from wb.training.fit import Recipe
from wb.training.recipes.paths import answering
from wb.training.train import Finetune


def loss(model: Model, data: Dataset) -> float:
    images = torch.from_numpy(data.validation.inputs(slice(0, len(data.validation))))
    labels = torch.from_numpy(data.validation.labels)
    with torch.no_grad():
        return task_of(model.architecture).loss(model.network()(images), labels).item()


def test_as_many_paths_are_cut_as_validation_is_best_without(striped: Model, stripes: Dataset) -> None:
    seen: list[int] = []
    found = PathEnsemble(stripes, seen.append)(striped)
    assert seen == [0]
    whole = with_cuts(striped, ensembled(striped.architecture), {})
    torch.testing.assert_close(loss(whole, stripes), loss(striped, stripes))
    (wiring,) = (stage.wiring for stage in found.architecture.stages)
    assert isinstance(wiring, Ensemble)
    paths = whole.architecture.stages[0].paths
    losses = {cut: loss(with_cuts(whole, whole.architecture, {0: cut}), stripes) for cut in paths}
    assert losses[wiring.cut] == min(losses.values())
    assert found.history[-1].arguments["cut"] == {"s0": wiring.cut}


def test_a_network_that_is_wired_otherwise_is_refused(striped: Model, stripes: Dataset) -> None:
    stage = striped.architecture.stages[0].model_copy(update={"wiring": Parallel()})
    other = replace(striped, architecture=striped.architecture.model_copy(update={"stages": (stage,)}))
    with pytest.raises(BadOption, match="made of pre-norm stages with blocks, and this network has parallel"):
        PathEnsemble(stripes)(other)


def test_the_first_paths_learn_from_the_answer(striped: Model, stripes: Dataset) -> None:
    """With self-distillation their answers are nearer to it after as many steps."""
    begun = with_cuts(striped, ensembled(striped.architecture), {})
    images = torch.from_numpy(stripes.validation.inputs(slice(0, 60)))

    def missed(paths: float) -> float:
        recipe = Recipe(epochs=12, learning_rate=1e-2, augment="none", paths=paths)
        network = Finetune(stripes, recipe)(begun).network()
        with torch.no_grad(), answering(network) as early:
            answer = network(images)
            return float(sum((one.softmax(1) - answer.softmax(1)).abs().mean().item() for one in early()))

    assert missed(1.0) < 0.9 * missed(0.0)


@pytest.mark.usefixtures("unpaged")
def test_the_command_cuts_and_tunes(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    config = ConvertConfig(data="stripes", wiring="ensemble", finetune=1)
    out = tmp_path / "c.safetensors"
    record = begin(config, striped, "m", stripes, out, silent, force=False)()
    model = load(out)
    assert [step.name for step in model.history] == ["train", "paths", "finetune"]
    assert model.history[-1].arguments["paths"] == 0.2
    assert model.architecture.stages[0].wiring.kind == "path_ensemble"
    assert record.stages[0].after["acc"].value >= record.original["acc"].value - 0.05


def test_self_distillation_without_ensembles_is_refused() -> None:
    with pytest.raises(BadOption, match="--self-distil is of fine-tuning path ensembles; add --wiring"):
        configured({"mixer": "pool", "self_distil": 0.5})


def test_two_ways_of_learning_from_its_own_answers_are_refused() -> None:
    with pytest.raises(BadOption, match="leave --rdrop out, or say --self-distil 0"):
        configured({"wiring": "ensemble", "rdrop": 2.0})
    assert configured({"wiring": "ensemble", "rdrop": 2.0, "self_distil": 0.0}).training.rdrop == 2
