"""Makes a `.tflite` file of an ONNX graph of fixed shapes: PYTHON to_litert.py GRAPH.onnx OUT.tflite fp32|int8

It is a program for an environment that has onnx2tf and, for int8, ai-edge-quantizer; it needs nothing else, and no `wb`.
int8 is weights in 8 bits by channel, whose products are with activations that are rounded to 8 bits in every run.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from importlib import import_module


def main(graph: str, out: str, precision: str) -> None:
    """Writes `out`, whole or not at all."""
    model = import_module("onnx").load(graph)
    # Without it constants that are nodes are an error of the converter.
    simplified, same = import_module("onnxsim").simplify(model)
    folder = os.path.join(os.path.dirname(os.path.abspath(out)), "converted")
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
    if precision == "int8":
        quantizer = import_module("ai_edge_quantizer").quantizer.Quantizer(made)
        quantizer.load_quantization_recipe(import_module("ai_edge_quantizer").recipe.dynamic_wi8_afp32())
        made = os.path.join(folder, "int8.tflite")
        quantizer.quantize().export_model(made, overwrite=True)
    shutil.move(made, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
