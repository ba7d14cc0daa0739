"""How to use a network's file: a script that needs the runtime, numpy and Pillow only."""

from __future__ import annotations

import json

from wb.core.architecture import Architecture
from wb.data.spec import Spec

_SCRIPT = """\
import json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession({graph}, providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["wb.labels"])

def predict(path):
    picture = ImageOps.exif_transpose(Image.open(path))
{picture}
    pixels = np.asarray(picture, np.float32){axes} / 255
    (scores,) = session.run(["logits"], {{"pixel_values": pixels[None]}})
    chances = np.exp(scores[0] - scores[0].max())
    return dict(zip(classes, (chances / chances.sum()).tolist()))

for path in sys.argv[1:]:
    chances = predict(path)
    best = max(chances, key=chances.get)
    print(f"{{path}}: {{best}} ({{chances[best]:.1%}})")
"""
_FLAT = """\
    if picture.has_transparency_data:  # laid on the background that the network was trained with
        layers = picture.convert("RGBA")
        picture = Image.new("RGBA", layers.size, {background})
        picture.alpha_composite(layers)"""


def script(graph: str, architecture: Architecture, data: str) -> str:
    """A Python script that classifies the pictures named on its command line with the network in the file `graph`.

    It prepares pictures as the workbench does: upright, flat, in the channels and at the size of `architecture`'s input. `data`
    is the specification of the data that it was trained with, which names a background for transparent pictures.

    Limits: pictures of 16 bits are clipped by Pillow where the workbench scales them.
    """
    channels, height, width = architecture.input.channels, architecture.input.height, architecture.input.width
    lines = [
        _FLAT.format(background=json.dumps(Spec.parse(data).background)),
        f"    picture = picture.convert({json.dumps('L' if channels == 1 else 'RGB')})",
        f"    picture = ImageOps.fit(picture, ({width}, {height}), Image.Resampling.BICUBIC)",
    ]
    axes = "[None]" if channels == 1 else ".transpose(2, 0, 1)"
    return _SCRIPT.format(graph=json.dumps(graph), picture="\n".join(lines), axes=axes)
