"""Each part of a comparison, against changes that the test made itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from tests.catalogue import CATALOGUE
from tests.export import foreign_graphs as graphs
from tests.networks import assembled, hybrid, images, of_digits, random_model, wired
from wb.core.architecture import Architecture, Block, Stage
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem, Pool, Softmax
from wb.jobs.diff.layers import NOT_FINITE, _mean, compare_layers
from wb.jobs.diff.lineage import common_readings, lineage
from wb.jobs.diff.outputs import compare_outputs, reordered
from wb.jobs.diff.record import Field, LayerRow, ReadingRow
from wb.jobs.diff.structure import compare_architectures
from wb.jobs.diff.values import compare_values
from wb.jobs.diff.weights import compare_weights, equal_weights, whole_distance
from wb.jobs.diff.words import over
from wb.models.axes import Select
from wb.models.model import Model, Step, remap_model


def nothing(what: str, done: int, of: int) -> None:
    """No one looks."""


def changed(a: Architecture, b: Architecture) -> list[Field]:
    return [row for row in compare_architectures(a, b) if row.differs]


# -------------------------------------------------------------------------------------------------------- architecture


@pytest.mark.parametrize("architecture", [of_digits(), hybrid()])
def test_an_architecture_does_not_differ_from_itself(architecture: Architecture) -> None:
    rows = compare_architectures(architecture, architecture)
    assert len(rows) > 20
    assert not changed(architecture, architecture)


def test_each_changed_width_is_one_field_and_the_order_is_that_of_execution() -> None:
    a = of_digits()
    block = Block(mixer=Softmax(heads=2, qk=3, v=6), ffn=Mlp(mlp=7))
    b = a.with_blocks(lambda name, old: block if name == "s0.b1" else old)
    assert changed(a, b) == [
        Field(place="s0.b1.mixer", name="qk", a="6", b="3"),
        Field(place="s0.b1.ffn", name="mlp", a="24", b="7"),
    ]
    places = list(dict.fromkeys(row.place for row in compare_architectures(a, b)))
    assert places[:2] == ["input", "stem"]
    assert places[-3:] == ["s0.b1.ffn", "last", "head"]


def test_a_part_that_is_missing_or_of_another_kind_is_one_field() -> None:
    a = of_digits(depth=1)
    (stage,) = a.stages
    b = a.model_copy(update={"stages": (stage.model_copy(update={"blocks": (Block(mixer=Pool()),)}),)})
    assert [(row.place, row.name, row.b) for row in changed(a, b)] == [
        ("s0.b0.mixer", "", "pool, kernel 3"),
        ("s0.b0.ffn", "", None),
    ]
    assert str(changed(a, b)[0].a).startswith("softmax, ")
    deeper = of_digits(depth=2)
    assert [row.place for row in changed(a, deeper)] == ["s0.b1.mixer", "s0.b1.ffn"]
    assert all(row.a is None for row in changed(a, deeper))


# ------------------------------------------------------------------------------------------------------------- weights


def test_distances_of_weights_are_what_they_are_said_to_be() -> None:
    a = {
        "same": torch.arange(3.0),
        "twice": torch.ones(4),
        "gone": torch.ones(2),
        "grown": torch.ones(2, 2),
        "zero": torch.zeros(2),
        "mask": torch.tensor([0.0, -torch.inf]),
        "odd": torch.tensor([1.0, torch.inf]),
    }
    b = {
        "same": torch.arange(3.0),
        "twice": 2 * torch.ones(4),
        "grown": torch.ones(2, 3),
        "zero": torch.ones(2),
        "new": torch.ones(1),
        "mask": torch.tensor([0.0, -torch.inf]),
        "odd": torch.tensor([1.0, 2.0]),
    }
    rows = {row.name: row for row in compare_weights(a, b)}
    assert list(rows) == ["same", "twice", "gone", "grown", "zero", "mask", "odd", "new"]
    assert (rows["same"].distance, rows["same"].differs) == (0, False)
    assert (rows["twice"].distance, rows["twice"].cosine) == pytest.approx((1, 1))
    assert [rows[name].note for name in ("gone", "grown", "zero", "new", "odd")] == [
        "only in A",
        "other shapes",
        "all zero in A",
        "only in B",
        "not finite",
    ]
    assert (rows["mask"].distance, rows["mask"].cosine) == (0, None)
    assert rows["odd"].distance is None
    assert (rows["grown"].a, rows["grown"].b) == ((2, 2), (2, 3))
    assert whole_distance(tuple(rows.values()), a, b) == pytest.approx((4 / (5 + 4)) ** 0.5)
    assert not equal_weights(a, b)
    assert equal_weights(a, dict(reversed(a.items())))


# -------------------------------------------------------------------------------------------------------------- layers


def layers(a: Model, b: Model, count: int = 5) -> dict[str, LayerRow]:
    rows, x, y = compare_layers(a.network(), b.network(), images(a.architecture, count), nothing)
    for model, logits in ((a, x), (b, y)):
        with torch.no_grad():
            assert torch.allclose(logits, model.network()(images(a.architecture, count)), atol=1e-5), "as it runs alone"
    return {row.name: row for row in rows}


@pytest.mark.parametrize("norm", ["pre", "post", "parallel"])
def test_a_model_has_no_distance_from_itself(norm: str) -> None:
    model = random_model(wired(of_digits(), norm))
    rows = layers(model, model)
    assert list(rows) == ["tokens", "s0.b0.mixer", "s0.b0.ffn", "s0.b1.mixer", "s0.b1.ffn"]
    assert all((row.distance, row.cka, row.where, row.note) == (0, 1, "both", None) for row in rows.values())


def test_streams_part_where_a_weight_differs_and_not_before() -> None:
    model = random_model(of_digits())
    name = "stages.0.1.mixer.wo"
    other = replace(model, weights={**model.weights, name: 2 * model.weights[name]})
    rows = layers(model, other)
    assert [row.distance == 0 for row in rows.values()] == [True, True, True, False, False]


def test_the_distance_is_that_of_all_tokens_of_all_images() -> None:
    """Also over several batches: of the streams themselves, read off the walk."""
    a, b = random_model(of_digits(), 0), random_model(of_digits(), 1)
    pixels = images(a.architecture, 100)
    rows, *_ = compare_layers(a.network(), b.network(), pixels, nothing)
    streams = []
    with torch.no_grad():
        for network in (a.network(), b.network()):
            state = network.begin(pixels)
            for at in network.walk():
                state = at(state)
            streams.append(state.stream.double())
    assert rows[-1].distance == pytest.approx(float((streams[0] - streams[1]).norm() / streams[0].norm()), rel=1e-5)


def test_a_permuted_stream_is_far_and_yet_alike() -> None:
    model = random_model(of_digits())
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    for row in layers(model, remap_model(model, {"s0.embed": Select(order)})).values():
        assert row.distance is not None
        assert row.distance > 0.5
        assert row.cka == pytest.approx(1, abs=1e-4)


def test_what_only_one_has_is_the_identity_of_the_other() -> None:
    model = random_model(of_digits())
    dropped = model.architecture.with_blocks(
        lambda name, block: block.model_copy(update={"ffn": None}) if name == "s0.b0" else block
    )
    weights = {n: w for n, w in model.weights.items() if not n.startswith(("stages.0.0.ffn", "stages.0.0.norm2"))}
    rows = layers(model, Model(dropped, weights))
    assert [row.where for row in rows.values()] == ["both", "both", "a", "both", "both"]
    assert rows["s0.b0.mixer"].distance == 0
    assert rows["s0.b0.ffn"].distance
    deeper = layers(Model(dropped, weights), random_model(of_digits(depth=3)))
    assert [deeper[f"s0.b2.{kind}"].where for kind in ("mixer", "ffn")] == ["b", "b"]


def test_values_that_are_not_finite_have_no_distance_and_are_named() -> None:
    model = random_model(of_digits(), 0)
    weights = {name: weight * (1e30 if name == "stages.0.1.ffn.up" else 1) for name, weight in model.weights.items()}
    broken = Model(model.architecture, {**weights, "stages.0.1.ffn.down": weights["stages.0.1.ffn.down"] * 1e30})
    rows, *_ = compare_layers(model.network(), broken.network(), torch.rand(4, 1, 8, 8), nothing)
    found = {row.name: (row.distance is None, row.cka is None, row.note) for row in rows}
    assert found["s0.b1.mixer"] == (False, False, None)
    assert found["s0.b1.ffn"] == (True, True, NOT_FINITE)


def test_other_widths_have_no_distance_and_other_tokens_are_pooled() -> None:
    a = random_model(of_digits())
    wide = layers(a, random_model(of_digits(embed=24)), 40)
    assert all(row.distance is None and row.widths == (16, 24) and 0 <= (row.cka or 0) <= 1 for row in wide.values())
    stages = of_digits().stages
    coarse = of_digits().model_copy(update={"stem": PatchStem(patch=4), "stages": stages})
    assert all(
        row.note == "means over tokens, whose numbers differ" for row in layers(a, random_model(coarse)).values()
    )


def test_stages_and_planes_may_differ() -> None:
    image = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
    flat = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(Block(mixer=Pool()),)),))
    rows = layers(random_model(hybrid()), random_model(flat), 8)
    assert (rows["s1.merge"].where, rows["s0.b0.mixer"].where, rows["s1.b0.ffn"].where) == ("a", "both", "a")


def test_mirror_images_are_left_out_where_only_one_sees_them() -> None:
    model = random_model(of_digits())
    seen = model.architecture.model_copy(
        update={"input": model.architecture.input.model_copy(update={"mirrored": True})}
    )
    rows = layers(model, Model(seen, model.weights))
    assert all(row.distance == pytest.approx(0, abs=1e-6) for row in rows.values())


def products(path: Path, factor: float, batch: int | str, second: str) -> Path:
    """x -> h = relu(x w) -> y = h v: of the second product's name."""
    weight = graphs.constant("w", factor * np.arange(12).reshape(4, 3), np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Relu", ["p"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], [second]),
    ]
    return graphs.save(graphs.model(nodes, [weight, graphs.floats("v", 3, 2)], {"x": [batch, 4]}, given=second), path)


@pytest.mark.parametrize("batch", ["n", 5])
def test_values_are_compared_where_both_graphs_name_them_alike(tmp_path: Path, batch: int | str) -> None:
    a, b = products(tmp_path / "a.onnx", 1, batch, "y"), products(tmp_path / "b.onnx", 3, batch, "z")
    inputs = np.random.default_rng(0).random((12, 4), dtype=np.float32)
    rows = compare_values(a, b, [inputs, inputs], nothing)
    assert [(row.name, row.widths) for row in rows] == [("p", (3, 3)), ("h", (3, 3))]
    assert [row.distance for row in rows] == pytest.approx([2, 2]), "a factor of three"
    assert [row.cka for row in rows] == pytest.approx([1, 1])
    assert [row.distance for row in compare_values(a, a, [inputs, inputs], nothing)] == [0, 0, 0]
    late = inputs.copy()
    late[7] = np.inf
    assert not compare_values(a, a, [late, late], nothing), "no value that is not finite for some image"
    assert not compare_values(a, a, [late[5:8]] * 2, nothing), "nor of the last image, though it fills no batch"
    assert len(compare_values(a, a, [inputs[:2]] * 2, nothing)) == 3


# ------------------------------------------------------------------------------------------------- outputs and lineage


def test_outputs_agree_as_they_are_counted() -> None:
    a = np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [2, 0, 0]])
    b = np.array([[2.0, 0, 0], [0, 2, 0], [2, 0, 0], [0, 0, 2]])
    found, why = compare_outputs(a, b, np.array([0, 1, 2, 2]), "data")
    assert why is None
    assert found is not None
    assert (found.agreement.value, found.images, found.largest, found.made_up) == (0.5, 4, 2, False)
    assert found.distance == pytest.approx((4 * 2**2) ** 0.5 / 4)
    assert found.accuracy is not None
    assert [one.value for one in found.accuracy] == [0.75, 0.75]
    assert found.paired is not None
    assert (found.paired.won, found.paired.lost) == (1, 1)
    same, _ = compare_outputs(a, a, None, "noise")
    assert same is not None
    assert (same.kl, same.distance, same.accuracy, same.made_up) == (0, 0, None, True)
    zeros = np.zeros_like(a)
    distances = [compare_outputs(zeros, other, None, "noise")[0] for other in (a, zeros)]
    assert [one and one.distance for one in distances] == [1, 0], "a number, whatever the outputs are"


def test_outputs_of_other_kinds_are_not_compared() -> None:
    a = np.zeros((4, 3))
    assert compare_outputs(a, np.zeros((4, 5)), None, "")[1] == (
        "predictions are not compared: one has 3 classes and the other 5"
    )
    for other in (a * np.nan, np.zeros((4, 3, 2))):
        assert "no finite class scores" in str(compare_outputs(a, other, None, "")[1])


def test_classes_in_another_order_are_matched_by_name() -> None:
    scores = np.arange(6.0).reshape(2, 3)
    found, note = reordered(scores, ("a", "b", "c"), ("c", "a", "b"))
    assert found.tolist() == [[1, 2, 0], [4, 5, 3]]
    assert "matched by name" in str(note)
    for own, other, word in ((("a", "b", "c"), ("x", "y", "z"), "by their order"), ((), ("x", "y", "z"), "None")):
        found, note = reordered(scores, own, other)
        assert found.tolist() == scores.tolist()
        assert word in str(note)


def test_histories_part_where_steps_differ() -> None:
    def step(name: str, value: float) -> Step:
        reading = Reading(value=value, unit="fraction", how="measured", interval=(value - 0.1, value + 0.1), n=9)
        return Step(
            name=name, arguments={"data": f"idx:/home/me/{name}"}, seed=0, readings={"test": reading, name: reading}
        )

    train, prune, tune = step("train", 0.5), step("prune", 0.4), step("tune", 0.9)
    found = lineage([train, prune], [train, tune], whole=True)
    assert [len(part) for part in (found.shared, found.a, found.b)] == [1, 1, 1]
    assert found.shared[0] == "train (data idx:/home/me/train, seed 0)"
    assert (lineage([train], [train, tune], whole=True).a, lineage([], [], whole=True).shared) == ((), ())
    graph = Step(name="train", arguments={"data": "idx:train"}, seed=0)
    assert not lineage([train], [graph], whole=True).shared
    assert lineage([train], [graph], whole=False).shared, "a graph has neither paths nor readings"
    (row,) = common_readings([train, prune], [tune])
    assert (row.name, row.a.value, row.b.value, row.alike) == ("test", 0.4, 0.9, False)


def test_readings_from_before_a_change_are_of_another_model() -> None:
    def read(**values: float) -> dict[str, Reading]:
        return {name: Reading(value=value, unit="fraction", how="measured", n=9) for name, value in values.items()}

    trained = [Step(name="finetune"), Step(name="score", readings=read(validation=0.8, test=0.7))]
    pruned = [*trained, Step(name="prune nvit", readings=read(acc=0.9, size=3))]
    (row,) = common_readings(trained, pruned)
    assert (row.name, row.a.value, row.b.value) == ("validation", 0.8, 0.9)
    assert common_readings(trained, [*trained, Step(name="finetune")]) == ()


def test_an_accuracy_is_no_multiple_of_a_perplexity() -> None:
    one, other = (Reading(value=2.0, unit=unit, how="measured", n=9) for unit in ("fraction", "ppl"))
    assert (over(one, other), over(other, other)) == ("–", "1.000x")
    row = ReadingRow(name="test", a=one.model_copy(update={"interval": (1.0, 3.0)}), b=other)
    assert not row.alike


def test_padding_of_texts_is_in_no_distance() -> None:
    """More of it changes nothing; where numbers of tokens differ, means are over those that count."""
    a = CATALOGUE["text-softmax"]
    one, other = (random_model(a, seed=seed).network() for seed in (0, 1))
    ids = images(a, 6)
    longer = torch.cat([ids, torch.full((6, 1), -1)], dim=1)[:, : a.layout.tokens]
    shown = [compare_layers(one, other, given, nothing)[0] for given in (ids, longer)]
    assert [row.name for row in shown[0]] == [row.name for row in shown[1]]
    for short, long in zip(*shown, strict=True):
        assert (short.distance, short.cka) == (
            pytest.approx(long.distance, rel=1e-5),
            pytest.approx(long.cka, rel=1e-4),
        )
    weights = torch.tensor([[True, True, False]])
    x = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert _mean(x, weights).tolist() == [[2.0]]
