"""The record and the report of a binarization: everything is there, and nothing is called better that is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.networks import assembled
from wb.compress.binarize.config import BinarizeConfig
from wb.compress.binarize.job import BinarizeJob
from wb.compress.binarize.lowbits import chosen
from wb.compress.binarize.record import Binarization
from wb.compress.binarize.report import page, remarks, result
from wb.compress.staged import record as staged_record
from wb.compress.staged.figures import accuracy_figure, energy_figure, loss_figure
from wb.compress.staged.record import Epoch
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.readings import Reading
from wb.core.precision import with_precisions
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.export.counting.count import energy_by_part, model_energy
from wb.jobs.frame.page import write_page

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'
COUNT = {"macs": ("MAC", 8000.0), "params": ("parameters", 900.0)}


def measured(value: float, unit: str, spread: float) -> Reading:
    return Reading(value=value, unit=unit, how="measured", interval=(value - spread, value + spread), n=60)


def readings(architecture: Architecture, acc: float, ms: float, size: float) -> dict[str, Reading]:
    counts = {name: Reading(value=value, unit=unit, how="counted") for name, (unit, value) in COUNT.items()}
    return counts | {
        "acc": measured(acc, "fraction", 0.02),
        "latency": measured(ms, "ms", 0.01),
        "size": Reading(value=size, unit="B", how="counted"),
        "energy": model_energy(architecture),
    }


@pytest.fixture(scope="module")
def network(image: ImageInput) -> Architecture:
    block = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=8))
    return assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(block,)),), classes=3)


def record_of(
    network: Architecture, *, test: float = 0.9, ms: float = 0.3, size: float = 3000.0, **changes: Any
) -> Binarization:
    binary = with_precisions(network, dict.fromkeys(chosen(network, "w1"), "w1"))
    stage = staged_record.Stage(
        name="w1",
        architecture=binary,
        energy=energy_by_part(binary),
        before={"acc": measured(0.4, "fraction", 0.05)},
        epochs=(Epoch(number=1, loss=0.9), Epoch(number=2, loss=0.5)),
        after=readings(binary, 0.94, ms, size),
    )
    original = readings(network, 0.96, 0.2, 9000.0)
    fields: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "version": "0",
        "config": BinarizeConfig(),
        "source": "a.pt",
        "model_key": "0",
        "data": {"spec": "digits"},
        "machine": {"device": "cpu"},
        "versions": {},
        "pace": measured(1.0, "ms", 0.1),
        "architecture": network,
        "energy": energy_by_part(network),
        "first": original,
        "original": original,
        "original_test": measured(0.95, "fraction", 0.01),
        "final_test": measured(test, "fraction", 0.01),
        "stages": (stage,),
        "model": "b.pt",
        "graph": "b.onnx",
    }
    return Binarization.model_validate({**fields, **changes})


def text(html: str) -> str:
    without = re.sub(r"(?s)<(script|style).*?</\1>", " ", html)
    return " ".join(re.sub(r"<[^>]+>", " ", without).split())


def test_the_record_comes_back(network: Architecture, tmp_path: Path) -> None:
    record = record_of(network)
    record.write(tmp_path / "a.json")
    assert Binarization.read(tmp_path / "a.json") == record


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"stages": []}, "has stages, a graph"),
        ({"final_test": None}, "readings of the test split"),
        ({"original": {}}, "no reading of acc, latency, size, macs, params, energy"),
    ],
)
def test_what_the_report_needs_has_to_be_there(
    network: Architecture, tmp_path: Path, damage: dict[str, object], words: str
) -> None:
    content = json.loads(record_of(network).model_dump_json()) | damage
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(BadArtefact, match=words):
        Binarization.read(tmp_path / "a.json")


def test_files_that_are_no_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="there is no file"):
        Binarization.read(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(BadArtefact, match="no record of a binarization"):
        Binarization.read(tmp_path / "a.json")


def test_nothing_is_called_better_that_is_not(network: Architecture) -> None:
    (slower, less) = remarks(record_of(network))
    assert slower.text == (
        "Slower: 0.3 ms ±3.3 % against 0.2 ms ±5.0 %, 1.50 times as long; in this runtime products with 2-bit weights expand "
        "them first."
    )
    assert not slower.warn, "low bits are not for speed here"
    assert less == ("Less accurate: 5.00 points of test accuracy are lost.", True)
    assert remarks(record_of(network, ms=0.1, test=0.96)) == []
    assert "within the measurement’s spread" in remarks(record_of(network, ms=0.205, test=0.96))[0].text
    (within,) = remarks(record_of(network, ms=0.1, test=0.945))
    assert "less than its 95 % interval" in within.text
    assert not within.warn
    assert remarks(record_of(network, ms=0.1, test=0.96, size=9500.0)) == [
        ("The file is not smaller: 9.5 kB against 9 kB.", True)
    ]


def test_a_warning_is_of_what_was_wanted_or_lost(network: Architecture, tmp_path: Path) -> None:
    met = record_of(network, test=0.945)
    assert "Slower" in page(met, tmp_path, tmp_path)
    assert '<div class="notice">' not in page(met, tmp_path, tmp_path)
    assert '<div class="notice">Less accurate' in page(record_of(network), tmp_path, tmp_path)
    stage = met.stages[0].model_copy(update={"before": {"acc": measured(0.99, "fraction", 0.005)}})
    worse = met.model_copy(update={"stages": (stage,)})
    assert remarks(worse)[-1].text.startswith("w1: fine-tuning made it worse: 99.00 % before, 94.00 % after")


def test_the_page_shows_what_the_record_has(network: Architecture, tmp_path: Path) -> None:
    record = record_of(network)
    html = page(record, tmp_path, tmp_path)
    shown = text(html)
    for part in (
        result(record),
        *(remark.text for remark in remarks(record)),
        "~",
        "predicted",
        "a model: arithmetic operations",
    ):
        assert part in shown
    assert shown.count("a model: arithmetic operations") == 1, "once for all rows"
    assert result(record).startswith(
        "Binary weights: 90.00 % test accuracy (original: 95.00 %); 0.333 of the file, 1.500"
    )
    assert 'href="b.pt"' in html
    assert 'href="b.onnx"' in html
    assert "s0.b0.mixer.in fp32 w1" in shown


def test_the_bars_of_energy_add_up(network: Architecture) -> None:
    record = record_of(network)
    original, binary = energy_figure(record).data
    assert set(original.x) == set(record.energy)
    assert list(original.x)[1:4] == ["s0.b0.mixer.in", "s0.b0.mixer.out", "s0.b0.mixer.products"]
    assert sum(original.y) == pytest.approx(record.original["energy"].value / 1e3), "in nJ"
    assert sum(binary.y) == pytest.approx(record.stages[0].after["energy"].value / 1e3)


def test_the_other_figures_have_what_was_read(network: Architecture) -> None:
    record = record_of(network)
    assert [list(bar.y) for bar in accuracy_figure(record).data] == [[0.96], [0.4], [0.94]]
    (line,) = loss_figure(record).data
    assert list(line.y) == [0.9, 0.5]


def test_nothing_given_becomes_code(network: Architecture, tmp_path: Path) -> None:
    record = record_of(
        network, source=HOSTILE, data={"spec": HOSTILE}, machine={HOSTILE: HOSTILE}, model="b.pt", version=HOSTILE
    )
    html = page(record, tmp_path, tmp_path)
    assert "<img" not in html
    assert "<script>alert(2)" not in html


def test_a_page_is_of_what_is_finished_and_replaces_nothing(network: Architecture, tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="not finished"):
        write_page(BinarizeJob, record_of(network, model=None), tmp_path / "a.json", tmp_path / "a.html")
    assert write_page(BinarizeJob, record_of(network), tmp_path / "a.json", tmp_path / "a.html").exists()
    with pytest.raises(BadOption, match="exists already"):
        write_page(BinarizeJob, record_of(network), tmp_path / "a.json", tmp_path / "a.html")
