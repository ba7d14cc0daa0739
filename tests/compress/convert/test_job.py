"""A whole conversion on the stripes, without a clock: what it leaves, what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.suite import Begin, JobSuite, silent
from wb.compress.convert.begin import begin
from wb.compress.convert.config import ConvertConfig, configured, parsed
from wb.compress.convert.job import ConvertJob
from wb.compress.convert.record import Conversion
from wb.compress.convert.report import table
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption, WbError
from wb.core.records import Cosformer, Softmax
from wb.core.records.norms import RepNorm
from wb.data import Dataset
from wb.export.graph import read_architecture
from wb.models.model import Model, load
from wb.models.passes.fold import foldings

pytestmark = pytest.mark.usefixtures("untimed")
CONFIG = ConvertConfig(
    data="stripes", mixer="cosformer", layers=("s0.b0",), steps=20, norm="repbn", finetune=2, learning_rate=5e-3
)


@pytest.mark.usefixtures("unpaged")
def test_both_stages_leave_what_they_say(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    record = begin(CONFIG, striped, "m", stripes, out, silent, force=False)()
    model = load(out)
    assert [step.name for step in model.history] == ["train", "mixers", "finetune", "norms", "finetune"]
    assert model.history[-1].arguments["layered"] == 0.7
    assert "layered" not in model.history[2].arguments
    assert model.architecture == record.stages[1].architecture == read_architecture(tmp_path / "c.onnx")
    assert [type(block.mixer) for _, _, block in model.architecture.blocks()] == [Cosformer, Softmax]
    assert model.architecture.norm == RepNorm(eps=1e-6)
    assert [layer.slot for layer in record.layers] == ["s0.b0.mixer"]
    assert record.layers[0].missed < record.layers[0].begun
    after, first = record.stages[1].after, record.original
    assert after["acc"].value >= first["acc"].value - 0.05
    assert after["params"].value > first["params"].value
    assert model.history[-1].readings["acc"] == after["acc"]
    assert len(foldings(model.architecture)[0]) == 5
    assert "mixers" in str(table(record)), "a row for each stage"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to convert; say which --mixer, --wiring or --norm"),
        ({"mixer": "best"}, "--mixer best is no mixer; there are "),
        ({"mixer": "lmu,memory"}, "'memory' is no FIELD=VALUE"),
        ({"mixer": "lmu,heads=3"}, "lmu has no heads; it has reads, writes, memory, hidden"),
        ({"mixer": "pool,kind=softmax"}, "pool has no kind"),
        ({"norm": "repbn", "layers": ("s0",)}, "--layers is of other mixers; add --mixer"),
        ({"norm": "repbn", "steps": 5}, "--steps is of other mixers"),
        ({"mixer": "pool", "progressive": 0.5}, "--progressive is of fine-tuning with other norms"),
        ({"norm": "repbn", "finetune": 0, "progressive": 0.5}, "--progressive is of fine-tuning with other norms"),
        ({"norm": "batch"}, "wrong option: norm"),
    ],
)
def test_options_that_do_nothing_or_do_not_fit_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        configured(options)


def test_a_mixer_is_said_with_its_fields() -> None:
    assert parsed("cosformer") == ("cosformer", {})
    assert parsed(" lmu, memory = 16,hidden=64") == ("lmu", {"memory": "16", "hidden": "64"})


def never(what: str, done: int, of: int) -> None:
    pytest.fail(f"this takes time: {what}, {done} of {of}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mixer": "lmu"}, "lmu cannot be in the place of the mixer of s0.b0: it has no memory and no hidden"),
        ({"layers": ("s0.b7",)}, "no block with a mixer named s0.b7"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    striped: Model, stripes: Dataset, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    error: type[WbError] = BadOption
    with pytest.raises(error, match=words):
        begin(CONFIG.model_copy(update=changes), striped, "m", stripes, tmp_path / "a.pt", never, force=False)
    assert not list(tmp_path.iterdir())


def test_stages_of_other_jobs_are_no_record(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    config = ConvertConfig(data="stripes", norm="repbn", finetune=0)
    job = begin(config, striped, "m", stripes, tmp_path / "a.pt", silent, force=False)
    job()
    text = job.record_path.read_text(encoding="utf-8").replace('"name": "norms"', '"name": "w1"')
    job.record_path.write_text(text, encoding="utf-8")
    with pytest.raises(WbError, match="its stages are mixers, paths, norms"):
        Conversion.read(job.record_path)


class TestMixers(JobSuite):
    """Another mixer, then other norms."""

    ending = ".safetensors"
    results = (".onnx", ".safetensors")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset) -> Begin:
        config = CONFIG.model_copy(update={"layers": (), "steps": 2, "finetune": 1})

        def begun(out: Path, progress: Progress, *, other: bool = False, force: bool = False) -> ConvertJob:
            chosen = config.model_copy(update={"steps": 3}) if other else config
            return begin(chosen, striped, "m", stripes, out, progress, force=force)

        return begun
