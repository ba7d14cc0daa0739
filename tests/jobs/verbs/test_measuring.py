"""Measuring on one device and on several: what each is told of, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hardware.test_tables import written
from tests.networks import random_model
from wb.core.errors import BadOption
from wb.data import Dataset
from wb.export.devices.nnmeter import wanted
from wb.jobs.verbs.measuring import Measured, Measuring
from wb.models.model import Model, save
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

FIELDS = {"embed": [16], "depth": [1], "mixer": ["softmax"], "heads": [2], "qk": [8], "v": [8], "mlp": [2]}


@pytest.fixture
def model(striped: Model) -> Model:
    """A network all of whose blocks a phone has."""
    return random_model(Vit(options_with(TINY, FIELDS), striped.architecture.image, 3).smallest())


def measured(model: Model, folder: Path, **options: Any) -> Measured:
    """The readings of it."""
    path = folder / "a.safetensors"
    save(model, path, force=True)
    how = Measuring.model_validate({"cap": 0.5, **options})
    return how(path, lambda *_: None, lambda _: None)


def test_the_first_device_is_read_whole_and_others_are_set_against_it(model: Model, tmp_path: Path) -> None:
    table = written(tmp_path / "p.json", {key: 2.0 for _, keys in wanted(model.architecture) for key in keys})
    found = measured(model, tmp_path, device=f"cpu,table:{table}").readings
    phone = f"latency@table:{table}"
    assert found[phone].value == 2.0 * len(list(wanted(model.architecture)))
    assert found[f"{phone} / cpu"].how == "predicted"
    assert "nodes on CPUExecutionProvider" in str(found["latency@cpu"].note)
    assert {"size", "macs", "memory"} <= found.keys()
    alone = measured(model, tmp_path, device=f"table:{table}").readings
    assert (alone[phone].how, "memory" in alone) == ("predicted", False)
    with pytest.raises(BadOption, match="says nothing of --sustained"):
        measured(model, tmp_path, device=f"table:{table}", sustained="1s")


def test_each_device_scores_where_it_is_to(stripes: Dataset, striped: Model, tmp_path: Path) -> None:
    split = stripes.test
    parts = {"x_train": split.images, "y_train": split.labels, "x_test": split.images, "y_test": split.labels}
    np.savez(tmp_path / "d.npz", **parts)  # type: ignore[arg-type]  # names, not options
    options = {"data": f"npz:{tmp_path / 'd.npz'}", "score_on": "device", "by_index": True}
    found = measured(striped, tmp_path, device="cpu,local", **options).readings
    scores = {name: one for name, one in found.items() if name.startswith("accuracy")}
    assert [name.rpartition("@")[2] for name in scores] == ["cpu", "local"]
    here, there = scores.values()
    assert here.value == there.value
    assert (str(here.device).startswith("cpu"), str(there.device).endswith("at local")) == (True, True)
    table = written(tmp_path / "p.json", {"transffn_4_16_9_hard_swish_ln": 1.0})
    with pytest.raises(BadOption, match="on which nothing runs; leave --score-on out"):
        measured(striped, tmp_path, device=f"cpu,table:{table}", **options)
    with pytest.raises(BadOption, match="--score-on device is of no use without data"):
        measured(striped, tmp_path, score_on="device")
