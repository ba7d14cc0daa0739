"""Damaged run folders give what can be read of them or one paragraph: shown, and continued."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wb.cli.main import app
from wb.core.architecture import Architecture
from wb.core.errors import WbError
from wb.core.measures.readings import Reading
from wb.models.counting import count_parameters
from wb.search.beginning.config import SearchConfig
from wb.search.crew.crew import Crew
from wb.search.evaluate import Evaluation
from wb.search.page.report import write_report
from wb.search.run import Run
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.study import check_study, load_study
from wb.search.study.trials import evaluated
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

HERE = Path(__file__).parent
mutate: Callable[[Path, int], str] = runpy.run_path(str(HERE / "mutate_runs.py"))["mutate"]
KIT = runpy.run_path(str(HERE.parent / "search" / "conftest.py"))
SPACE = Vit(TINY, KIT["DIGITS"], 10, tuple("0123456789"), "tiny")
MADE = {"objectives": "acc,params", "budget": ("params=50k",), "trials": 13}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    KIT["fabricate_run"](folder, **{**MADE, "trials": 12})
    return folder


def evaluate(architecture: Architecture) -> Evaluation:
    params = count_parameters(architecture)
    return Evaluation({"acc": Reading(value=0.5, unit="fraction", how="measured"), "params": params}, {})


def resume(folder: Path) -> None:
    """What `wb search --resume` does with the folder and the study, up to one more evaluation."""
    run = Run(folder)
    record = run.read()
    config = record.config
    if config.metrics != SearchConfig.model_validate(MADE).metrics:
        return  # another run, which the data would not fit
    url, crew = run.storage(config), Crew(folder)
    study = load_study(url, record.study)
    check_study(url, study, config.metrics, config.limits, SPACE)
    study.sampler = make_sampler("guided", SPACE, config.limits, config.seed, crew.name)
    wanted = len(evaluated(study)) + 1
    Optimization(study, SPACE, config.metrics, config.limits, evaluate, wanted, lambda *_: None, crew)()


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_run_is_shown_or_refused_in_one_paragraph(made: Path, tmp_path: Path, seed: int) -> None:
    folder = shutil.copytree(made, tmp_path / "run")
    what = mutate(folder, seed)
    result = CliRunner().invoke(app, ["show", str(folder)])
    told = f"{what}\n{result.output}"
    assert result.exception is None or isinstance(result.exception, SystemExit), told
    assert "mistake of wb's" not in result.output, told
    assert "Traceback" not in result.output, told
    if result.exit_code:
        assert result.exit_code in (1, 2, 3), told
        assert result.stderr.startswith("error: "), told
        assert len(result.stderr.strip().splitlines()) == 1, told
    elif not seed % 8:
        write_report(Run(folder), tmp_path / "r.html")


@pytest.mark.parametrize("seed", range(100, 125))
def test_a_damaged_run_is_continued_or_refused(made: Path, tmp_path: Path, seed: int) -> None:
    folder = shutil.copytree(made, tmp_path / "run")
    what = mutate(folder, seed)
    refused: list[WbError] = []
    try:
        resume(folder)
    except WbError as error:
        refused.append(error)
    assert not any("\n" in str(error) for error in refused), what
