"""Quantization: latency, accuracy and search cost of INT8 transformers, beside other quantizers.

    python benchmarks/quantization.py cost [--architectures 20]
    python benchmarks/quantization.py speed [--threads 2] [--rows 'int8|dynamic']
    python benchmarks/quantization.py accuracy --data idx:PATH/fashion-mnist [--limit 20000 --epochs 4 --seeds 0,1,2]

`speed`: ViT-Tiny (the largest network of preset `deit-tiny`) at 224x224, random weights, batch 1. All graphs are timed
together, in shuffled rounds (`wb.export.timing.measure`). Ours: policies of the architecture, by `wb.export.graph.export`.
Peers: the quantizers of ONNX Runtime and NNCF by their own functions, as their documentation says, on the graph that
`wb export` writes (`plain`), on that after ONNX Runtime's recommended pre-processing (`prepared`), and on the same network
in torch modules with q, k and v in one product, written by the dynamo exporter (`stock`). SQNR (signal over error of the
logits, in dB) and agreement (of the most likely class) are over 32 random images and against fp32; with random weights the
classes are nearly tied, so that agreement is pessimistic. Target: our default is at least as fast as the best peer.

`accuracy`: a vision transformer of width 96 with six blocks on 28x28 images, trained once for each seed; test accuracy of the
exported files, mean ± population standard deviation over the seeds. Latencies are ratios to the float file, timed together.
Quantizers that calibrate see training images without their labels. Target: int8 within 0.3 points of float.

`cost`: `wb.search.evaluate.Evaluator` on random architectures of preset `tiny` on digits, weights of an untrained supernet:
wall seconds of the same architecture in fp32 and in random precisions, one after the other in shuffled order. Target: at
most twice as long.

An interrupted run continues from --cache; a change of wb.export or wb.models makes
graphs and timings anew, not the trained models.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NNCF_CI", "1")  # NNCF sends nothing,
os.environ.setdefault("CI", "true")  # and writes no identity of the user

import torch
from quantization_accuracy import accuracy_rows
from quantization_cost import cost_rows
from quantization_speed import speed_rows
from tables import begin, parser_of


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("suite", choices=("speed", "accuracy", "cost"))
    parser.add_argument("--threads", type=int, default=1, help="of the runtime, in speed")
    parser.add_argument("--seconds", type=float, default=8.0, help="of timing for each graph, in speed and accuracy")
    parser.add_argument("--rows", default="", help="a regular expression; rows that it is found in, in speed")
    parser.add_argument("--architectures", type=int, default=20, help="in cost")
    parser.add_argument("--data", help="in accuracy")
    parser.add_argument("--limit", type=int, default=20_000, help="training images, in accuracy")
    parser.add_argument("--epochs", type=int, default=4, help="of training, in accuracy")
    parser.add_argument("--seeds", default="0,1,2", help="in accuracy")
    parser.add_argument("--cache", type=Path, default=Path("runs/quantization-benchmark/results.jsonl"))
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    {"speed": speed_rows, "accuracy": accuracy_rows, "cost": cost_rows}[options.suite](options, out)
    now, _, mean = os.getloadavg()
    out.say(f"load of the machine: {load:.1f} at the beginning, {now:.1f} at the end, {mean:.1f} over 15 minutes")


if __name__ == "__main__":
    main()
