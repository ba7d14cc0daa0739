"""What every job owes its user: killed after any of its writes and started again, it ends in the same files.

Files become what they are by being renamed (`wb.core.files.replacing`), so that after each of these a process may end. One
chain of processes goes through all of them: each is stopped when it has written something that none before it was stopped at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from wb.compress.binarize import begin as binarize_begin
from wb.compress.binarize.record import Config as Binarization
from wb.compress.nvit.nvit import Settings
from wb.compress.prune import begin as pruning
from wb.compress.prune.record import Config as Pruning
from wb.compress.quantize import begin as quantize_begin
from wb.compress.quantize.begin import Given
from wb.compress.quantize.record import Config as Quantization
from wb.core.errors import BadArtefact
from wb.core.readings import Reading
from wb.data import Dataset
from wb.fusion.job import begin as fusion
from wb.fusion.job.record import Config as Fusion
from wb.fusion.settings import Settings as Alignment
from wb.models.model import Model, load, save

MOST = 150  # processes, before the chain counts as endless
KEEP = ("stem", "head", "s0.b1", "s0.b0.mixer")  # few groups, as each is written down alone
Begin = Callable[[Path], Callable[[], object]]  # the job that writes this file


class Killed(BaseException):
    """The process is gone; no `Exception`, so that nothing goes on after it."""


def silent(*_: object) -> None:
    """Nobody listens to the job."""


@pytest.fixture(autouse=True)
def _paced(untimed: None, by_size: None) -> Iterator[None]:
    """Clocks stand still, so that readings are the same; pages are tested elsewhere."""
    pace = Reading(value=1.0, unit="ms", how="measured")

    def page(_: object, __: Path, path: Path, **___: object) -> None:
        path.write_text("page")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.compress.binarize.begin.reference_pace", lambda *_: pace)
        for job in ("compress.prune.job", "fusion.job.job", "compress.quantize.job", "compress.binarize.job"):
            patch.setattr(f"wb.{job}.write_report", page)
        yield


@pytest.fixture
def jobs(striped: Model, stripes: Dataset, tmp_path: Path) -> dict[str, tuple[str, Begin]]:
    """Every job by name, with the ending of its main file."""
    parents = [(name, tmp_path / f"{name}.safetensors") for name in "ab"]
    for _, path in parents:
        save(striped, path)

    def prune(config: Pruning) -> Begin:
        return lambda out: pruning.begin(config, striped, "m", stripes, out, silent, force=False)

    settings = Settings(rounds=2, recovery=1, calibration=32)
    nvit = Pruning(data="stripes", budget=("macs=0.5x",), snapshots=(0.75,), settings=settings, finetune=1)
    depth = nvit.model_copy(update={"method": "depth", "settings": Settings(rounds=1, calibration=32)})
    fused = Fusion(data="stripes", settings=Alignment(method="regress"), calib=32, finetune=1)
    mixed = Quantization.model_validate(
        {"policy": "mixed", "data": "stripes", "calib": 8, "budget": ("size=0.95x",), "keep": KEEP}
    )
    dynamic = Quantization.model_validate({"policy": "int8-dynamic", "data": "stripes"})
    binary = Binarization(data="stripes", attention="hash", bits=4, anchors=4, finetune=1)

    def quantize(config: Quantization) -> Begin:
        return lambda out: quantize_begin.begin(config, Given("m", striped), stripes, out, silent, force=False)

    return {
        "prune nvit": (".safetensors", prune(nvit)),
        "prune depth": (".pt", prune(depth)),
        "fuse": (".safetensors", lambda out: fusion.begin(fused, parents, stripes, out, silent, force=False)),
        "quantize": (".onnx", quantize(dynamic)),
        "quantize mixed": (".onnx", quantize(mixed)),
        "binarize": (
            ".safetensors",
            lambda out: binarize_begin.begin(binary, striped, "m", stripes, out, silent, force=False),
        ),
    }


NAMES = ("prune nvit", "prune depth", "fuse", "quantize", "quantize mixed", "binarize")


def content(path: Path) -> object:
    """What has to be the same: the weights of a model, a record but for its times, of other files that they are there."""
    if path.suffix == ".json":
        record = json.loads(path.read_text())
        return {name: value for name, value in record.items() if name not in ("created", "seconds")}
    if path.suffix in (".safetensors", ".pt") and "checkpoint" not in path.name:
        with suppress(BadArtefact):  # weights on the way, of no model yet
            return load(path).fingerprint()
    return "checkpoint" not in path.name or path.read_bytes()


def left(folder: Path) -> dict[str, object]:
    """All that a job has left."""
    return {path.name: content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_job_that_is_killed_after_every_write_ends_as_if_it_had_not_been(
    name: str, jobs: dict[str, tuple[str, Begin]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, begin = jobs[name]
    whole, out = tmp_path / "whole" / f"x{ending}", tmp_path / "killed" / f"x{ending}"
    begin(whole)()
    rename = Path.replace
    stopped: set[tuple[str, str]] = set()

    def kill(source: Path, target: str | Path) -> Path:
        moved = rename(source, target)
        written = (str(target), repr(content(Path(target))))
        if written in stopped or out.parent not in Path(target).parents:  # that is scratch, which nobody comes back to
            return moved
        stopped.add(written)
        raise Killed

    monkeypatch.setattr(Path, "replace", kill)
    for _ in range(MOST):
        try:
            begin(out)()
            break
        except Killed:
            pass
    else:
        pytest.fail(f"no end after {MOST} processes")
    assert len(stopped) >= 3
    assert left(out.parent) == left(whole.parent)
