"""How to use a network's file: a script that needs the runtime, numpy and Pillow, or tokenizers, only."""

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


_TEXT = """\
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession({graph}, providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
classes, tokenizer = json.loads(metadata["wb.labels"]), Tokenizer.from_str(metadata["wb.tokenizer"])

def predict(text):
    ids = np.array([tokenizer.encode(text).ids], np.int64)
    if ids.shape[1] > {length}:
        sys.exit(f"{{text!r}} has {{ids.shape[1]}} tokens, and the network reads {length}: shorten it")
    (scores,) = session.run(["logits"], {{"input_ids": ids, "attention_mask": np.ones_like(ids)}})
    chances = np.exp(scores[0] - scores[0].max())
    return dict(zip(classes, (chances / chances.sum()).tolist()))

for text in sys.argv[1:]:
    chances = predict(text)
    best = max(chances, key=chances.get)
    print(f"{{text}}: {{best}} ({{chances[best]:.1%}})")
"""


_PROSE = """\
import sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession({graph}, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_str(session.get_modelmeta().custom_metadata_map["wb.tokenizer"])
names = [given.name for given in session.get_inputs()][2:]
random = np.random.default_rng(0)

def continued(text, tokens=100):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if not ids:
        return text
    if len(ids) > {length}:
        sys.exit(f"{{text!r}} has {{len(ids)}} tokens, and the network reads {length}: shorten it")
    given = np.array([ids], np.int64)
    past = [np.zeros([{{"batch": 1, "past": 0}}.get(n, n) for n in one.shape], np.float32) for one in session.get_inputs()[2:]]
    for _ in range(min(tokens, {length} - len(ids))):
        mask = np.ones((1, len(ids)), np.int64)
        scores, *past = session.run(None, {{"input_ids": given, "attention_mask": mask, **dict(zip(names, past))}})
        chances = np.exp((scores[0, -1] - scores[0, -1].max()).astype(np.float64) / 0.8)
        ids.append(int(random.choice(len(chances), p=chances / chances.sum())))
        given = np.array([ids[-1:]], np.int64)
    return tokenizer.decode(ids, skip_special_tokens=False)

for text in sys.argv[1:]:
    print(continued(text))
"""


def script(graph: str, architecture: Architecture, data: str) -> str:
    """A Python script that classifies the pictures named on its command line with the network in the file `graph`.

    It prepares pictures as the workbench does: upright, flat, in the channels and at the size of `architecture`'s input. `data`
    is the specification of the data that it was trained with, which names a background for transparent pictures. A network for
    texts classifies those on the command line, or continues them.

    Limits: pictures of 16 bits are clipped by Pillow where the workbench scales them.
    """
    if architecture.causal:
        return _PROSE.format(graph=json.dumps(graph), length=architecture.layout.tokens)
    if architecture.input.usual_tokens is not None:
        return _TEXT.format(graph=json.dumps(graph), length=architecture.layout.shape[0])
    channels, height, width = architecture.image.channels, architecture.image.height, architecture.image.width
    lines = [
        _FLAT.format(background=json.dumps(Spec.parse(data).background)),
        f"    picture = picture.convert({json.dumps('L' if channels == 1 else 'RGB')})",
        f"    picture = ImageOps.fit(picture, ({width}, {height}), Image.Resampling.BICUBIC)",
    ]
    axes = "[None]" if channels == 1 else ".transpose(2, 0, 1)"
    return _SCRIPT.format(graph=json.dumps(graph), picture="\n".join(lines), axes=axes)
