"""A stand-in for the environment of LiteRT: converter and interpreter hand on the ONNX graph, or do as they are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wb.hardware.remote import address
from wb.hardware.runtimes import environment
from wb.hardware.runtimes.litert import LiteRt, LiteRtInt8

MODE = "WB_TEST_LITERT"  # what the converter does: nothing wrong where it is not set
_CONVERTER = """
import os, time
import numpy
from onnx import numpy_helper

def convert(onnx_graph, output_folder_path, keep_shape_absolutely_input_names, **_):
    mode = os.environ.get("WB_TEST_LITERT")
    print("\\x1b[31mlots of\\x00 words\\x1b[0m")
    if mode == "fails":
        raise RuntimeError("no rule for Frobnicate")
    if mode == "hangs":
        time.sleep(600)
    if mode == "wrong":
        for weight in onnx_graph.graph.initializer:
            values = numpy_helper.to_array(weight)
            if values.dtype == numpy.float32:
                weight.CopyFrom(numpy_helper.from_array(values[::-1].copy(), weight.name))
    content = b"garbage" if mode == "garbage" else b"\\x1c\\0\\0\\0TFL3" + onnx_graph.SerializeToString()
    with open(os.path.join(output_folder_path, "model_float32.tflite"), "wb") as file:
        file.write(content)
"""
_QUANTIZER = """
import os, types

class _Quantizer:
    def __init__(self, path):
        self.path = path
    def load_quantization_recipe(self, recipe):
        assert recipe == "dynamic"
    def quantize(self):
        if os.environ.get("WB_TEST_LITERT") == "fails":
            raise RuntimeError("no rule for it")
        return self
    def export_model(self, path, overwrite):
        with open(self.path, "rb") as source, open(path, "wb") as file:
            file.write(source.read())

quantizer = types.SimpleNamespace(Quantizer=_Quantizer)
recipe = types.SimpleNamespace(dynamic_wi8_afp32=lambda: "dynamic")
"""
_INTERPRETER = """
import numpy, onnxruntime

class Interpreter:
    def __init__(self, model_path=None, model_content=None, num_threads=None):
        content = model_content or open(model_path, "rb").read()
        assert content[4:8] == b"TFL3"
        self.session, self.given = onnxruntime.InferenceSession(content[8:]), {}
        self.ins, self.outs = (
            {one.name: {"index": n, "dtype": numpy.float32, "shape": one.shape} for n, one in enumerate(these)}
            for these in (self.session.get_inputs(), self.session.get_outputs())
        )
    def allocate_tensors(self):
        pass
    def set_tensor(self, index, values):
        self.given[list(self.ins)[index]] = values
    def invoke(self):
        self.found = self.session.run(None, self.given)
    def get_tensor(self, index):
        return self.found[index]
    def get_signature_runner(self):
        return Signature(self)

class Signature:
    def __init__(self, whole):
        self.whole = whole
    def get_input_details(self):
        return self.whole.ins
    def get_output_details(self):
        return self.whole.outs
    def __call__(self, **inputs):
        return dict(zip(self.whole.outs, self.whole.session.run(None, inputs)))
"""
FILES = {
    "onnxsim.py": "def simplify(model):\n    return model, True\n",
    "onnx2tf.py": _CONVERTER,
    "ai_edge_quantizer.py": _QUANTIZER,
    "ai_edge_litert/interpreter.py": _INTERPRETER,
}
GIVEN, HEARD = (
    ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONNOUSERSITE"),
    "heard",
)  # a line of these for each start of its Python
PACKAGES = {"onnx2tf": "1.0", "ai_edge_litert": "2.0", "ai_edge_quantizer": "3.0"}


def make_environment(folder: Path, lacking: str = "") -> Path:
    """Writes such an environment, without the package that is `lacking`; returns what is to be its Python."""
    site = folder / "site"
    for name, content in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content)
    for name, version in PACKAGES.items():
        if name != lacking:
            (site / f"{name}-{version}.dist-info").mkdir()
            (site / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    python = folder / "python"
    given = "".join(f"${{{name}}}," for name in GIVEN)
    python.write_text(
        f'#!/bin/sh\necho "{given}" >> "{folder / HEARD}"\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return python


@contextmanager
def pretended(folder: Path) -> Iterator[Path]:
    """Within it such an environment is LiteRT's, and nothing was converted before; it is where the user has none."""
    with at(str(make_environment(folder)), folder / "cache") as kept:
        yield kept


@contextmanager
def at(python: str, cache: Path) -> Iterator[Path]:
    """Within it LiteRT's environment is that of this Python; yields the folder of what is converted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environment.VARIABLE, python)
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.delenv(MODE, raising=False)
        _forget()
        try:
            yield cache / "wb" / "litert"
        finally:
            _forget()


def _forget() -> None:
    """A channel is one for each address in a process: those of another environment are closed."""
    for one in (LiteRt, LiteRtInt8):
        address.link_to(str(one.address)).close()
    address.link_to.cache_clear()
    address.greeting.cache_clear()


REAL = os.environ.get(environment.VARIABLE)
