"""Names the classes of texts with the network in this folder; needs numpy, onnxruntime and tokenizers only.

python infer.py TEXT...      names the class of each text; --truncate reads the beginning alone of those that are too long
python infer.py --check      compares the tokenizer and the graphs with stored examples; the exit code is 1 if one differs
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
CARD = json.loads((HERE / "card.json").read_text(encoding="utf-8"))


def written(text: str, tokenizer: Tokenizer) -> NDArray[Any]:
    """The ids of a text (tokens)."""
    return np.array(tokenizer.encode(text).ids, np.int64)


def within(ids: Iterable[NDArray[Any]], truncate: bool) -> list[NDArray[Any]]:
    """The ids of texts, of those that are longer than the network reads the first, if they may be truncated."""
    found, most = list(ids), CARD["text"]["length"]
    long = [len(one) for one in found if len(one) > most]
    if long:
        told = f"{len(long)} of {len(found)} texts are longer than the {most} tokens that the network reads"
        if not truncate:
            sys.exit(f"{told}, the longest has {max(long)}; --truncate reads the beginning of each alone")
        print(f"{told}: the rest is cut", file=sys.stderr)
    return [one[:most] for one in found]


def fed(ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ids and mask of one text, (1, tokens); a text without tokens is one that does not count."""
    some = bool(len(ids))
    return (ids[None] if some else np.zeros((1, 1), np.int64)), np.full((1, max(1, len(ids))), int(some), np.int64)


def logits(graph: str, texts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """The scores (n, classes) of texts, each as its ids (tokens), one by one and so without padding."""
    session = onnxruntime.InferenceSession(str(HERE / graph), providers=["CPUExecutionProvider"])
    names, output = [one["name"] for one in CARD["inputs"]], CARD["output"]["name"]
    return np.concatenate([session.run([output], dict(zip(names, fed(one), strict=True)))[0] for one in texts])


def check() -> int:
    """1 if the tokenizer gives other ids or a graph other scores than were stored, else 0."""
    stored, failed = np.load(HERE / "check.npz", allow_pickle=False), 0
    known = [row[: int(count)] for row, count in zip(stored["ids"], stored["mask"].sum(axis=1), strict=True)]
    tokenizer = Tokenizer.from_file(str(HERE / CARD["text"]["tokenizer"]))
    for text, ids in zip(stored["texts"].tolist(), known, strict=False):
        if not np.array_equal(written(text, tokenizer)[: CARD["text"]["length"]], ids):
            print(f"{CARD['text']['tokenizer']}: other tokens than were stored for {text!r}")
            failed = 1
    for graph in CARD["graphs"]:
        found = logits(graph, known)
        scale = np.maximum(1, np.abs(stored["logits"]).max(axis=1, keepdims=True))
        worst = float((np.abs(found - stored["logits"]) / scale).max())
        good = worst <= float(stored["tolerance"])
        print(f"{graph}: differs by {worst:.2g} of the largest score, {'as it may' if good else 'which is too much'}")
        failed |= not good
    return int(failed)


if __name__ == "__main__":
    if not sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    labels, texts = CARD["labels"], [one for one in sys.argv[1:] if one != "--truncate"]
    reader = Tokenizer.from_file(str(HERE / CARD["text"]["tokenizer"]))
    given = within((written(text, reader) for text in texts), len(texts) < len(sys.argv) - 1)
    for text, scores in zip(texts, logits("model.onnx", given) if given else (), strict=True):
        chances = np.exp(scores - scores.max())
        print(f"{text}: {labels[int(scores.argmax())]} ({chances.max() / chances.sum():.1%})")
