"""`wb runs` finds runs wherever they lie and says how far each is, whatever state their files are in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from wb.cli.main import app
from wb.search.results.runs import runs
from wb.search.run import Run

Fabricate = Callable[..., Run]


def listed(folder: Path) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["runs", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    return {str(Path(str(one["run"])).relative_to(folder)): one for one in json.loads(result.stdout)}


def test_runs_are_found_with_their_states(originals: Callable[..., Path], tmp_path: Path) -> None:
    finished, begun = originals(trials=20), originals(trials=5, finished=False)
    places = {"a": finished, "deep/er/b": begun, "c": finished, "d": begun, "e": finished}
    for name, source in places.items():
        shutil.copytree(source, tmp_path / name)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    record["finished"] = {"trials": 24, "finetune": record["config"]["finetune"]}
    (tmp_path / "a" / "run.json").write_text(json.dumps(record))
    record["config"]["finalists"] = record["finished"]["finalists"] = 2
    shutil.copytree(tmp_path / "a", tmp_path / "few")
    (tmp_path / "few" / "run.json").write_text(json.dumps(record))
    (tmp_path / "deep" / "er" / "b" / "supernet.safetensors").write_text("")
    (tmp_path / "c" / "run.json").write_text("{")
    (tmp_path / "e" / "front.json").write_text("[3]")
    (tmp_path / "nothing").mkdir()
    found = listed(tmp_path)
    states = {name: one["state"] for name, one in found.items()}
    assert states == {
        "a": "finished",
        "deep/er/b": "5 of 24 candidates",
        "c": "damaged: run.json",
        "d": "supernet",
        "e": "damaged: front.json",
        "few": "finished",
    }
    points = Run(tmp_path / "a").read_front()
    best = max(points, key=lambda point: point.validation.value)
    assert found["a"]["best"]["id"] == best.id  # type: ignore[index]
    assert (found["a"]["data"], found["a"]["space"], found["a"]["networks"]) == ("digits", "auto", len(points))
    assert found["a"]["bytes"] == sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file())
    rows = {row[0]: row for row in runs(tmp_path).table().rows}  # a terminal's width says where a cell is broken
    assert best.test.plain() in rows["a"]
    assert "5 of 24 candidates" in rows["deep/er/b"]
    assert CliRunner().invoke(app, ["runs", str(tmp_path)]).exit_code == 0


def test_a_folder_without_runs_and_none_at_all(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert (result.exit_code, "no runs in" in result.stdout) == (0, True)
    result = CliRunner().invoke(app, ["runs", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "there is no folder" in result.stderr
