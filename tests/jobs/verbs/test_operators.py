"""`wb ops`: every part of the unions is listed, counted and timed; the page in `docs` names them all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from wb.cli.main import app
from wb.core.errors import BadOption
from wb.core.layout import Layout
from wb.core.measures.readings import Reading
from wb.core.records import FFNS, MIXERS, Part, Softmax, kind_of
from wb.core.records.attention import MaskUnit, Window
from wb.export.timing.measure import Latency
from wb.hardware.device import parse_device, session
from wb.jobs.verbs import operators

PAGE = Path(__file__).parents[3] / "docs" / "operators.md"


@pytest.fixture(scope="module")
def found() -> list[operators.Listed]:
    return list(operators.listed())


def test_all_parts_of_all_unions_are_there(found: list[operators.Listed]) -> None:
    known: list[type[Part]] = [kind for kinds in operators.UNIONS.values() for kind in kinds]
    assert [(one.kind, one.title) for one in found] == [(kind_of(kind), kind.title) for kind in known]
    assert {*MIXERS, *FFNS} <= set(known)
    page = PAGE.read_text(encoding="utf-8")
    assert [one.kind for one in found if f"| {one.kind} | {one.title} |" not in page] == [], (
        "wb ops --measure --markdown"
    )


def test_counts_are_those_of_the_formula(found: list[operators.Listed]) -> None:
    """Of softmax attention: four maps of 192 channels with biases, and two products of all pairs of 196 tokens."""
    softmax = next(one for one in found if one.kind == kind_of(Softmax))
    assert softmax.params is not None
    assert softmax.macs is not None
    assert softmax.params.value == 4 * (192 * 192 + 192)
    assert softmax.macs.value == 4 * 196 * 192 * 192 + 2 * 196 * 196 * 192
    assert {one.role for one in found if one.macs is not None} == {"mixer", "feed-forward", "join"}


@pytest.mark.parametrize("kind", [Window, MaskUnit])
@pytest.mark.parametrize("side", [7, 14, 28, 56])
def test_squares_fit_the_picture(kind: type[Window | MaskUnit], side: int) -> None:
    layout = Layout((side, side))
    assert operators.sized(kind, layout).refuses(layout) is None


@pytest.mark.parametrize("tokens", ["48", "196,49", "49,49", "0", "", "49,x", str(65**2)])
def test_numbers_that_are_no_squares_are_refused(tokens: str) -> None:
    with pytest.raises(BadOption, match="expected squares up to 4096"):
        operators.sides_of(tokens)
    assert operators.sides_of("49,196") == [7, 14]


def test_latencies_are_told_beside_softmax(found: list[operators.Listed], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph of a mixer and a feed-forward runs; of the numbers of tokens each has its own."""
    at = MIXERS.index(Softmax)
    two = {"mixer": MIXERS[at - 1 : at + 1], "feed-forward": FFNS[-1:]}
    monkeypatch.setattr(operators, "UNIONS", {**operators.UNIONS, **two})

    def timed(graphs: Mapping[str, Path], *_: object, **__: object) -> dict[str, Latency]:
        latencies = {}
        for number, (name, path) in enumerate(graphs.items()):
            runtime = session(path, parse_device())
            shape = [2 if isinstance(side, str) else side for side in runtime.get_inputs()[0].shape]
            (y,) = runtime.run(None, {"x": torch.rand(shape).numpy()})
            assert y.shape == (2, shape[1], 192)
            value = (1 + number) * shape[1]
            reading = Reading(
                value=value, unit="ms", how="measured", interval=(0.9 * value, 1.1 * value), device="here"
            )
            latencies[name] = Latency(reading, reading, 1, 0, 1.0)
        return latencies

    monkeypatch.setattr(operators, "measure_latency", timed)
    parts = list(operators.measured(operators.listed(), [2, 3], parse_device(), cap_s=1.0))
    (softmax,) = (one for one in parts if one.kind == kind_of(Softmax))
    place = [one.kind for one in parts].index(softmax.kind) + 1
    assert {tokens: reading.value for tokens, reading in softmax.latency.items()} == {4: 4 * place, 9: 9 * place}
    table, other, *_, last = operators.tables(parts)
    assert [*table.columns[-3:]] == ["4 tokens", "9 tokens", "surely faster"]
    assert table.rows[place - 1][-2] == softmax.latency[9].text()
    assert other.rows[0][-2].startswith(f"{3 / place:.3f}x")
    assert math.isclose(float(other.rows[0][-2].split("±")[1].split()[0]), 14.2, abs_tol=0.3), "errors of both"
    assert [table.rows[place - 1][-1], other.rows[0][-1]] == ["", "at none"]
    assert "measured on here" in last.lines[-1]


def test_a_part_is_surely_faster_from_where_it_stays_so() -> None:
    def read(*values: float) -> dict[int, Reading]:
        return {
            n: Reading(value=v, unit="ms", how="measured", interval=(0.95 * v, 1.05 * v))
            for n, v in zip((4, 9, 16), values, strict=True)
        }

    softmax = read(1.0, 2.0, 3.0)
    assert operators.wins(read(0.5, 1.0, 2.0), softmax) == "from 4"
    assert operators.wins(read(0.5, 1.95, 2.0), softmax) == "from 16", "intervals that meet in between"
    assert operators.wins(read(0.5, 1.0, 3.5), softmax) == "at none"


def test_the_command_prints_a_table_json_or_the_page() -> None:
    shown = CliRunner().invoke(app, ["ops"])
    assert shown.exit_code == 0
    assert all(union in shown.stdout for union in operators.UNIONS)
    content = json.loads(CliRunner().invoke(app, ["ops", "--json"]).stdout)
    assert {one["union"] for one in content} == set(operators.UNIONS)
    assert content[0]["supports"]["planes"] == ["tokens"]
    idle = CliRunner().invoke(app, ["ops", "--tokens", "49"])
    assert idle.exit_code == 2
    assert "--tokens is of timing" in idle.stderr
    page = CliRunner().invoke(app, ["ops", "--markdown"]).stdout
    assert page.startswith("# Operators\n")
    assert "## feed-forwards" in page
    both = CliRunner().invoke(app, ["ops", "--markdown", "--json"])
    assert both.exit_code == 2
