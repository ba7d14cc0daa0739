"""Makes a `.tflite` file of an ONNX graph of fixed shapes, or one in 8 bits of one in float:

PYTHON to_litert.py GRAPH.onnx OUT.tflite
PYTHON to_litert.py FLOAT.tflite OUT.tflite

It is a program for an environment that has onnx2tf and ai-edge-quantizer; it needs nothing else, and no `wb`. Weights in 8 bits
are so by channel, and their products are with activations that are rounded to 8 bits in every run.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from importlib import import_module


def convert(graph: str, folder: str) -> str:
    """Converts an ONNX graph in float; the path of what was made."""
    model = import_module("onnx").load(graph)
    # Without it constants that are nodes are an error of the converter.
    simplified, same = import_module("onnxsim").simplify(model)
    import_module("onnx2tf").convert(
        onnx_graph=simplified if same else model,
        output_folder_path=folder,
        # Channels stay in front; otherwise it also fetches sample images for graphs that take three of them.
        keep_shape_absolutely_input_names=[one.name for one in model.graph.input],
        copy_onnx_input_output_names_to_tflite=True,
        not_use_onnxsim=True,
        non_verbose=True,
        verbosity="error",
    )
    (made,) = glob.glob(os.path.join(folder, "*_float32.tflite"))
    return made


def quantize(file: str, folder: str) -> str:
    """Quantizes weights dynamically; the path of what was made."""
    library, out = import_module("ai_edge_quantizer"), os.path.join(folder, "int8.tflite")
    quantizer = library.quantizer.Quantizer(file)
    quantizer.load_quantization_recipe(library.recipe.dynamic_wi8_afp32())
    quantizer.quantize().export_model(out, overwrite=True)
    return out


def main(given: str, out: str) -> None:
    """Writes `out`, whole or not at all."""
    folder = os.path.join(os.path.dirname(os.path.abspath(out)), "converted")
    os.makedirs(folder)
    shutil.move((quantize if given.endswith(".tflite") else convert)(given, folder), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
