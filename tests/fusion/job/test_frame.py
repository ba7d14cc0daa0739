"""A fusion keeps what every job owes its user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.jobs.suite import Begin, JobSuite
from wb.core.commands.progress import Progress
from wb.data import Dataset
from wb.fusion.job.begin import begin
from wb.fusion.job.config import FuseConfig
from wb.fusion.job.job import FuseJob
from wb.fusion.settings import Settings
from wb.models.model import Model, save


@pytest.fixture(scope="module")
def parents(striped: Model, tmp_path_factory: pytest.TempPathFactory) -> Sequence[tuple[str, Path]]:
    """Two files of one model."""
    folder = tmp_path_factory.mktemp("parents")
    found = [(name, folder / f"{name}.safetensors") for name in "ab"]
    for _, path in found:
        save(striped, path)
    return found


class TestRegress(JobSuite):
    """Two models by `regress`, and fine-tuned."""

    ending = ".safetensors"
    results = (".onnx", ".safetensors")

    @pytest.fixture
    def begin(self, parents: Sequence[tuple[str, Path]], stripes: Dataset) -> Begin:
        config = FuseConfig(data="stripes", settings=Settings(method="regress"), calib=32, finetune=1)

        def begun(out: Path, progress: Progress, *, other: bool = False, force: bool = False) -> FuseJob:
            chosen = config.model_copy(update={"finetune": 3}) if other else config
            return begin(chosen, parents, stripes, out, progress, force=force)

        return begun
