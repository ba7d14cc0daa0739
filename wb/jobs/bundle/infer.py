"""Classifies pictures with the network in this folder; needs numpy, onnxruntime and Pillow only.

python infer.py PICTURE...   names the class of each picture (or of an array of the network's inputs, a .npy file)
python infer.py --check      compares the graphs with stored examples; the exit code is 1 if one differs

Graphs for other runtimes, where there are some, need these in the place of onnxruntime:

python infer.py --graph FILE PICTURE...   the same with such a graph
python infer.py --check FILE...           compares only these
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
CARD = json.loads((HERE / "card.json").read_text(encoding="utf-8"))


def prepared(path: str) -> NDArray[Any]:
    """The network's input (channels, height, width) for a picture, by the steps in card.json."""
    if path.endswith(".npy"):
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    steps = CARD["preprocessing"]
    if steps is None:
        sys.exit(f"this network takes no pictures but arrays {CARD['input']['shape'][1:]}; give a .npy file")
    from PIL import Image, ImageColor, ImageOps

    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.has_transparency_data:
        layers = picture.convert("RGBA")
        picture = Image.new("RGBA", layers.size, (*ImageColor.getrgb(steps["background"])[:3], 255))
        picture.alpha_composite(layers)
    size = (steps["width"], steps["height"])
    picture = ImageOps.fit(picture.convert(steps["mode"]), size, Image.Resampling[steps["resample"]])
    pixels = np.asarray(picture, np.float32) / np.float32(steps["divide_by"])
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def logits(graph: str, images: NDArray[Any]) -> NDArray[Any]:
    """The scores (n, classes) of images (n, channels, height, width), one by one."""
    run = loaded(str(HERE / graph))
    name, output = CARD["input"]["name"], CARD["output"]["name"]
    return np.concatenate([np.array(run({name: image[None]})[output]) for image in images])


def loaded(path: str) -> Callable[[dict[str, NDArray[Any]]], Any]:
    """What gives the outputs of a graph by name, with the runtime that its file is for."""
    if path.endswith(".tflite"):
        run = import_module("ai_edge_litert.interpreter").Interpreter(model_path=path).get_signature_runner()
        return lambda inputs: run(**inputs)
    if path.endswith(".xml"):
        # Its own choice may be a type with fewer bits.
        compiled = import_module("openvino").compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda inputs: compiled(inputs)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def check(*graphs: str) -> int:
    """1 if a graph, of these or those of onnxruntime, gives other scores than were stored, else 0."""
    stored, failed = np.load(HERE / "check.npz", allow_pickle=False), 0
    for graph in graphs or CARD["graphs"]:
        found = logits(graph, stored["images"])
        scale = np.maximum(1, np.abs(stored["logits"]).max(axis=1, keepdims=True))
        worst = float((np.abs(found - stored["logits"]) / scale).max())
        good = worst <= float(CARD["others"].get(graph, {}).get("tolerance") or stored["tolerance"])
        print(f"{graph}: differs by {worst:.2g} of the largest score, {'as it may' if good else 'which is too much'}")
        failed |= not good
    return int(failed)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--check"]:
        sys.exit(check(*given[1:]))
    chosen, *paths = given[1:] or [""] if given[:1] == ["--graph"] else ["model.onnx", *given]
    if not paths:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    for path, scores in zip(paths, logits(chosen, np.stack([prepared(p) for p in paths])), strict=True):
        chances = np.exp(scores - scores.max())
        print(f"{path}: {labels[int(scores.argmax())]} ({chances.max() / chances.sum():.1%})")
