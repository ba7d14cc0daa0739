"""A whole job on the stripes, without a clock: what it leaves, what it says, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.catalogue import CATALOGUE
from tests.jobs.suite import Begin, JobSuite, silent
from tests.networks import random_model
from wb.compress.exits import gates, heads
from wb.compress.exits.begin import begin
from wb.compress.exits.config import ExitsConfig, configured
from wb.compress.exits.heads import with_heads
from wb.compress.exits.record import EarlyExits
from wb.compress.exits.report import remarks, result, table
from wb.core.errors import BadOption, Unsupported
from wb.core.measures.readings import Reading
from wb.core.records import Softmax
from wb.data import Dataset
from wb.export.exits.stream import Mean
from wb.export.timing.measure import Latency
from wb.models.exits.files import load_exiting
from wb.models.exits.record import Exits
from wb.models.model import Model
from wb.tasks.known import task_of

CONFIG = ExitsConfig(data="stripes", epochs=1)


def reading(ms: float, unit: str = "ms") -> Reading:
    """A latency that nobody measured."""
    return Reading(value=ms, unit=unit, how="measured", interval=(0.99 * ms, 1.01 * ms))


@pytest.fixture(autouse=True)
def clockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way out takes as many ms as there are before it, and one; gates are few and trained briefly."""

    def ways(_: Path, record: Exits, __: object, beside: Mapping[str, Path], **___: object) -> dict[str, Latency]:
        names = (*record.names, *beside)
        times = {name: reading(1.0 + k) for k, name in enumerate(names)}
        return {name: Latency(one, one, 1, 0, one.value) for name, one in times.items()}

    def stream(graphs: Mapping[str, Path], *_: object, **__: object) -> dict[str, Mean]:
        return {name: Mean(reading(2.0), reading(0.7, "x")) for name in graphs}

    monkeypatch.setattr("wb.compress.exits.readings.time_ways", ways)
    monkeypatch.setattr("wb.compress.exits.readings.stream_latency", stream)
    for module, name, value in ((gates, "FOLDS", 2), (heads, "STEPS", 4)):
        monkeypatch.setattr(module, name, value)
    for place in ("gates", "config"):
        monkeypatch.setattr(f"wb.compress.exits.{place}.LADDER", (0.0, 0.2))


@pytest.mark.usefixtures("unpaged")
def test_exits_leave_what_they_say_and_another_beta_trains_the_gates_alone(
    striped: Model, stripes: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "e.safetensors"
    record = begin(ExitsConfig(data="stripes"), striped, "m", stripes, out, silent, force=False)()
    model = load_exiting(out)
    assert all(torch.equal(model.trunk.weights[name], weight) for name, weight in striped.weights.items()), "as it was"
    assert [step.name for step in model.trunk.history] == ["train", "exits"]
    assert model.record.after == record.after == ("s0.b0",)
    assert [way.latency.value for way in record.ways] == [1.0, 2.0]
    never, chosen = record.rungs[0], record.chosen
    assert never.leaving == (0.0, 1.0)
    assert never.test == record.without["test"]
    assert chosen.validation.value >= getattr(record.whole, "value", 1.0)
    assert chosen.expected is not None
    assert chosen.expected.value == pytest.approx(chosen.leaving[0] + 2 * chosen.leaving[1])
    assert "of the mean latency" in result(record)
    assert any("0.75 is reached" in remark.text for remark in remarks(record))
    assert "leaving always: s0.b0: 1 ms" in str(table(record))
    slow = tuple(rung.model_copy(update={"ratio": reading(0.9, "x")}) for rung in record.rungs)
    hints = ["--epochs" in str(remarks(one)) for one in (record, record.model_copy(update={"rungs": slow}))]
    assert hints == [False, True], "where too little is saved"
    again = begin(
        ExitsConfig(data="stripes", beta=0.0), model, "e", stripes, tmp_path / "f.safetensors", silent, force=False
    )()
    other = load_exiting(tmp_path / "f.safetensors")
    assert (again.given, other.record.beta) == (True, 0.0)
    changed = [name for name, weight in other.weights.items() if not torch.equal(weight, model.weights[name])]
    assert all(".gate" in name for name in changed)
    images = torch.from_numpy(stripes.test.inputs(slice(0, 60)))
    with torch.no_grad():
        assert torch.equal(other.network()(images), striped.network()(images)), "with beta 0 nothing leaves"


def test_heads_know_more_than_nothing_and_training_lowers_the_loss(striped: Model, stripes: Dataset) -> None:
    model = with_heads(striped, Exits(after=("s0.b0",)), stripes)
    network = model.network()
    images, labels = (
        torch.from_numpy(stripes.validation.inputs(slice(0, 60))),
        torch.from_numpy(stripes.validation.labels),
    )
    with torch.no_grad():
        answers = network.everything(images)
    assert float((answers[0].argmax(1) == labels).float().mean()) > 0.6, "three classes"
    assert task_of(model.architecture).loss(answers[0], labels).item() < 1.0


@pytest.mark.parametrize(
    ("given", "exiting", "words"),
    [
        ({"after": ("s0.b0",)}, True, "--after is for a model without exits"),
        ({"epochs": 2}, True, "--epochs is for a model without exits"),
        ({"learning_rate": 0.1}, False, "--learning-rate is of tuning the trunk with its exits; add --epochs"),
        ({"augment": "crop"}, False, "--augment is of tuning the trunk with its exits; add --epochs"),
        ({"merge_dropout": 0.1}, False, "--merge-dropout is of tuning"),
        ({"beta": -1.0}, False, "wrong option: beta"),
    ],
)
def test_options_that_do_nothing_or_do_not_fit_are_refused(given: dict[str, Any], exiting: bool, words: str) -> None:
    with pytest.raises(BadOption, match=words):
        configured(given, exiting=exiting)


def test_a_network_of_one_block_has_no_place_for_exits(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    stage = striped.architecture.stages[0]
    assert isinstance(stage.blocks[0].mixer, Softmax)
    short = stage.model_copy(update={"blocks": stage.blocks[:1]})
    architecture = striped.architecture.model_copy(update={"stages": (short,)})
    weights = {name: weight for name, weight in striped.weights.items() if not name.startswith("stages.0.1.")}
    model = replace(striped, architecture=architecture, weights=weights)
    with pytest.raises(BadOption, match="a single block"):
        begin(CONFIG, model, "m", stripes, tmp_path / "e.safetensors", silent, force=False)


def test_a_network_of_texts_is_refused_before_anything_is_fitted(stripes: Dataset, tmp_path: Path) -> None:
    model = random_model(CATALOGUE["text-softmax"])
    with pytest.raises(Unsupported, match="this one takes texts"):
        begin(CONFIG, model, "m", stripes, tmp_path / "e.safetensors", silent, force=False)


class TestJob(JobSuite):
    """What all jobs owe."""

    ending = ".safetensors"
    results = (".onnx", ".safetensors")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset) -> Begin:
        """Exits of a trunk that is tuned with them."""

        def begun(out: Path, progress: Any, *, other: bool = False, force: bool = False) -> Any:
            config = CONFIG.model_copy(update={"seed": 1}) if other else CONFIG
            return begin(config, striped, "m", stripes, out, progress, force=force)

        return begun

    def test_its_record_is_one_of_early_exits(self) -> None:
        assert EarlyExits.called() == "early exits"
