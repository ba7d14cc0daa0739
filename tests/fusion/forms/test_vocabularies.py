"""Parents with other tokenizers: tokens are matched by their text, and what a parent does not have stays the anchor's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from tests.catalogue import CATALOGUE, DECODERS
from tests.networks import exactly, images, random_model
from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.core.records import Nowhere
from wb.fusion.forms.compatible import adapted, check_together
from wb.fusion.forms.vocabularies import matched, tables
from wb.fusion.fuse import Fused, fuse
from wb.fusion.settings import Settings
from wb.models.model import Model, Step

A = CATALOGUE["text-softmax"]
WORDS = ["[UNK]", *(f"w{k}" for k in range(10))]  # as many as the networks of the catalogue know
ENCODER, TIED, OWN = A, DECODERS["linear"], DECODERS["softmax-bias-False"]


def words(texts: list[str]) -> str:
    """A tokenizer of words with ids in that order."""
    made = Tokenizer(models.WordLevel({text: i for i, text in enumerate(texts)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(made.to_str())


def reading(model: Model, tokenizer: str) -> Model:
    """The model with that tokenizer."""
    return model.then(Step(name="train", arguments={"tokenizer": tokenizer}))


def exact(architecture: Architecture, seed: int = 0) -> Model:
    """A random network in double precision."""
    found = random_model(architecture, seed, gain=1.0)
    return replace(found, weights={name: exactly(weight) for name, weight in found.weights.items()})


def sized(architecture: Architecture, **text: int) -> Architecture:
    """For another vocabulary, or other lengths."""
    return architecture.model_copy(update={"input": architecture.input.model_copy(update=text)})


def renumbered(model: Model, order: Tensor) -> Model:
    """The same network for ids in another order: its id i is what was `order[i]`."""
    weights = {**model.weights, **{name: model.weights[name][order] for name in tables(model.architecture)}}
    return reading(replace(model, weights=weights), words([WORDS[i] for i in order.tolist()]))


def both(one: Model, other: Model, method: str = "orth", anchor: int = 2, ids: Tensor | None = None) -> Fused:
    return fuse([one, other], ["one", "two"], Settings.model_validate({"method": method, "anchor": anchor}), ids)


@pytest.mark.parametrize("method", ["vanilla", "perm", "orth", "regress"])
@pytest.mark.parametrize("architecture", [ENCODER, TIED, OWN])
def test_a_network_whose_vocabulary_is_permuted_fuses_with_itself_into_itself(
    architecture: Architecture, method: str
) -> None:
    """Tables, a head that reads one, and a head of its own."""
    whole, ids = reading(exact(architecture), words(WORDS)), images(ENCODER, 12)
    ids = ids if architecture is ENCODER else ids.clamp(min=0)
    twin = renumbered(whole, torch.randperm(len(WORDS), generator=torch.Generator().manual_seed(3)))
    found = both(twin, whole, method, ids=ids if method == "regress" else None)
    assert any("11 of 11 tokens are matched by text" in note for note in found.notes)
    network, expected = found.model.network().double(), whole.network().double()
    close = 1e-3 if method == "regress" else 1e-6
    torch.testing.assert_close(network(ids), expected(ids), rtol=close, atol=close)
    if method == "vanilla":
        assert all(torch.equal(found.model.weights[name], whole.weights[name]) for name in tables(architecture))


@pytest.mark.parametrize("architecture", [ENCODER, TIED, OWN])
def test_rows_that_a_parent_does_not_have_are_the_anchors_and_its_own_are_left_out(architecture: Architecture) -> None:
    whole = reading(exact(architecture), words(WORDS))
    few = [*WORDS[:7], "other", "another"]
    rows = torch.tensor([0, 1, 2, 3, 4, 5, 6, 8, 9])
    lacking = replace(whole, architecture=sized(architecture, vocabulary=9), history=())
    weights = {**whole.weights, **{name: whole.weights[name][rows] for name in tables(architecture)}}
    lacking = reading(replace(lacking, weights=weights), words(few))
    found = both(lacking, whole, "vanilla")
    (note,) = [note for note in found.notes if "tokenizer" in note]
    assert "7 of 11 tokens are matched by text" in note
    assert "; of 4 the fused model has the rows of two alone, and 2 tokens" in note
    assert ("on the tokens of two, on which it was not trained" in note) == (architecture is not ENCODER)
    for name in tables(architecture):
        torch.testing.assert_close(found.model.weights[name], whole.weights[name])
    other = both(whole, lacking, "vanilla").model
    assert other.architecture.input.specs()[0].below == 9, "the anchor's"
    torch.testing.assert_close(other.weights["stem.table"], lacking.weights["stem.table"])


def test_averages_have_all_parents_in_rows_that_they_share_and_one_in_others() -> None:
    one, two = (exact(A, seed) for seed in (1, 2))
    first = reading(one, words([*WORDS[:6], *(f"x{k}" for k in range(5))]))
    second = reading(two, words(WORDS))
    table = both(first, second, "vanilla").model.weights["stem.table"]
    mean = (one.weights["stem.table"] + two.weights["stem.table"]) / 2
    torch.testing.assert_close(table[:6], mean[:6])
    torch.testing.assert_close(table[6:], two.weights["stem.table"][6:])


def test_a_token_that_a_parent_lacks_begins_as_the_mean_of_its_pieces() -> None:
    pieces = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "c": 2}, merges=[]))
    longer = Tokenizer(models.BPE(vocab={"b": 0, "a": 1, "c": 2, "ab": 3}, merges=[("a", "b")]))
    found = matched(str(pieces.to_str()), str(longer.to_str()), 5, 3)
    assert found.rows.tolist() == [1, 0, 2, -1, -1]
    table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [7.0, 7.0]])
    torch.testing.assert_close(
        found.table(table), torch.tensor([[0.0, 2.0], [1.0, 0.0], [7.0, 7.0], [0.5, 1.0], [0.0, 0.0]])
    )
    small = matched(str(longer.to_str()), str(pieces.to_str()), 3, 2)
    assert small.rows.tolist() == [1, 0, -1], "an id beyond the table is none"
    bare = str(Tokenizer(models.WordLevel({"a": 0}, unk_token="none")).to_str())
    assert matched(bare, str(pieces.to_str()), 3, 1).pieces == {}, "nothing stands for unknown words"


def test_tokenizers_with_little_in_common_and_positions_that_are_missing_are_refused() -> None:
    strange = words(["[UNK]", *(f"y{k}" for k in range(10))])
    with pytest.raises(
        Unsupported, match=r"of the 11 tokens of two one has 1 spelt alike, too few .* --tokenizer FILE"
    ):
        check_together([A, A], ["one", "two"], 1, [strange, words(WORDS)])
    turned = words(WORDS[::-1])
    longer = sized(A, length=9)
    with pytest.raises(Unsupported, match=r"one has positions for 7 tokens, and two reads up to 9; .*--anchor 1"):
        check_together([A, longer], ["one", "two"], 1, [turned, words(WORDS)])
    with pytest.raises(Unsupported, match="one has texts of"):
        check_together([longer, A], ["one", "two"], 1, [words(WORDS), words(WORDS)])


def test_positions_beyond_the_anchors_longest_text_are_left_out() -> None:
    long = exact(sized(A, length=9))
    found = adapted(reading(long, words(WORDS[::-1])), A, words(WORDS))
    torch.testing.assert_close(found.weights["position"], long.weights["position"][:-2])
    found.check()
    unplaced = [sized(one.model_copy(update={"position": Nowhere()}), length=n) for one, n in ((A, 7), (A, 9))]
    notes = check_together(unplaced, ["one", "two"], 1, [words(WORDS[::-1]), words(WORDS)])
    assert any("11 of 11" in note for note in notes)
