"""A split of texts: what networks and graphs are given, and in which batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wb.core.errors import Unsupported
from wb.core.specs import IDS, MASK
from wb.data.batches import batches
from wb.data.dataset import fingerprint_of
from wb.data.texts.split import BEFORE, Texts
from wb.data.texts.tables import texts_of
from wb.data.texts.vocabulary import BPE, WORDS, vocabulary_of

LINES = [" ".join(["card", "late", "here", "now"][i % 4] for i in range(n % 9 + 1)) for n in range(60)]


@pytest.fixture(scope="module")
def split() -> Texts:
    return texts_of(LINES, [i % 3 for i in range(60)], vocabulary_of(LINES, WORDS))


def test_padding_is_behind_the_text_and_said_in_the_mask(split: Texts) -> None:
    ids, feed = split.inputs(np.array([3, 0])), split.feed(np.array([3, 0]))
    assert ids.shape == (2, 4)
    assert ids[1].tolist() == [ids[0, 0], -1, -1, -1]
    assert feed[MASK].tolist() == [[1] * 4, [1, 0, 0, 0]]
    assert np.array_equal(feed[IDS], np.where(ids < 0, 0, ids))


def test_taking_is_of_texts_labels_and_ids(split: Texts) -> None:
    part = split.take(np.array([5, 2]))
    assert part.lines.tolist() == [LINES[5], LINES[2]]
    assert part.labels.tolist() == [2, 2]
    assert np.array_equal(part.inputs(), split.inputs(np.array([5, 2])))
    assert np.array_equal(split.take(slice(4, 9)).inputs(), split.inputs(slice(4, 9)))


def test_an_epoch_has_every_text_once_in_batches_of_about_one_length(split: Texts) -> None:
    generator = torch.Generator().manual_seed(0)
    found = list(batches(split, 4, shuffle=True, generator=generator))
    assert sum(len(labels) for _, labels in found) == 60
    rows = sorted(tuple(one for one in row if one >= 0) for ids, _ in found for row in ids.tolist())
    assert rows == sorted(tuple(one for one in row if one >= 0) for row in split.inputs().tolist())
    padding = sum(int((ids < 0).sum()) for ids, _ in found)
    assert padding <= 60, "nine lengths in fifteen batches of one chunk: one token a text at most"
    again = list(batches(split, 4, shuffle=True, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(found, again, strict=True))
    assert len(found) <= BEFORE


def test_the_typical_batch_is_about_as_long_as_batches_are(split: Texts) -> None:
    """Not as the first texts are, of which the longest stands for all."""
    batch = split.typical(4)
    longest = [ids.shape[1] for ids, _ in batches(split, 4, shuffle=True, generator=torch.Generator().manual_seed(0))]
    assert len(batch) == 4
    assert abs(split.ragged.counts[batch].max() - np.mean(longest)) <= 1
    assert sorted(split.typical(100).tolist()) == list(range(60))


def test_scoring_sees_every_text_once_by_length(split: Texts) -> None:
    order = np.concatenate([np.arange(60)[index] for index in split.together(7)])
    assert sorted(order.tolist()) == list(range(60))
    assert (np.diff(split.ragged.counts[order]) >= 0).all()


def test_an_epoch_may_write_the_same_texts_otherwise() -> None:
    split = texts_of(LINES, [0] * 60, vocabulary_of(LINES, BPE))
    other = split.varied(0.5, 3)
    assert other.lines is split.lines
    assert len(other.ragged.ids) > len(split.ragged.ids)
    assert split.varied(0.0, 3) is split
    assert other.ragged.counts.max() <= split.vocabulary.length


def test_a_fingerprint_is_of_the_tokenizer_and_the_longest_text_too(split: Texts) -> None:
    labels = ("a", "b", "c")
    other = split.written_by(vocabulary_of(LINES, BPE))
    shorter = split.written_by(vocabulary_of(LINES, WORDS, 3))
    found = {fingerprint_of(labels, one) for one in (split, other, shorter)}
    assert len(found) == 3
    assert fingerprint_of(labels, split.written_by(vocabulary_of(LINES, WORDS))) in found


def test_what_is_made_for_images_says_so(split: Texts) -> None:
    with pytest.raises(Unsupported, match="made for images, and the data are texts; name images with --data"):
        split.pixels()
    with pytest.raises(Unsupported, match="the data are texts"):
        assert split.images.size
