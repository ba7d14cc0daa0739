"""`wb search --require`: what it says before it spends time, of requirements that nothing meets, and of others afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wb.cli.main import app
from wb.search.judgement.record import Judgement
from wb.search.run import Run
from wb.search.sampler.generate import GENERATORS
from wb.search.study.storage import file_url
from wb.search.study.study import load_study

SMALL = ["--epochs", "1", "--finetune", "1", "--limit", "150", "--set", "embed=8,16", "--set", "depth=1,2"]
SMALL += ["--set", "mixer=none,pool,softmax", "--rungs", "6x1", "--finalists", "4"]
GENERATE = ["--sampler", "generate", "--objectives", "acc,params"]


def wb(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def unmet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run that was asked for what no network of it has, and its output."""
    folder = tmp_path_factory.mktemp("unmet") / "run"
    asked = ["--require", "params<=4k", "--require", "acc>=99.9%"]
    return folder, wb("search", *SMALL, *GENERATE, *asked, "--trials", 18, "-o", folder, "--json")


def test_what_nothing_meets_leaves_the_nearest_and_exit_code_3(unmet: tuple[Path, Result]) -> None:
    folder, result = unmet
    assert result.exit_code == 3
    assert "no network meets all requirements" in said(result)
    assert f"--resume {folder} --trials N" in said(result)
    assert f"--resume {folder} --sampler generate --require" in said(result)
    shown = json.JSONDecoder().raw_decode(result.stdout)[0]
    judgement = Judgement.model_validate(shown["judgement"])
    assert judgement == Run(folder).read().judgement
    assert not judgement.meeting
    assert {point["id"] for point in shown["front"]} == judgement.verdicts.keys()
    assert len(judgement.verdicts) == 3
    assert judgement.evaluated == 18
    assert judgement.relaxations.keys() == set(judgement.requirements) == {"params <= 4 k", "acc >= 99.90 %"}
    assert judgement.preferences


def test_the_page_has_a_section_of_the_answer(unmet: tuple[Path, Result]) -> None:
    folder, _ = unmet
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'id="requirements"' in page
    assert "No network meets params &lt;= 4 k, acc &gt;= 99.90 %" in page
    assert "What the generator favours" in page


def test_another_requirement_of_the_same_run_is_answered_from_its_archive(unmet: tuple[Path, Result]) -> None:
    folder, _ = unmet
    result = wb("search", "--resume", folder, "--require", "params<=1M,acc>=1%", "--json")
    assert result.exit_code == 0, result.output
    judgement = Run(folder).read().judgement
    assert judgement is not None
    assert judgement.met
    assert judgement.requirements == ("params <= 1 M", "acc >= 1.00 %")
    assert judgement.evaluated == 18
    again = wb("search", "--resume", folder, "--require", "params<=4k,acc>=0.999", "--trials", 19, "--json")
    assert again.exit_code == 3
    study = load_study(file_url(folder / "study.db"), "search")
    assert len(study.trials) == 19
    assert "params <= 4 k" in " ".join(study.user_attrs[GENERATORS])


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--sampler", "generate"], 2, 'for example --require "latency<=1ms,acc>=0.7"'),
        (["--no-practice"], 2, "is for --sampler generate"),
        (["--require", "latency<=1ms,latency>=2ms"], 2, "contradict each other"),
        (["--require", "params>=2k", "--budget", "params=1k"], 2, "contradict each other"),
        (["--require", "macs<=10"], 3, "macs <= 10 cannot be met: the smallest network"),
        (["--require", "params>=1G"], 3, "params >= 1 G cannot be met: the largest networks"),
    ],
)
def test_what_cannot_be_is_refused_before_training(tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    result = wb("search", *SMALL, *arguments, "-o", tmp_path / "run")
    assert result.exit_code == code
    assert text in said(result)
    assert not (tmp_path / "run" / "run.json").exists()


def test_only_the_generator_takes_other_requirements_and_only_of_what_was_read(unmet: tuple[Path, Result]) -> None:
    folder, _ = unmet
    other = wb("search", "--resume", folder, "--sampler", "guided", "--require", "acc>=0.2")
    assert other.exit_code == 2
    assert "cannot change when a run is resumed" in said(other)
    none = wb("search", "--resume", folder, "--require", "macs<=10")
    assert none.exit_code == 3
    assert "macs <= 10 cannot be met: the smallest network" in said(none)
    assert "macs <= 10" not in (folder / "run.json").read_text(encoding="utf-8")
    timed = wb("search", "--resume", folder, "--require", "latency<=1ms")
    assert timed.exit_code == 2
    assert "did not time its candidates" in said(timed)
