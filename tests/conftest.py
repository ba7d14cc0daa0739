"""Fixtures that several folders use. One torch thread: two on a shared machine can be ten times slower."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from wb.core.architecture import ImageInput

torch.set_num_threads(1)


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
