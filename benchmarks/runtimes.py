"""ViT-Tiny on the runtimes that are installed, in one interleaved run: ONNX Runtime and OpenVINO, in floating point and int8.

ONNX Runtime is fast with ranges of activations that are found as they come (dynamic), OpenVINO with fixed ones (QDQ), and each is
also given what the other one wants. Weights are random, which no time depends on, and one thread computes. Ratios are to ONNX
Runtime in floating point; each sample lies between two of one reference graph. It has to be so that OpenVINO's QDQ is faster than
its floating point, and our dynamic graph slower on it.

    pip install 'wb[openvino]'
    python benchmarks/runtimes.py
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from quantization_speed import tiny
from tables import Table, begin, parser_of

from wb.compress.ptq.subject import of_model
from wb.core.measures.readings import ratio
from wb.core.specs import PIXELS
from wb.export.timing.measure import measure_latency
from wb.hardware.device import parse_device

CALIBRATION = 4  # random images
ORT, OV = "onnxruntime", "openvino"
FLOAT, DYNAMIC, QDQ = "fp32", "int8, ranges as they come", "int8, fixed ranges (QDQ)"


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of timing, at most")
    return parser


def main() -> None:
    options, out = begin(arguments())
    devices = {ORT: parse_device(), OV: parse_device("openvino")}
    with tempfile.TemporaryDirectory() as folder:
        paths = graphs(Path(folder))
        runs = {f"{runtime}: {kind}": path for runtime in devices for kind, path in paths.items()}
        on = {name: devices[name.partition(":")[0]] for name in runs}
        found = measure_latency(runs, devices[ORT], on=on, precision=0.02, cap_s=options.seconds)
    table = Table(
        "ViT-Tiny, 224 pixels, one image, one thread", ("runtime and graph", "ms", "ratio", "95 %", "samples")
    )
    against = found[f"{ORT}: {FLOAT}"].ratio
    ratios = {name: ratio(one.ratio, against) for name, one in found.items()}
    for name, one in found.items():
        low, high = ratios[name].interval or (ratios[name].value,) * 2
        ends = f"{low:.2f} to {high:.2f}"
        table.row(name, f"{one.reading.value:.1f}", f"{ratios[name].value:.2f}", ends, str(one.reading.n))
    out.table(table)
    for name, one in found.items():
        out.say(f"{name}: {one.reading.note}")
    wanted = ratios[f"{OV}: {QDQ}"].value < ratios[f"{OV}: {FLOAT}"].value < ratios[f"{OV}: {DYNAMIC}"].value
    out.say(f"On OpenVINO fixed ranges are faster than floating point, and others slower: {'yes' if wanted else 'no'}.")
    if not wanted:
        raise SystemExit(3)


def graphs(folder: Path) -> dict[str, Path]:
    """The graphs: in floating point, and with all products in 8 bits but the stem's."""
    subject = of_model(tiny())
    images = {PIXELS: np.random.default_rng(0).random((CALIBRATION, 3, 224, 224), dtype=np.float32)}
    choice = {group: "int8" for group in subject.groups if group != "stem"}
    found = {
        FLOAT: subject.graph,
        DYNAMIC: subject.lowered(choice),  # type: ignore[arg-type]
        QDQ: replace(subject, ranges=images, every=True).lowered(choice),  # type: ignore[arg-type]
    }
    paths = {}
    for number, (kind, graph) in enumerate(found.items()):
        paths[kind] = folder / f"{number}.onnx"
        paths[kind].write_bytes(graph.SerializeToString())
    return paths


if __name__ == "__main__":
    main()
