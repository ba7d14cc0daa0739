"""Networks of another task: records, pages and tables say its metric wherever they say accuracy of classifiers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from wb.cli.searching.tables import front_table
from wb.compress.binarize.record import Binarization
from wb.compress.prune.record import Pruning
from wb.compress.quantize.record import Quantization
from wb.core.errors import BadArtefact
from wb.core.measures.metrics import METRICS, Metric
from wb.fusion.job.record import Fusion
from wb.jobs.frame.record import JobRecord
from wb.search.results.point import FrontPoint

OLD = Path(__file__).parents[1] / "old" / "0.1"
RECORDS: dict[str, tuple[type[JobRecord[Any]], str]] = {
    "prune": (Pruning, "wb.compress.prune.report"),
    "binarize": (Binarization, "wb.compress.binarize.report"),
    "quantize": (Quantization, "wb.compress.quantize.report"),
    "fuse": (Fusion, "wb.fusion.job.report"),
}


@pytest.fixture
def recall(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """A second metric of quality."""
    metric = Metric("recall", "maximize", "fraction", "mean recall", {"": 1.0}, quality=True, best=1.0)
    monkeypatch.setitem(cast(dict[str, Metric], METRICS), metric.name, metric)
    monkeypatch.setattr("wb.jobs.frame.record.QUALITIES", ("acc", metric.name))
    return metric


def renamed(value: Any, metric: Metric) -> Any:
    """JSON whose readings of accuracy are those of `metric`."""
    if isinstance(value, dict):
        return {metric.name if key == "acc" else key: renamed(found, metric) for key, found in value.items()}
    return [renamed(each, metric) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", RECORDS)
def test_pages_and_tables_say_the_metric_of_the_record(name: str, recall: Metric, tmp_path: Path) -> None:
    kind, report = RECORDS[name]
    content = json.loads((OLD / f"{name}.json").read_text())
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({**renamed(content, recall), "quality": recall.name}))
    record = kind.read(path)
    assert record.metric is recall
    module = importlib.import_module(report)
    page, text = module.page(record, tmp_path, tmp_path), module.table(record).text()
    own = module.page(kind.read(OLD / f"{name}.json"), tmp_path, tmp_path)
    assert "test accuracy" in own
    for sentence in ("The test split was read once", "No data were given"):
        assert (sentence in page) == (sentence in own)
    assert "test mean recall" in page
    assert "accuracy" not in text
    for word in ("test accuracy", "validation accuracy", ">accuracy<"):
        assert word not in page
    assert kind.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_without_the_field_is_of_accuracy_and_is_written_without_it(name: str) -> None:
    record = RECORDS[name][0].read(OLD / f"{name}.json")
    assert record.metric is METRICS["acc"]
    assert "quality" not in record.model_dump(mode="json")


@pytest.mark.parametrize("name", ["latency", "no metric"])
def test_what_is_no_metric_of_quality_is_refused(name: str, tmp_path: Path) -> None:
    content = json.loads((OLD / "prune.json").read_text())
    (tmp_path / "prune.json").write_text(json.dumps({**content, "quality": name}))
    with pytest.raises(BadArtefact, match=f"{name}' is no metric of quality; there are acc"):
        Pruning.read(tmp_path / "prune.json")


def test_a_front_shows_the_metric_of_its_networks(recall: Metric) -> None:
    content = json.loads((OLD / "run" / "front.json").read_text())
    own = [FrontPoint.model_validate(point) for point in content]
    others = [FrontPoint.model_validate({**renamed(point, recall), "quality": recall.name}) for point in content]
    assert [point.validation for point in others] == [point.values["acc"] for point in own]
    tables = []
    for points in (own, others):
        console = Console(width=200, record=True)
        with console.capture() as captured:
            console.print(front_table(points, energy=False))
        tables.append(captured.get())
    assert tables[0] == tables[1]
    with pytest.raises(ValueError, match="no reading of acc"):
        FrontPoint.model_validate(renamed(content[0], recall))
