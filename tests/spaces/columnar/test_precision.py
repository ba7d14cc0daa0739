"""Precision as a choice: one gene for every group of linear maps."""

from __future__ import annotations

import random

import pytest

from wb.core.errors import BadOption, NotInSpace
from wb.core.precision import allowed, in_floating_point, precisions, with_precisions
from wb.core.records import ImageInput
from wb.core.space import random_choices
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.precision import gene_of, is_precision, kept_by_gene
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

SOME = ["int8,fp32", "int4,int8,fp32", "int8", "int4"]


def space(image: ImageInput, precision: str) -> Vit:
    return Vit(options_with(TINY, {"precision": precision.split(",")}), image, 3)


@pytest.mark.parametrize("precision", SOME)
def test_encode_inverts_decode(image: ImageInput, precision: str) -> None:
    vit, rng = space(image, precision), random.Random(0)
    for _ in range(50):
        choices = random_choices(vit, rng)
        architecture = vit.decode(choices)
        assert vit.encode(architecture) == choices
        assert all(p in allowed(architecture)[group] for group, p in precisions(architecture).items())


def test_a_gene_is_active_just_where_it_changes_the_architecture(image: ImageInput) -> None:
    vit, rng = space(image, "int4,int8,fp32"), random.Random(1)
    for _ in range(20):
        choices = random_choices(vit, rng)
        active, before = vit.active(choices), vit.decode(choices)
        for name, options in vit.genes.items():
            others = [vit.decode({**choices, name: option}) for option in options if option != choices[name]]
            assert any(other != before for other in others) is (name in active), name


def test_every_group_has_its_gene_and_no_other_gene_is_one_of_precision(image: ImageInput) -> None:
    vit = space(image, "int8,fp32")
    largest = vit.largest()
    assert {gene_of(group) for group in precisions(largest)} == {gene for gene in vit.genes if is_precision(gene)}
    assert set(kept_by_gene(largest).values()) == {"fp32"}


def test_without_a_choice_there_are_no_such_genes_and_networks_are_as_before(image: ImageInput) -> None:
    plain, joint = Vit(TINY, image, 3), space(image, "int8,fp32")
    assert not any(is_precision(gene) for gene in plain.genes)
    rng = random.Random(2)
    for _ in range(20):
        choices = random_choices(joint, rng)
        structure = {gene: option for gene, option in choices.items() if gene in plain.genes}
        assert in_floating_point(joint.decode(choices)) == plain.decode(structure)


def test_options_go_from_small_to_large_whatever_order_is_given(image: ImageInput) -> None:
    vit = space(image, "fp32,int4,int8")
    assert vit.options.precision == ("int4", "int8", "fp32")
    assert vit.genes["stem_precision"] == ("int8", "fp32")  # a convolution
    assert vit.genes["head_precision"] == ("int4", "int8", "fp32")
    assert set(precisions(space(image, "int4").largest()).values()) == {"fp32", "int4"}  # the stem cannot be int4
    assert precisions(vit.smallest())["head"] == "int4"
    assert set(precisions(vit.largest()).values()) == {"fp32"}


def test_the_smallest_network_comes_in_each_precision(image: ImageInput) -> None:
    found = space(image, "int8,fp32").smallest_of_each_precision()
    assert [set(precisions(a).values()) for a in found] == [{"int8"}, {"fp32"}]
    assert len({in_floating_point(a).key for a in found}) == 1
    assert Vit(TINY, image, 3).smallest_of_each_precision() == [Vit(TINY, image, 3).smallest()]


def test_what_cannot_be_searched_is_refused(image: ImageInput) -> None:
    for precision in ("w1,fp32", "int3", "int8,int8", ""):
        with pytest.raises(BadOption, match="precision"):
            space(image, precision)
    low = with_precisions(Vit(TINY, image, 3).largest(), {"head": "int8"})
    with pytest.raises(NotInSpace, match="head_precision='int8'"):
        Vit(TINY, image, 3).encode(low)


def test_groups_that_no_network_has_are_no_choices(image: ImageInput) -> None:
    pool = Vit(options_with(TINY, {"precision": ["int8", "fp32"], "mixer": ["none", "pool"]}), image, 3)
    assert not any(gene.endswith(("mixer_in", "mixer_out")) for gene in pool.genes)
    assert "b0.ffn_in" in pool.genes
    bare = Vit(options_with(TINY, {"precision": ["int8", "fp32"], "mlp": [0]}), image, 3)
    assert not any(gene.endswith(("ffn_in", "ffn_out")) for gene in bare.genes)
    for vit in (pool, bare):
        rng = random.Random(3)
        for _ in range(20):
            choices = random_choices(vit, rng)
            assert vit.encode(vit.decode(choices)) == choices


def test_the_genes_of_precision_are_coupled(image: ImageInput) -> None:
    assert space(image, "int8").coupled == ()
    vit = space(image, "int8,fp32")
    assert set(vit.coupled[0]) == {name for name in vit.genes if is_precision(name)}
    uniform = {**{name: options[-1] for name, options in vit.genes.items()}, **dict.fromkeys(vit.coupled[0], "int8")}
    assert set(precisions(vit.decode(uniform)).values()) == {"int8"}
