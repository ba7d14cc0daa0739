"""Laws that hold for every architecture: they run on everything the catalogue knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from tests.combinations import in_graphs
from tests.networks import exactly, fed, images, random_model
from wb.core.architecture import Architecture, axis_dims, axis_sizes, resize
from wb.core.errors import Unsupported
from wb.core.records.mixers import Performer
from wb.export.graph import export
from wb.hardware.device import Device, session
from wb.models.axes import Couple, Leading, Map, Select, remap
from wb.models.counting import count_macs, operations
from wb.models.model import Model, compacted, load, remap_model, save
from wb.models.named import axes_of, sides
from wb.models.network import build, describe


def run(model: Model, x: Tensor) -> Tensor:
    """Logits in float64, where rounding hides nothing."""
    return doubled(model)(x)


def doubled(model: Model) -> Callable[[Tensor], Tensor]:
    """The network in float64."""
    network = model.network().double().requires_grad_(False)
    return lambda x: cast(Tensor, network(exactly(x)))


def check_maps(model: Model, maps: Mapping[str, Map], tolerance: float) -> None:
    """Whether the model computes the same once all of these axes are mapped; where it does not, which are to blame is said."""
    x = images(model.architecture)
    expected = run(model, x)

    def message(said: str) -> str:
        alone = {name: run(remap_model(model, {name: map_}), x) for name, map_ in maps.items()}
        wrong = [name for name, y in alone.items() if not torch.allclose(y, expected, rtol=tolerance, atol=tolerance)]
        return f"{', '.join(wrong) or 'none alone'}: {said}"

    found = run(remap_model(model, maps), x)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=message)


def permutation(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def test_few_networks_have_all_parts_and_settings_between_them(uncombined: set[tuple[str, ...]]) -> None:
    assert uncombined == set()


def test_json_gives_the_architecture_back(any_architecture: Architecture) -> None:
    again = Architecture.from_json(any_architecture.to_json())
    assert again == any_architecture
    assert again.key == any_architecture.key


def test_describe_inverts_build(any_architecture: Architecture) -> None:
    assert describe(build(any_architecture)) == any_architecture
    assert describe(build(any_architecture, "meta")) == any_architecture


def test_precisions_survive_every_round_trip(any_mixture: Architecture) -> None:
    assert Architecture.from_json(any_mixture.to_json()) == any_mixture
    assert describe(build(any_mixture, "meta")) == any_mixture


def test_every_parameter_lies_on_axes_of_its_size(any_architecture: Architecture) -> None:
    network = build(any_architecture, "meta")
    sizes = axis_sizes(any_architecture) | {"classes": any_architecture.head.classes} | sides(network)
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    axes = axes_of(network)
    assert axes.keys() == shapes.keys()
    for name, dimensions in axes.items():
        assert len(dimensions) == len(shapes[name]), name
        for axis, size in zip(dimensions, shapes[name], strict=True):
            assert axis is None or sizes[axis.name] == size, (name, axis)


def test_every_axis_of_the_architecture_is_on_some_parameter(any_architecture: Architecture) -> None:
    network = build(any_architecture, "meta")
    used = {axis.name for axes in axes_of(network).values() for axis in axes if axis}
    assert used - {"classes"} - set(sides(network)) == set(axis_sizes(any_architecture))


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_file_keeps_the_function(
    any_combination: Architecture, any_mixed_combination: Architecture, tmp_path: Path, ending: str
) -> None:
    for a in (any_combination, any_mixed_combination):
        model = random_model(a)
        save(model, tmp_path / f"model{ending}", force=True)
        again = load(tmp_path / f"model{ending}")
        assert again.architecture == a
        assert torch.equal(again.network()(images(a)), model.network()(images(a)))


def test_a_permuted_twin_computes_the_same(any_architecture: Architecture) -> None:
    check_twins(any_architecture)


def test_a_permuted_twin_of_rounded_weights_computes_the_same(one_rounded: Architecture) -> None:
    """What a row is rounded to does not depend on the order."""
    check_twins(one_rounded)


def check_twins(a: Architecture) -> None:
    fitted = {name for name, dim in axis_dims(a).items() if dim.fitted}  # coefficients are in an order of their own
    sizes = enumerate(axis_sizes(a).items())
    maps = {name: Select(permutation(size, i)) for i, (name, size) in sizes if name not in fitted}
    check_maps(random_model(a), maps, 1e-9)


def test_a_permutation_matrix_does_what_the_index_does(any_architecture: Architecture) -> None:
    model = random_model(any_architecture)
    order = {name: permutation(size, i) for i, (name, size) in enumerate(axis_sizes(any_architecture).items())}
    matrices = {name: torch.eye(len(index))[index] for name, index in order.items()}
    by_index = remap_model(model, {name: Select(index) for name, index in order.items()})
    by_matrix = remap_model(model, {name: Couple(matrix, matrix) for name, matrix in matrices.items()})
    for name, weight in by_index.weights.items():
        torch.testing.assert_close(weight, by_matrix.weights[name])


def test_duplicated_widths_keep_the_function(any_architecture: Architecture) -> None:
    """Growth: entries twice, read at half; not where norms see other statistics, nor where nothing reads them."""
    reading = {
        a.name for axes in axes_of(build(any_architecture, "meta")).values() for a in axes if a and a.role == "read"
    }
    maps = {
        name: Couple(twice := torch.eye(size).repeat(2, 1), twice / 2)
        for name, size in axis_sizes(any_architecture).items()
        if not name.endswith((".embed", ".width")) and name in reading and axis_dims(any_architecture)[name].scored
    }
    model = random_model(any_architecture)
    grown = axis_sizes(remap_model(model, maps).architecture)
    assert {name: grown[name] for name in maps} == {name: 2 * axis_sizes(any_architecture)[name] for name in maps}
    check_maps(model, maps, 1e-6)


def test_a_sub_network_on_views_equals_its_copy(any_architecture: Architecture) -> None:
    check_views(any_architecture)


def test_a_rounded_sub_network_on_views_equals_its_copy(any_rounded: Architecture) -> None:
    """Rows are rounded as the sub-network has them, not as the supernet does; gradients pass through."""
    check_views(any_rounded)


def check_views(a: Architecture) -> None:
    model = random_model(a)
    small = resize(a, {name: max(1, size - 2) for name, size in axis_sizes(a).items()})
    skeleton = build(small, "meta").eval()
    maps = {name: Leading(size) for name, size in axis_sizes(small).items()}
    shared = {name: weight.clone().requires_grad_() for name, weight in model.weights.items()}
    views = remap(shared, axes_of(skeleton), maps)
    x = images(a)
    logits = functional_call(skeleton, views, x)
    copy = Model(small, {name: view.detach().clone() for name, view in views.items()})
    torch.testing.assert_close(logits, copy.network()(x))
    logits.sum().backward()
    reached = {name for name, weight in shared.items() if weight.grad is not None}
    constants = {f"{at.prefix}.{name}" for at in skeleton.walk() for name in at.operator.constants}
    constants |= {*skeleton.positions.constants, *skeleton.statistics()}
    idle = {f"{at.prefix}.{name}" for at in skeleton.walk() for name in at.operator.idle}
    assert reached >= set(views) - idle - constants, "gradients reach the shared weights"
    assert not reached & constants


def test_the_exported_graph_computes_what_torch_does(any_combination: Architecture, tmp_path: Path) -> None:
    check_graph(any_combination, tmp_path / "model.onnx")


def test_the_exported_graph_of_rounded_weights_computes_what_torch_does(
    one_rounded: Architecture, tmp_path: Path
) -> None:
    check_graph(one_rounded, tmp_path / "model.onnx")


def check_graph(a: Architecture, path: Path) -> None:
    model = random_model(a)
    if not in_graphs(a):
        with pytest.raises(Unsupported, match=r"mixer is '\w+', which takes gradients while it runs"):
            export(model, path)
        assert not path.exists()
        return
    assert export(model, path).value <= 1e-4
    runtime = session(path, Device())
    assert [i.name for i in runtime.get_inputs()] == list(fed(images(a)))
    assert [o.name for o in runtime.get_outputs()] == ["logits"]
    for batch in (1, 5):
        x = images(a, batch)
        given = torch.from_numpy(runtime.run(None, fed(x))[0])
        torch.testing.assert_close(given, model.network()(x).detach(), rtol=1e-4, atol=1e-4)


def test_what_is_counted_by_operator_is_what_the_network_does(any_combination: Architecture) -> None:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        build(any_combination, "meta").eval()(images(any_combination, 1).to("meta"))
    assert count_macs(any_combination).value == counter.get_total_flops() / 2
    assert sum(part.macs for part in operations(any_combination).values()) == counter.get_total_flops() / 2


def test_the_walk_is_the_forward_pass_to_the_bit(any_architecture: Architecture) -> None:
    network = random_model(any_architecture).network()
    x = images(any_architecture)
    expected = network(x)
    state = network.begin(x)
    for at in network.walk():
        state = network.enter(state, at.stage)
        assert at.operator is network.get_submodule(at.prefix)
        assert at.norm is network.get_submodule(at.norm_prefix)
        assert at.join is None or at.join is network.get_submodule(at.join_prefix)
        state = at.add(state, at.contribution(state))
    assert torch.equal(network.end(state), expected)
    assert torch.equal(network.run(x), expected)


def test_gates_lead_from_the_missing_sublayer_to_the_whole_one(any_architecture: Architecture) -> None:
    network = random_model(any_architecture).network()
    state = network.begin(images(any_architecture))
    for at in network.walk():
        state = network.enter(state, at.stage)
        given, after = at.contribution(state), at(state)
        for gate, expected in ((1.0, after), (0.0, at.wiring.skip(state, at))):
            found = at.wiring.gated(state, at, given, torch.tensor(gate))
            torch.testing.assert_close((found.stream, *found.memory), (expected.stream, *expected.memory))
        state = after


def test_an_image_is_alone_in_its_batch(any_architecture: Architecture) -> None:
    """But where a form is there to compare with published code that has one number for a whole batch."""
    if any(isinstance(part, Performer) and part.form == "official" for _, part in any_architecture.parts()):
        pytest.skip("the published code of Performer takes the largest exponent of a whole batch")
    network, x = doubled(random_model(any_architecture)), images(any_architecture)
    together = network(x)
    for i in range(len(x)):
        torch.testing.assert_close(network(x[i : i + 1]), together[i : i + 1], rtol=1e-9, atol=1e-9)


def test_switched_off_blocks_change_nothing(any_architecture: Architecture) -> None:
    model = random_model(any_architecture)
    compact = any_architecture.compact()
    assert not any(block.off for _, _, block in compact.blocks())
    assert len(compact.stages[0].blocks) < len(any_architecture.stages[0].blocks)
    renamed = {name.replace("stages.0.2.", "stages.0.1."): weight for name, weight in model.weights.items()}
    for old, new in (("path5", "path3"), ("path6", "path4")):
        renamed = {n.replace(old, new) if n.startswith("wirings.0") else n: weight for n, weight in renamed.items()}
    assert compacted(model).weights.keys() == renamed.keys()
    x = images(any_architecture)
    assert torch.equal(run(Model(compact, renamed), x), run(model, x))
