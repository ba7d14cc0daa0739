"""Continues texts with the network in this folder; needs numpy, onnxruntime and tokenizers only.

python infer.py TEXT...      continues each text, each token drawn as the network foresees it; --truncate continues the end
                             alone of texts that are longer than the network reads
python infer.py --check      compares the tokenizer and the graphs with stored examples; the exit code is 1 if one differs
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
CARD = json.loads((HERE / "card.json").read_text(encoding="utf-8"))
TOKENS, TEMPERATURE = 200, 0.8  # how many tokens are added, and what their scores are divided by
BYTES = 8  # tokens that are waited for at most while a character is cut


class Run:
    """A graph with what it keeps of the tokens of one text that it was given."""

    def __init__(self, graph: str) -> None:
        self.session = onnxruntime.InferenceSession(str(HERE / graph), providers=["CPUExecutionProvider"])
        self.begin()

    def begin(self) -> None:
        """Forgets the text."""
        sizes = {"batch": 1, "past": 0}
        self.before = 0
        self.past = {
            one.name: np.zeros([sizes.get(size, size) for size in one.shape], np.float32)
            for one in self.session.get_inputs()[2:]
        }

    def __call__(self, ids: NDArray[Any]) -> NDArray[Any]:
        """The scores (1, tokens, vocabulary) of what follows each of further tokens (1, tokens)."""
        self.before += ids.shape[1]
        mask = np.ones((1, self.before), np.int64)
        scores, *kept = self.session.run(None, {"input_ids": ids, "attention_mask": mask, **self.past})
        self.past = dict(zip(self.past, kept, strict=True))
        return np.asarray(scores)


def continued(
    text: str, run: Run, tokenizer: Tokenizer, random: np.random.Generator, truncate: bool = False
) -> Iterator[str]:
    """The text behind a text, as it comes; where it becomes longer than the network reads, its last half is read anew."""
    ids, most = [*CARD["text"]["front"], *tokenizer.encode(text, add_special_tokens=False).ids], CARD["text"]["length"]
    if not ids:
        return
    if len(ids) > most:
        told = f"the text has {len(ids)} tokens, and the network reads {most}"
        if not truncate:
            sys.exit(f"{told}; --truncate continues its end alone")
        print(f"{told}: what is before them is cut", file=sys.stderr)
    before, shown = len(ids) - 1, len(ids)  # behind a token, as some vocabularies write a first piece otherwise
    run.begin()
    scores = run(np.array([ids[-most:]], np.int64))
    for left in reversed(range(TOKENS)):
        chances = np.exp((scores[0, -1] - scores[0, -1].max()).astype(np.float64) / TEMPERATURE)
        ids.append(int(random.choice(len(chances), p=chances / chances.sum())))
        told, now = (tokenizer.decode(ids[before:end], skip_special_tokens=False) for end in (shown, len(ids)))
        if not (now.endswith("\ufffd") and left and len(ids) - shown < BYTES):  # a character that is cut
            yield now[len(told) :]
            before, shown = shown, len(ids)
        if run.before < most:
            scores = run(np.array([ids[-1:]], np.int64))
        else:
            run.begin()
            scores = run(np.array([ids[-max(1, most // 2) :]], np.int64))


def check() -> int:
    """1 if the tokenizer gives other ids or a graph other scores than were stored, whole and token by token, else 0."""
    stored, failed = np.load(HERE / "check.npz", allow_pickle=False), 0
    tokenizer = Tokenizer.from_file(str(HERE / CARD["text"]["tokenizer"]))
    for text, ids in zip(stored["texts"].tolist(), stored["written"], strict=True):
        if tokenizer.encode(text, add_special_tokens=False).ids != ids.tolist():
            print(f"{CARD['text']['tokenizer']}: other tokens than were stored for {text!r}")
            failed = 1
    scale = np.maximum(1, np.abs(stored["logits"]).max(axis=2, keepdims=True))
    for graph in CARD["graphs"]:
        run, steps = Run(graph), {"whole": stored["ids"].shape[1]} | ({"token by token": 1} if CARD["stepwise"] else {})
        for how, step in steps.items():
            found = np.concatenate([stepped(run, row[None], step) for row in stored["ids"]])
            worst = float((np.abs(found - stored["logits"]) / scale).max())
            good = worst <= float(stored["tolerance"])
            said = "as it may" if good else "which is too much"
            print(f"{graph}, {how}: differs by {worst:.2g} of the largest score, {said}")
            failed |= not good
    return int(failed)


def stepped(run: Run, ids: NDArray[Any], step: int) -> NDArray[Any]:
    """The scores of a text (1, tokens) that is given so many tokens at a time."""
    run.begin()
    return np.concatenate([run(ids[:, start : start + step]) for start in range(0, ids.shape[1], step)], axis=1)


if __name__ == "__main__":
    if not sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    reader = Tokenizer.from_file(str(HERE / CARD["text"]["tokenizer"]))
    graph, draws = Run("model.onnx"), np.random.default_rng(0)
    texts = [one for one in sys.argv[1:] if one != "--truncate"]
    for text in texts:
        print(text, end="", flush=True)
        for piece in continued(text, graph, reader, draws, len(texts) < len(sys.argv) - 1):
            print(piece, end="", flush=True)
        print()
