"""What is kept of the answers on the test split: nothing is lost or added, and little is kept."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wb.core.errors import BadArtefact
from wb.data import Split
from wb.data.split import Images
from wb.search.results import answers
from wb.search.results.answers import MOST_MISTAKES, Answers, answered, collected, png, read_answers
from wb.tasks.classes import CLASSES


@pytest.mark.parametrize("seed", range(5))
def test_the_confusion_sums_to_what_was_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, n = 7, 200
    labels = rng.integers(classes, size=n)
    scores = rng.normal(size=(n, classes)).astype(np.float32)
    scores[np.arange(n), labels] += 1.5
    found = answered(CLASSES.votes(scores), labels)
    matrix = found.matrix(classes)
    grades = CLASSES.grade(scores, labels).each
    assert matrix.sum() == n
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=classes))
    np.testing.assert_array_equal(matrix.sum(axis=0), np.bincount(scores.argmax(axis=1), minlength=classes))
    assert matrix.trace() == grades.sum()
    assert len(found.mistakes) == min(MOST_MISTAKES, n - int(grades.sum()))
    for mistake in found.mistakes:
        assert not grades[mistake.image]
        assert (mistake.true, mistake.answer) == (labels[mistake.image], scores[mistake.image].argmax())
    chances = [mistake.probability for mistake in found.mistakes]
    assert chances == sorted(chances, reverse=True)


def wrong(n: int, side: int) -> tuple[Split, answers.NetworkAnswers]:
    """Images of noise, which cannot be made small, and a network that has all of them wrong."""
    images = np.random.default_rng(0).integers(256, size=(n, 3, side, side), dtype=np.uint8)
    labels = np.zeros(n, np.int64)
    return Images(images, labels), answered(np.tile([0.2, 0.8], (n, 1)), labels)


def test_pictures_are_the_images_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    split, network = wrong(20, 16)
    found = collected({3: network, 5: network}, split, ("a", "b"))
    assert sorted(found.pictures) == [mistake.image for mistake in network.mistakes] == list(range(MOST_MISTAKES))
    with Image.open(io.BytesIO(base64.b64decode(found.pictures[2]))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), split.images[2].transpose(1, 2, 0))
    monkeypatch.setattr(answers, "MOST_BYTES", 2500)
    few = collected({3: network}, split, ("a", "b")).pictures
    assert 1 <= len(few) < MOST_MISTAKES
    assert sum(map(len, few.values())) <= 2500


def test_large_pictures_are_made_smaller() -> None:
    with Image.open(io.BytesIO(base64.b64decode(png(np.zeros((1, 300, 150), np.uint8))))) as picture:
        assert (picture.mode, picture.size) == ("L", (48, 96))


def test_it_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    assert read_answers(path) is None
    split, network = wrong(3, 8)
    whole = collected({7: network}, split, ("a", "b"))
    path.write_text(whole.model_dump_json())
    assert read_answers(path) == whole
    for change in (
        {"classes": ["a"]},
        {"pictures": {"0": "javascript:alert(1)"}},
        {"pictures": {"0": base64.b64encode(b"<svg>").decode()}},
        {"networks": {"7": {"confusion": [[0, 1, -3]]}}},
        {"networks": {"7": {"confusion": [[0, 9, 1]]}}},
    ):
        path.write_text(json.dumps({**json.loads(whole.model_dump_json()), **change}))
        with pytest.raises(BadArtefact, match=r"answers\.json is damaged .* delete it"):
            read_answers(path)
    assert Answers(classes=("a",), networks={}).pictures == {}
