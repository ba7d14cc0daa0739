"""`wb search --seed-architecture`, from files and by name."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.commands import succeeded, wb
from tests.networks import answering
from tests.processes import Command
from wb.core.architecture import Architecture, resize
from wb.data import load
from wb.models.axes import Leading
from wb.models.model import from_network, remap_model, save
from wb.models.network import build
from wb.search.run import Run
from wb.search.study.study import load_study
from wb.search.study.trials import evaluated
from wb.spaces.columnar.presets import vit_space
from wb.spaces.columnar.revit import seed_architecture
from wb.spaces.columnar.space import Vit

SMALL = ["--epochs", "1", "--finetune", "0", "--limit", "200", "--objectives", "acc,params", "--threads", "1"]
CHANGES = {"embed": "8,16", "depth": "1,2"}
SETS = [word for name, value in CHANGES.items() for word in ("--set", f"{name}={value}")]


def space(preset: str = "tiny") -> Vit:
    return vit_space(load("digits", limit=200), preset, CHANGES)


def networks(folder: Path, within: Vit) -> list[Architecture]:
    """What was evaluated, in order."""
    record = Run(folder).read()
    trials = evaluated(load_study(Run(folder).storage(record.config), record.study))
    return [within.decode(trial.params) for trial in trials]


def test_a_search_starts_from_files_and_names_and_no_longer_needs_the_files(tmp_path: Path) -> None:
    within = space()
    network = build(within.largest("softmax"))
    network.reset()
    pruned = remap_model(from_network(within.largest("softmax"), network), {"s0.b0.qk": Leading(8)})
    seed = resize(within.largest("softmax"), {"s0.b0.qk": 8})
    assert pruned.architecture.stages[0].blocks != seed.stages[0].blocks, "the scale is another"
    model, text = tmp_path / "pruned.safetensors", tmp_path / "a.json"
    save(pruned, model)
    text.write_text(within.largest("lmu").to_json(), encoding="utf-8")
    seeds = ["--seed-architecture", model, "--seed-architecture", "smallest", "--seed-architecture", text]
    succeeded("search", *SMALL, *SETS, *seeds, "--trials", 4, "-o", tmp_path / "run")
    expected = [seed, within.smallest(), within.largest("lmu")]
    assert [a.trimmed() for a in networks(tmp_path / "run", within)[:3]] == [a.trimmed() for a in expected]
    changed = wb("search", "--resume", tmp_path / "run", "--seed-architecture", "largest")
    assert changed.exit_code == 2
    assert "--seed-architecture cannot change when a run is resumed" in changed.stderr
    model.unlink()
    text.unlink()
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert wb("search", "--resume", moved, "--trials", 6).exit_code == 0
    assert len(set(networks(moved, within))) == 6
    assert wb("report", moved).exit_code == 0


def test_a_run_killed_before_its_seed_was_evaluated_still_evaluates_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["search", *SMALL, *SETS, "--preset", "revit-tiny", "--seed-architecture", "revit", "--trials", "3"]
    Command(*arguments, "-o", folder).until(lambda: queued(folder)).kill()
    succeeded("search", "--resume", folder)
    within = space("revit-tiny")
    found = networks(folder, within)
    assert found[0] == seed_architecture(within)
    assert len(set(found)) == 3


def queued(folder: Path) -> bool:
    """Whether there is a trial, whatever its state, read without disturbing the database."""
    try:
        with sqlite3.connect(f"file:{folder / 'study.db'}?mode=ro", uri=True) as db:
            return bool(db.execute("select count(*) from trials").fetchone()[0])
    except sqlite3.Error:
        return False


def test_dry_run_says_what_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(space().smallest().to_json(), encoding="utf-8")
    seeds = ["--seed-architecture", "largest", "--seed-architecture", "a.json"]
    result = succeeded("search", *SMALL, *SETS, *seeds, "--dry-run", "--json")
    (what,) = [stage["what"] for stage in json.loads(result.stdout) if stage["name"] == "search"]
    assert what.endswith(f"; first largest, architecture {space().smallest().key}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["revit"], 2, "preset 'tiny' has no seed architecture 'revit'; revit-base, revit-small, revit-tiny have"),
        (["nowhere.pt"], 2, "'nowhere.pt' is no file; give revit, largest, smallest"),
        (["odd.json"], 2, "embed=9 is not in space 'vit' (8, 16); widen the space with --set embed=8,9,16"),
        (["task.json"], 2, "and 10 classes; give one for such data"),
        (["broken.json"], 1, "this is no architecture"),
        (["largest", "--seed-architecture", "smallest", "--trials", "1"], 2, "2 seed architectures need --trials 2"),
    ],
)
def test_seeds_that_do_not_fit_stop_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str, dry: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    smallest = space().smallest()
    task = answering(smallest, classes=3, labels=())
    Path("odd.json").write_text(resize(smallest, {"s0.embed": 9}).to_json(), encoding="utf-8")
    Path("task.json").write_text(task.to_json(), encoding="utf-8")
    Path("broken.json").write_text("{}", encoding="utf-8")
    result = wb("search", *SMALL, *SETS, "-o", "run", *dry, "--seed-architecture", *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.json", "odd.json", "task.json"]


def test_spaces_says_which_presets_have_a_seed() -> None:
    assert "--seed-architecture revit" in " ".join(wb("spaces", "revit-tiny").stdout.split())
    assert "--seed-architecture" not in wb("spaces", "deit-tiny").stdout
    assert json.loads(wb("spaces", "--json").stdout)["seeds"] == dict.fromkeys(
        ("revit-tiny", "revit-small", "revit-base"), "revit"
    )
