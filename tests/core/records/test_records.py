"""What every record says of itself: a new one is tested by existing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage, axes_of_part, axis_dims, axis_sizes, kinds_of_axes
from wb.core.precision import allowed, precisions, with_precisions
from wb.core.records import (
    FFNS,
    MIXERS,
    STEMS,
    Hash,
    ImageInput,
    Lmu,
    Mlp,
    Nowhere,
    Part,
    PatchStem,
    Pool,
    Softmax,
    dims,
    groups,
    kind_of,
)
from wb.core.records.ffns import Inverted
from wb.core.records.norms import BatchNorm

PARTS: tuple[type[Part], ...] = (*MIXERS, *FFNS, *STEMS)
every = pytest.mark.parametrize("kind", PARTS, ids=kind_of)
mixers = pytest.mark.parametrize("kind", [kind for kind in MIXERS if kind.supports.grid], ids=kind_of)


def network(image: ImageInput, **changes: object) -> Architecture:
    content: dict[str, Any] = {"input": image, "stem": PatchStem(patch=2), "stages": (Stage(embed=8, blocks=()),)}
    return assembled(**{**content, **changes})


def of(image: ImageInput, mixer: Any, **changes: object) -> Architecture:
    if "tokens" in mixer.supports.planes:
        return network(image, stages=(Stage(embed=8, blocks=(Block(mixer=mixer, ffn=Mlp(mlp=5)),)),), **changes)
    block = Block(mixer=mixer, ffn=Inverted.sample(), norm=BatchNorm())
    changes = {"position": Nowhere(), "last": BatchNorm(), **changes}
    return network(image, stages=(Stage(embed=8, plane="map", blocks=(block,)),), **changes)


@every
def test_examples_have_all_widths_and_no_two_alike(kind: type[Part]) -> None:
    record = kind.sample()
    sizes = [getattr(record, name) for name in dims(kind)]
    assert len(set(sizes)) == len(sizes)
    assert set(dims(kind)) <= set(kind.example), "none is left to its default"


@every
def test_there_is_a_title_for_tables_and_a_source(kind: type[Part]) -> None:
    assert kind.title
    assert kind.source
    titles = [dim.title for dim in dims(kind).values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)


@every
def test_widths_lie_within_widths_of_the_same_record(kind: type[Part]) -> None:
    for dim in dims(kind).values():
        assert dim.within is None or (dim.within in dims(kind) and dims(kind)[dim.within].late < dim.late)


def test_axes_of_a_block_are_called_by_one_name() -> None:
    """They are named after the block, not after the mixer or feed-forward."""
    for mixer in MIXERS:
        for ffn in FFNS:
            assert not set(dims(mixer)) & set(dims(ffn))


@every
def test_what_is_settled_is_settled(kind: type[Part]) -> None:
    record = kind.sample()
    settled = record.settled(list(dims(kind)))
    assert record.settled([]) == record
    assert settled.settled(list(dims(kind))) == settled
    assert settled.factor == record.factor
    assert settled.structure() == record.structure() == record.structure().structure()
    assert record.unit().factor == 1
    wider = settled.model_copy(update={name: 2 * getattr(record, name) for name in dims(kind)})
    assert wider.factor == record.factor, "nothing changes with a width any more"


def test_a_scale_is_frozen_where_its_channels_change() -> None:
    record = Softmax(heads=2, qk=4, v=6)
    assert (record.factor, record.settled(["heads", "v"]), record.settled(["qk"]).scale) == (0.5, record, 0.5)


@every
def test_groups_have_the_precisions_of_their_fields(kind: type[Part]) -> None:
    endings = groups(kind)
    own = {ending for field, ending in (("reads", ".in"), ("writes", ".out")) if field in kind.model_fields}
    assert set(endings) == ({""} if kind in STEMS else own)
    for field, options in endings.values():
        for precision in options:
            assert getattr(kind.model_validate({**kind.example, field: precision}), field) == precision


@mixers
def test_what_a_record_cannot_do_is_refused_with_what_can(image: ImageInput, kind: type[Part]) -> None:
    if kind.supports.prefix:
        assert next(of(image, kind.sample(), prefix=1).layouts()).prefix == 1
        return
    on_map = "tokens" not in kind.supports.planes
    words = (
        "map, where prefix=1 has no place"
        if on_map
        else rf"mixer '{kind_of(kind)}' of s0\.b0 reads .* use prefix=0 or mixer .*softmax"
    )
    with pytest.raises(ValueError, match=words):
        of(image, kind.sample(), prefix=1)


def test_ways_out_of_a_refusal_are_not_refused_themselves(image: ImageInput) -> None:
    with pytest.raises(ValueError, match=r"use prefix=0 with pool='mean' or mixer .*softmax") as caught:
        of(image, Pool.sample(), pool="cls")
    assert of(image, Pool.sample(), pool="mean").prefix == 0
    assert "hash" not in str(caught.value)  # training cannot find its constants


@mixers
def test_parts_are_changed_one_by_one(image: ImageInput, kind: type[Part]) -> None:
    a = of(image, kind.sample())
    names = [name for name, _ in a.parts()]
    assert names == ["stem", "s0.b0.mixer", "s0.b0.ffn", "head"]
    assert a.with_parts(lambda _, part: part) == a
    assert [axis for name, part in a.parts() for axis in axes_of_part(name, part)] == [
        n for n in axis_sizes(a) if n != "s0.embed"
    ]
    assert list(axis_dims(a)) == list(axis_sizes(a))
    assert list(kinds_of_axes([a])) == [axis.rsplit(".", 1)[1] for axis in axis_sizes(a)]
    for group, options in allowed(a).items():
        for precision in options:
            assert precisions(with_precisions(a, {group: precision}))[group] == precision


def test_ordered_widths_are_never_scored_and_fitted_ones_are_ordered() -> None:
    known = {name: dim for kind in PARTS for name, dim in dims(kind).items()}
    assert not [name for name, dim in known.items() if dim.ordered and dim.scored]
    assert not [name for name, dim in known.items() if dim.fitted and not dim.ordered]


def test_preparing_is_work_for_each_size_once() -> None:
    one, other = Lmu(memory=5, hidden=7), Lmu(memory=5, hidden=9)
    assert one.preparation(16) == other.preparation(16) != one.preparation(4)
    assert Hash.sample().preparation(16) is None
