"""Fixtures that several folders use. One torch thread: two on a shared machine can be ten times slower."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from wb.core.architecture import ImageInput
from wb.data import Dataset, Split

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Latency tables of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def image() -> ImageInput:
    """The shape of the digits, with a normalisation that matters."""
    return ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with published outputs and real data; tests that need it are skipped where it is not given."""
    folder = os.environ.get("WB_REFERENCE")
    if not folder:
        pytest.skip("WB_REFERENCE names no folder with reference outputs")
    return Path(folder)


@pytest.fixture(scope="session")
def stripes() -> Dataset:
    """Three classes of texture that a tiny network learns in seconds: horizontal stripes, vertical stripes, none."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        labels = rng.integers(3, size=n)
        images = rng.random((n, 1, 8, 8), dtype=np.float32) * 0.3
        for i, label in enumerate(labels):
            if label < 2:
                images[i, 0].swapaxes(0, label)[::2] += 0.6
        return Split(images, labels.astype(np.int64))

    return Dataset("stripes", "stripes", split(192), split(60), split(60), ("a", "b", "c"), "0")
