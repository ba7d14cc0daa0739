"""LiteRT on a device elsewhere: converted here, compared and timed there by the interpreter of the Python there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.litert import make_environment, pretended
from wb.core.errors import MissingExtra, Unsupported
from wb.export.run import Runner
from wb.export.timing.measure import measure_latency
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import Device, parse_device
from wb.hardware.remote.address import greeting, link_to
from wb.hardware.runtimes import environment

# Runs its last argument here, as a server would.
_SSH = '#!/bin/sh\nfor line; do :; done\nexec sh -c "$line"\n'


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python on another machine, which has the interpreter and nothing that converts; LiteRT's environment is here."""
    folder = tmp_path_factory.mktemp("there")
    python = make_environment(folder)
    for name in ("onnx2tf", "ai_edge_quantizer", "onnxsim"):
        (folder / "site" / f"{name}.py").unlink()
        shutil.rmtree(folder / "site" / f"{name}-{'1.0' if name == 'onnx2tf' else '3.0'}.dist-info", ignore_errors=True)
    (folder / "ssh").write_text(_SSH)
    (folder / "ssh").chmod(0o755)
    with pretended(tmp_path_factory.mktemp("here")), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield python


def test_it_is_converted_here_and_timed_and_scored_there(there: Path, tmp_path: Path) -> None:
    spec = f"ssh:pi@board,runtime=litert,python={there}"
    device = parse_device(spec, finished=True)
    try:
        assert (device.runtime, device.version) == ("litert", "2.0 (by onnx2tf 1.0)")
        path = tmp_path / "a.onnx"
        path.write_bytes(transformer_graph(4, 8, 1))
        reading = measure_latency({"a": path}, device, cap_s=0.2)["a"].reading
        assert "outputs differ from onnxruntime's by" in str(reading.note)
        assert str(reading.device).endswith(spec)
        several = np.random.default_rng(0).random((2, 4, 8), dtype=np.float32)
        ours, theirs = (Runner(path, one)({"x": several}) for one in (Device(), device.scoring("device")))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    finally:
        link_to(spec).close()


def test_what_is_missing_there_or_here_is_said(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"ssh:pi@board,runtime=litert,python={sys.executable}"
    try:
        with pytest.raises(Unsupported, match="has no litert; install it there: python3 -m pip install ai-edge-litert"):
            parse_device(spec, finished=True)
    finally:
        link_to(spec).close()
    spec = f"ssh:pi@board,runtime=litert,python={there}"
    monkeypatch.setenv(environment.VARIABLE, "/nowhere")
    try:
        with pytest.raises(MissingExtra, match="WB_LITERT names /nowhere, which is no Python; make it"):
            parse_device(spec, finished=True)
    finally:
        link_to(spec).close()
        link_to.cache_clear()
        greeting.cache_clear()
