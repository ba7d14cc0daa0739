"""Libraries and scores: that wholes are the model, that what is left out is made up for, and that going on is reading."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor

from tests.networks import assembled, hybrid, images, random_model, wired
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact
from wb.core.precision import with_precisions
from wb.core.program import solve
from wb.core.records import Attention, ImageInput, Mlp, PatchStem, Softmax, dims, kind_of
from wb.models.counting import count_macs
from wb.models.layers.planes import as_tokens
from wb.models.model import Model, remap_model
from wb.models.network import skeleton
from wb.search.alternatives.choose import Chooser
from wb.search.alternatives.combined import Alternative, combined
from wb.search.alternatives.costs import costs_of
from wb.search.alternatives.library import Library
from wb.search.alternatives.mixers import others
from wb.search.alternatives.option import NONE, WHOLE, Option, sizes, unit_of
from wb.search.alternatives.scores import Scores
from wb.spaces.operators import OFFERED
from wb.training.refit.streams import Streams
from wb.training.refit.trace import network_of

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
BLOCK = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=16))
A = assembled(input=IMAGE, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(BLOCK, BLOCK)),))
TOKEN = assembled(input=IMAGE, stem=PatchStem(patch=4), stages=(Stage(embed=8, blocks=(BLOCK,)),), pool="cls")
STAGES = assembled(
    input=IMAGE, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(BLOCK,)), Stage(embed=12, blocks=(BLOCK,)))
)


def logits(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.network()(x)
    return found


def scored(model: Model, folder: Path, mixers: Sequence[str] = ()) -> Scores:
    x = images(model.architecture, 60)
    library = Library(folder, model, mixers=mixers)
    library.make(x[:40])
    return Scores(library, x[40:])


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    return scored(random_model(A, gain=1.0), tmp_path_factory.mktemp("simple"))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other mixers are hardly taught."""
    monkeypatch.setattr("wb.search.alternatives.library.STEPS", 3)


@pytest.mark.parametrize(
    ("a", "mixers"),
    [
        (A, ["auto"]),
        (TOKEN, ["performer"]),
        (STAGES, ()),
        (wired(A, "post"), ()),
        (wired(A, "parallel"), ()),
        (hybrid(), ["linear"]),
    ],
)
def test_wholes_are_the_model_and_scores_are_what_they_do(
    a: Architecture, mixers: Sequence[str], tmp_path: Path
) -> None:
    model = random_model(a, gain=1.0)
    scores = scored(model, tmp_path, mixers)
    named = [option.mixer for of in scores.options.values() for option in of.values() if option.mixer]
    assert bool(named) == bool(mixers)
    x = scores.images
    whole = dict.fromkeys(scores.library.slots, WHOLE)
    assert torch.equal(logits(scores.model_of(whole), x), logits(scores.library.model, x))
    torch.testing.assert_close(logits(scores.library.model, x), logits(model, x), rtol=1e-3, atol=1e-4)
    found = scores.make()
    assert set(found) == {(slot, name) for slot, options in scores.options.items() for name in options}
    assert all(one.value >= 0 for one in found.values())
    assert scores.true(whole).value == 0
    for slot in scores.library.slots:  # replaced alone, from the streams before it, and in the whole network
        for name in scores.options[slot]:
            assert found[slot, name].value == pytest.approx(scores.true({slot: name}).value, rel=1e-3, abs=1e-7)


def test_fitted_writers_come_nearer_than_those_that_were_there(simple: Scores) -> None:
    """Than the same units with the columns of the model's writer; in the mean, as those are of other images."""
    model, x = simple.library.model, simple.images
    true, ratios = logits(model, x), []
    for slot in simple.options:
        for name, (option, own) in simple.library.read(slot).items():
            if option.fitted and 1e-4 < option.error < 0.9:
                assert own, "it has a writer of its own"
                fitted, cut = (
                    logits(one, x) - true for one in (simple.model_of({slot: name}), remap_model(model, option.maps))
                )
                ratios.append(float(fitted.square().mean() / cut.square().mean()))
    assert len(ratios) > 10
    assert fmean(ratios) < 0.8


@pytest.mark.parametrize(("a", "mixers"), [(A, ["linear", "window", "sla"]), (hybrid(), ())])
def test_errors_are_those_of_what_sublayers_give(a: Architecture, mixers: Sequence[str], tmp_path: Path) -> None:
    """On the images that they were fitted to, batch norms and all."""
    model, x = random_model(a, gain=1.0), images(a, 30)
    library = Library(tmp_path, model, mixers=mixers)
    library.make(x)
    streams, compared = Streams(library.model, x), 0
    for at in streams.walk():
        given = torch.cat([as_tokens(at.operator(at.read(state))).flatten(0, 1) for state in streams.states])
        variance = float((given - given.mean(0)).square().sum())
        for option, own in library.read(at.name).values():
            if option.fitted:
                other = network_of(combined(library.model, {at.name: Alternative(option, own)})).at(at.name).operator
                found = torch.cat([as_tokens(other(at.read(state))).flatten(0, 1) for state in streams.states])
                missed = float((found - given).square().sum()) / variance
                assert option.error == pytest.approx(missed, rel=0.02, abs=1e-4), option.name
                compared += 1
    assert compared > 10


def test_distillation_comes_nearer_and_is_the_same_again(simple: Scores, tmp_path: Path) -> None:
    model, x = simple.library.given, images(A, 60)
    found = []
    for name in ("a", "b"):
        library = Library(tmp_path / name, model, distil=6)
        library.make(x[:40])
        found.append([library.path(slot).read_bytes() for slot in library.slots])
    assert found[0] == found[1]
    pairs = [
        (one.option.error, simple.options[slot][name].error)
        for slot in library.slots
        for name, one in library.read(slot).items()
        if one.option.fitted
    ]
    assert all(distilled <= fitted for distilled, fitted in pairs)
    assert sum(distilled < fitted for distilled, fitted in pairs) > len(pairs) / 3


def test_other_mixers_are_those_that_the_tokens_allow_with_the_same_widths() -> None:
    def kinds(a: Architecture, *names: str) -> list[str]:
        return [kind_of(type(one)) for one in others(a, next(skeleton(a).walk()), names)]

    assert kinds(A, "auto") == [kind for kind in kinds(A, *OFFERED) if kind in kinds(A, "auto")] != []
    assert kinds(A, *OFFERED) == [
        kind
        for kind, one in OFFERED.items()
        if issubclass(one, Attention) and one.supports.grid and one is not type(BLOCK.mixer)
        if {name for name in dims(one) if one.model_fields[name].is_required()} == {"heads", "qk", "v"}
    ]
    assert kinds(TOKEN, *OFFERED) == [kind for kind in kinds(A, *OFFERED) if OFFERED[kind].supports.prefix]
    narrow = [one.model_dump(include={"heads", "qk", "v"}) for one in others(A, next(skeleton(A).walk()), ["auto"])]
    assert all(widths == {"heads": 2, "qk": 4, "v": 4} for widths in narrow)


def test_smaller_alternatives_miss_more(simple: Scores) -> None:
    units = [option for option in simple.options["s0.b0.ffn"].values() if option.fitted]
    errors = [option.error for option in sorted(units, key=lambda option: -len(option.kept))]
    assert errors == sorted(errors)
    assert [len(option.kept) for option in units] == [12, 10, 8, 6, 4, 3, 2, 1]


def test_every_channel_of_heads_is_a_rank_only_where_it_has_an_order() -> None:
    walk = {at.name: at for at in skeleton(hybrid()).walk()}
    assert [unit_of(at) for at in walk.values()] == [None, "mlp", None, "mlp", "heads", "mlp"]
    low = skeleton(with_precisions(A, {"s0.b0.mixer.in": "w1", "s0.b0.ffn.out": "w2"}))
    assert [unit_of(at) for at in low.walk()] == [None, None, "heads", "mlp"]
    found = [(size.units, size.qk, size.v) for size in sizes(next(skeleton(A).walk()), 1)]
    assert found == [(2, 2, 4), (2, 2, 2), (1, 4, 4), (1, 2, 4), (1, 2, 2)]
    assert [size.units for size in sizes(list(skeleton(A).walk())[1], 8)] == [8]


@pytest.mark.parametrize(
    ("channels", "narrowest"), [(3, (2, 2)), (8, (2, 2)), (16, (2, 4)), (64, (2, 4)), (160, (2, 4))]
)
def test_heads_of_any_width_have_alternatives_of_a_few_channels(channels: int, narrowest: tuple[int, int]) -> None:
    """As in their bases most channels of wide heads do next to nothing; each rank at least half of the one before."""
    block = Block(mixer=Softmax(heads=1, qk=channels, v=channels), ffn=Mlp(mlp=16))
    a = assembled(input=IMAGE, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(block,)),))
    found = [(size.qk or 0, size.v or 0) for size in sizes(next(skeleton(a).walk()), 1)]
    assert len(set(found)) == len(found)
    assert found[-1] == narrowest
    for before, after in pairwise([(channels, channels), *found]):
        assert (after[0] < before[0] and after[1] <= before[1]) or after[1] < before[1]
        assert all(2 * narrow + 1 >= wide for wide, narrow in zip(before, after, strict=True))


def test_an_interrupted_library_goes_on_where_it_was(simple: Scores, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    model, left = simple.library.given, [2, 3, 10]

    def stop(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            left.pop(0)
            raise Stop

    x = images(model.architecture, 60)
    for _ in range(2):
        with pytest.raises(Stop):
            Library(tmp_path, model).make(x[:40], stop)
    Library(tmp_path, model).make(x[:40])
    with pytest.raises(Stop):
        Scores(Library(tmp_path, model), x[40:]).make(stop)
    lines = tmp_path / "scores.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])  # the power went off within a line
    again = Scores(Library(tmp_path, model), x[40:])
    assert again.make() == simple.make()
    assert lines.read_bytes() == simple.lines.path.read_bytes()
    for slot in again.library.slots:
        assert again.library.path(slot).read_bytes() == simple.library.path(slot).read_bytes()


def test_damaged_files_are_named(simple: Scores, tmp_path: Path) -> None:
    library = Library(tmp_path, simple.library.given)
    library.path("s0.b0.ffn").write_bytes(b"nothing of the kind")
    with pytest.raises(BadArtefact, match=r"s0\.b0\.ffn\.safetensors is damaged"):
        library.read("s0.b0.ffn")
    for name in ("scores", "choices"):
        for line in ("[1]", "{}", "nothing", '{"slot": 3}'):
            (tmp_path / f"{name}.jsonl").write_text(f"{line}\n")
            scores = Scores(library, simple.images)
            with pytest.raises(BadArtefact, match=rf"{name}\.jsonl is damaged .*delete it"):
                (scores.lines if name == "scores" else scores.choices).read()
    (tmp_path / "model.safetensors").write_bytes(b"half a model")
    with pytest.raises(BadArtefact, match="delete the folder"):
        _ = library.model


def test_choices_keep_the_budget_when_counted_and_larger_ones_predict_no_more(simple: Scores) -> None:
    a = simple.library.given.architecture
    options = simple.options
    costs = {metric: costs_of(metric, a, options, None) for metric in ("macs", "params")}
    chooser = Chooser(simple, costs, lambda *_: None)
    whole = costs["macs"](dict.fromkeys(options, WHOLE))
    assert whole == count_macs(a).value
    predicted = []
    for share in (0.9, 0.7, 0.5):
        pick = chooser({"macs": share * whole})
        model = simple.model_of(pick.choice)
        assert count_macs(model.architecture).value == costs["macs"](pick.choice) <= share * whole
        solution = solve(chooser.items, {"macs": costs["macs"].room(share * whole)})
        assert solution is not None
        predicted.append(sum(item.error for item in solution.values()))
    assert predicted == sorted(predicted)
    assert set(chooser({"macs": 1.01 * chooser.least("macs")}).choice.values()) >= {NONE}


def test_only_the_best_for_their_work_count_where_few_are_asked_for(simple: Scores) -> None:
    few = Scores(simple.library, simple.images, most=4)
    for slot, names in few.options.items():
        assert len(names) <= 4
        assert {WHOLE, NONE} <= set(names)
        for name, option in names.items():
            others = [other for other in simple.options[slot].values() if other.fitted and other.name != name]
            assert not any(other.error < option.error and _smaller(other, option) for other in others)
    made = few.make()
    assert made.keys() < simple.make().keys()


def _smaller(one: Option, than: Option) -> bool:
    """Whether all widths are."""
    return one.sizes.keys() == than.sizes.keys() and all(size <= than.sizes[axis] for axis, size in one.sizes.items())
