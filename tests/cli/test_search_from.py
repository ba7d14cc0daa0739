"""`wb search --from` as a user runs it, on one tiny network of the digits and without a clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import files, succeeded, wb
from tests.networks import of_digits, random_model
from wb import api
from wb.jobs.kinds import kind_of
from wb.models.counting import count_macs
from wb.models.model import load, save
from wb.search.run import Run

pytestmark = pytest.mark.usefixtures("untimed", "unpaged")
QUICK = ("--data", "digits", "--limit", 120, "--samples", 32, "--finetune", 0)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("from") / "a.safetensors"
    save(random_model(of_digits(depth=1)), path)
    return path


def test_networks_of_two_budgets(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    plan = succeeded(
        "search", "--from", dense, "--budget", "macs=0.7x,0.5x", "--out", out, *QUICK, "--dry-run", "--json"
    )
    assert {"library", "scores", "choices"} <= {stage["name"] for stage in json.loads(plan.stdout)["stages"]}
    assert not out.exists()
    said = succeeded("search", "--from", dense, "--budget", "macs=0.7x,0.5x", "--out", out, *QUICK)
    models = {f"macs-{share}x.{ending}" for share in (0.7, 0.5) for ending in ("onnx", "safetensors")}
    assert files(out) == {"report.html", "report.json", *models}
    assert "Kendall's tau" in said.stdout
    whole = count_macs(load(dense).architecture).value
    for share in (0.7, 0.5):
        assert count_macs(load(out / f"macs-{share}x.safetensors").architecture).value <= share * whole
    assert kind_of(out / "report.json") == "record"
    succeeded("report", out / "report.json")
    again = wb("search", "--from", dense, "--out", out, *QUICK)
    assert again.exit_code == 2
    assert "not empty" in again.output
    options: dict[str, Any] = {"data": "digits", "limit": 120, "samples": 32, "finetune": 0, "quiet": True}
    found = api.search_from(dense, budget="macs=0.5x", out=tmp_path / "api", **options)
    assert found.model.model.fingerprint() == load(out / "macs-0.5x.safetensors").fingerprint()
    assert "Kendall" in str(found)


@pytest.mark.usefixtures("brief")
def test_a_supernet_starts_from_the_model(dense: Path, tmp_path: Path) -> None:
    """A run is like any other, with the model in its folder, from which a killed one goes on."""
    few: dict[str, Any] = {
        "data": "digits",
        "objectives": "acc,macs",
        "epochs": 1,
        "finetune": 0,
        "trials": 2,
        "limit": 120,
    }
    options = [text for name, value in few.items() for text in (f"--{name}", value)]
    plan = succeeded("search", "--from", dense, "--supernet", *options, "-o", tmp_path / "run", "--dry-run", "--json")
    assert "supernet" in {stage["name"] for stage in json.loads(plan.stdout)}
    run = Run(tmp_path / "run")
    found = api.search(start=dense, out=run.folder, quiet=True, finalists=1, **few)
    model, record = load(dense), run.read()
    assert record.config.start == model.architecture == load(run.largest_path).architecture
    assert load(run.start_path).fingerprint() == model.fingerprint()
    supernet = run.supernet_path.read_bytes()
    for path in (run.supernet_path, run.front_path):
        path.unlink()
    again = api.search(resume=run.folder, quiet=True)
    assert run.supernet_path.read_bytes() == supernet
    assert [point.id for point in again.points] == [point.id for point in found.points]
    refused = wb(
        "search", "--from", dense, "--supernet", "--data", "digits", "--set", "heads=1", "-o", tmp_path / "other"
    )
    assert "not the largest of the space around it" in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "M", "--trials", "3"], "--trials is of searches with a supernet"),
        (["--from", "M", "--set", "embed=16"], "--set is of searches with a supernet"),
        (["--from", "M", "--resume", "somewhere"], "--resume is of searches with a supernet"),
        (["--from", "M", "--workers", "2"], "--workers is of searches with a supernet"),
        (["--front", "3"], "--front is of a search from a trained model"),
        (["--samples", "30"], "--samples is of a search from a trained model"),
        (["--distil", "3"], "--distil is of a search from a trained model"),
        (["--from", "M", "--distil", "-1"], "distil: Input should be greater than or equal to 0"),
        (["--from", "M", "--budget", "acc=0.9"], "cannot be aimed at"),
        (["--from", "M", "--budget", "macs=0.5x,0.4x", "--front", "3"], "--front goes down to one budget"),
        (["--from", "M", "--front", "1"], "front: Input should be greater than or equal to 2"),
        (["--from", "nothing.pt"], "there is no file"),
        (["--from", "M", "--budget", "macs=0.01x", "--dry-run"], "the least there is"),
        (["--from", "M", "--mixers", "nothing"], "--mixers nothing is no mixer; there are"),
        (["--from", "M", "--mixers", "softmax"], "in the first it is what is there"),
        (["--mixers", "auto"], "--mixers is of a search from a trained model"),
        (["--supernet"], "--supernet starts from a trained model"),
        (["--from", "M", "--supernet", "--front", "3"], "--front is of a search --from without a supernet"),
        (["--from", "M", "--supernet", "--space", "hybrid"], "--space says another space"),
        (["--from", "M", "--supernet", "--resume", "somewhere"], "leave --from and --supernet out"),
    ],
)
def test_what_is_refused(options: list[str], said: str, dense: Path, tmp_path: Path) -> None:
    given = [str(dense) if one == "M" else one for one in options]
    result = wb("search", *given, "--out", tmp_path / "new")
    assert result.exit_code in (1, 2, 3), result.output
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "new").exists()
