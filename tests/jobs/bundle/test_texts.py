"""What the scripts of bundles make of texts is what `wb` makes of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import BPE

from tests.jobs.bundle.test_bundle import script
from wb.data.texts.pieces import tokenizer_of_pieces
from wb.data.texts.vocabulary import Vocabulary
from wb.export.graph import LENGTH_KEY, TOKENIZER_KEY
from wb.hardware.device import TOKENS_KEY
from wb.jobs.bundle.bundle import INFER_PROSE, INFER_TEXTS, MODEL, _write_tokenizer
from wb.jobs.bundle.card import TOKENIZER_FILE

PIECES = [["<unk>", 0], ["<s>", 0], ["</s>", 0], *([f"<0x{i:02X}>", 0] for i in range(256))]
PIECES += [["a", -3], ["b", -4], [" ", -5], [" a", -1], [" b", -2]]


class Foreseeing:
    """A network that foresees these tokens one after the other, and remembers what it was given."""

    def __init__(self, tokens: list[int], vocabulary: int) -> None:
        self.tokens, self.vocabulary, self.given, self.before = list(tokens), vocabulary, list[list[int]](), 0

    def begin(self) -> None:
        self.before = 0

    def __call__(self, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.given.append(ids[0].tolist())
        self.before += ids.shape[1]
        scores = np.full((1, ids.shape[1], self.vocabulary), -1e9)
        scores[0, -1, self.tokens.pop(0) if self.tokens else 0] = 0
        return scores


@pytest.fixture
def prose(tmp_path: Path) -> Callable[[list[int]], tuple[str, Foreseeing]]:
    """What the script of a bundle says behind "a" where its network foresees these tokens, and that network."""
    text = tokenizer_of_pieces(json.dumps(PIECES), Path("pieces.json"))
    vocabulary = Vocabulary(text, 64, 64)
    shutil.copyfile(INFER_PROSE, tmp_path / "infer.py")
    card = {"text": {"length": 64, "front": list(vocabulary.front)}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    module = script(tmp_path)

    def said(tokens: list[int], behind: str = "a", truncate: bool = False) -> tuple[str, Foreseeing]:
        module.TOKENS = len(tokens)  # type: ignore[attr-defined]
        run = Foreseeing(tokens, vocabulary.size)
        random = np.random.default_rng(0)
        return "".join(module.continued(behind, run, Tokenizer.from_str(text), random, truncate)), run

    return said


def test_a_prompt_begins_with_what_the_tokenizer_puts_in_front(
    prose: Callable[[list[int]], tuple[str, Foreseeing]],
) -> None:
    _, run = prose([262])
    assert run.given[0] == [1, 262]  # <s>, and "a" with its space


def test_the_space_of_the_first_piece_is_told(prose: Callable[[list[int]], tuple[str, Foreseeing]]) -> None:
    assert prose([263, 260, 262])[0] == " bb a"


def test_a_prompt_that_is_too_long_is_continued_at_its_end_if_that_is_asked_for(
    prose: Callable[..., tuple[str, Foreseeing]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        SystemExit, match="the text has 101 tokens, and the network reads 64; --truncate continues its end"
    ):
        prose([262], "b" * 100)
    _, run = prose([262], "b" * 100, truncate=True)
    assert len(run.given[0]) == 64
    assert "what is before them is cut" in capsys.readouterr().err


def test_texts_that_are_too_long_are_refused_or_truncated_by_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(INFER_TEXTS, tmp_path / "infer.py")
    (tmp_path / "card.json").write_text(json.dumps({"text": {"length": 2}}))
    within: Any = script(tmp_path).within
    given = [np.arange(3), np.arange(1)]
    with pytest.raises(
        SystemExit, match="1 of 2 texts are longer than the 2 tokens that the network reads, the longest has 3"
    ):
        within(given, truncate=False)
    assert [one.tolist() for one in within(given, truncate=True)] == [[0, 1], [0]]
    assert "1 of 2 texts are longer" in capsys.readouterr().err
    assert [one.tolist() for one in within(given[1:], truncate=False)] == [[0]]


def test_bytes_that_are_no_character_do_not_keep_the_rest_back(
    prose: Callable[[list[int]], tuple[str, Foreseeing]],
) -> None:
    assert prose([3 + 0xC3, 3 + 0xBC])[0] == "ü"
    assert prose([260, 3 + 0xC3])[0] == "b\ufffd"


def test_a_tokenizer_that_pads_cuts_and_draws_does_none_of_it_in_a_bundle(tmp_path: Path) -> None:
    tokenizer = Tokenizer(BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")], dropout=0.5))
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(2)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value])
    graph.output[0].name = "y"
    model = helper.make_model(graph)
    helper.set_model_props(model, {TOKENIZER_KEY: tokenizer.to_str(), LENGTH_KEY: "8", TOKENS_KEY: "8"})
    onnx.save(model, tmp_path / MODEL)
    _write_tokenizer(tmp_path / MODEL, tmp_path)
    plain = Tokenizer.from_file(str(tmp_path / TOKENIZER_FILE))
    assert all(plain.encode("abab").ids == [2, 2] for _ in range(20))
    assert plain.encode("ababab").ids == [2, 2, 2]
