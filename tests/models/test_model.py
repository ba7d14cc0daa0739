from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.fuzz.mutate import PICKLES, packed
from tests.networks import with_eps
from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput
from wb.models.axes import Leading, Select
from wb.models.files.header import MAX_STEPS
from wb.models.model import Model, Step, from_network, load, read_history, remap_model, save
from wb.models.network import build
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit


@pytest.fixture
def model(image: ImageInput) -> Model:
    architecture = Vit(TINY, image, 3).largest("softmax")
    network = build(architecture)
    torch.manual_seed(0)
    network.reset()
    step = Step(
        name="train",
        arguments={"epochs": 3},
        seed=7,
        readings={"acc": Reading(value=0.5, unit="fraction", how="measured")},
    )
    return from_network(architecture, network, (step,))


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_history_survives_the_file(model: Model, tmp_path: Path, ending: str) -> None:
    save(model, tmp_path / f"a{ending}")
    assert load(tmp_path / f"a{ending}").history == model.history


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_weights_that_share_memory_are_written_apart(model: Model, tmp_path: Path, ending: str) -> None:
    """As are views of something larger, and what is not contiguous."""
    given = {name: weight.clone() for name, weight in model.weights.items()}
    gains = [name for name in given if name.endswith(".gain")]
    given |= dict.fromkeys(gains, given[gains[0]])
    wide = torch.randn(*given["position"].shape, 1000)
    given["position"] = wide[..., 0]
    given["head"] = given["head"].T.contiguous().T
    path = tmp_path / f"a{ending}"
    save(replace(model, weights=given), path)
    found = load(path).weights
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], weight) for name, weight in given.items())
    assert path.stat().st_size < wide.nbytes


def test_a_file_is_read_in_parts(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save(model, path)
    whole = load(path)
    monkeypatch.setattr("wb.models.model._PART", 1000)
    found = load(path)
    assert list(found.weights) == list(whole.weights)
    assert found.fingerprint() == whole.fingerprint() == model.fingerprint()


def test_nothing_is_overwritten_without_force(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path / "a.pt")
    with pytest.raises(BadOption, match="exists already"):
        save(model, tmp_path / "a.pt")
    save(model, tmp_path / "a.pt", force=True)
    with pytest.raises(BadOption, match=r"end it in \.safetensors or \.pt"):
        save(model, tmp_path / "a.bin")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("stolen.txt", "w"))  # type: ignore[return-value]


def test_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Evil()), b"no model at all", b""):
        (tmp_path / "evil.pt").write_bytes(content)
        with pytest.raises(BadArtefact, match="cannot be read as weights only"):
            load(tmp_path / "evil.pt")
    torch.save({"metadata": {}, "weights": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(BadArtefact, match="cannot be read as weights only"):
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "stolen.txt").exists()


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_truncated_file_is_damaged(model: Model, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    save(model, path)
    whole = path.read_bytes()
    for share in (0.1, 0.6, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BadArtefact, match=str(path)):
            load(path)


def test_what_is_no_model_is_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="there is no file"):
        load(tmp_path / "none.pt")
    save_file({"x": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(BadArtefact, match="holds weights but no architecture"):
        load(tmp_path / "weights.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(BadArtefact, match="a torch file but not a model"):
        load(tmp_path / "list.pt")
    nan = dict(model.weights) | {"head_bias": torch.full((3,), float("nan"))}
    save(replace(model, weights=nan), tmp_path / "nan.pt")
    with pytest.raises(BadArtefact, match="NaN or infinite weights, first in head_bias"):
        load(tmp_path / "nan.pt")
    wrong = dict(model.weights) | {"head_bias": torch.zeros(4)}
    save(replace(model, weights=wrong), tmp_path / "wrong.pt")
    with pytest.raises(BadArtefact, match=r"head_bias: given \(4,\), expected \(3,\)"):
        load(tmp_path / "wrong.pt")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda w: w.to(torch.complex64) + 1j, "complex64 numbers in head_bias"),
        (lambda w: w.to(torch.int8), "int8 numbers in head_bias"),
        (lambda w: w.double() + 1e300, "NaN or infinite weights, first in head_bias .in single precision"),
        (lambda w: torch.zeros(1).expand(3), "less numbers in head_bias than its shape says"),
        (lambda w: torch.zeros(1).expand(10**12), r"head_bias: given \(1000000000000,\), expected \(3,\)"),
        (lambda w: w.to_sparse(), "holds torch._utils._rebuild_sparse_tensor, and only"),
        (lambda w: w.to("meta"), "holds torch._utils._rebuild_meta_tensor_no_storage, and only"),
        (lambda w: w.to(torch.float8_e4m3fn), "holds torch._utils._rebuild_tensor_v3, and only"),
        (lambda w: {"inner": w}, "weights that are no tensors by name"),
        (lambda w: "head", "weights that are no tensors by name"),
    ],
)
def test_other_numbers_than_weights_are_refused(
    model: Model, tmp_path: Path, change: Callable[[Tensor], object], text: str
) -> None:
    save(model, tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    content["weights"]["head_bias"] = change(content["weights"]["head_bias"])
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(BadArtefact, match=text):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "change",
    [{"metadata": None}, {"metadata": {"wb.format": 1}}, {"metadata": {1: "a"}}, {"weights": []}, {"weights": {1: 2}}],
)
def test_content_of_other_types_is_refused(model: Model, tmp_path: Path, change: dict[str, object]) -> None:
    save(model, tmp_path / "a.pt")
    torch.save({**torch.load(tmp_path / "a.pt", weights_only=True), **change}, tmp_path / "a.pt")
    with pytest.raises(BadArtefact, match=r"that are no (texts|tensors) by name"):
        load(tmp_path / "a.pt")


def test_a_pickled_module_is_called_one_in_our_words(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(
        BadArtefact, match=r"a pickled object \(torch\.nn.*Sequential\), and reading one runs code; save"
    ) as error:
        load(tmp_path / "a.pt")
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("name", ["deep key", "shared keys", "hidden keys", "large array", "memo"])
@pytest.mark.parametrize("zipped", [False, True])
def test_pickles_that_end_or_stall_a_process_are_refused(tmp_path: Path, name: str, zipped: bool) -> None:
    content = PICKLES[name]
    (tmp_path / "a.pt").write_bytes(packed({"a/data.pkl": content, "a/version": b"3"}) if zipped else content)
    with pytest.raises(BadArtefact, match="cannot be read as weights only"):
        load(tmp_path / "a.pt")


def test_compressed_archives_and_wrong_checksums_are_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save(model, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as smaller:
        for entry in archive.infolist():
            smaller.writestr(entry.filename, archive.read(entry))
    with pytest.raises(BadArtefact, match="a compressed archive, and torch writes none"):
        load(tmp_path / "b.pt")
    content = bytearray(path.read_bytes())
    content[content.index(model.weights["head"].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadArtefact, match=r"checksum of .* is wrong"):
        load(path)


def test_half_and_double_precision_become_single(model: Model, tmp_path: Path) -> None:
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        save(replace(model, weights={n: w.to(kind) for n, w in model.weights.items()}), tmp_path / "a.pt", force=True)
        found = load(tmp_path / "a.pt").weights
        assert all(torch.equal(found[name], weight.to(kind).float()) for name, weight in model.weights.items())


def test_a_history_has_a_bounded_length(model: Model, tmp_path: Path) -> None:
    step = Step(name="x")
    save(replace(model, history=(step,) * MAX_STEPS), tmp_path / "a.safetensors")
    assert len(load(tmp_path / "a.safetensors").history) == MAX_STEPS
    save(replace(model, history=(step,) * (MAX_STEPS + 1)), tmp_path / "b.safetensors")
    with pytest.raises(BadArtefact, match=f"history in .* is damaged: Tuple should have at most {MAX_STEPS} items"):
        load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("text", ["[" * 200_000, '"\ud800"', "[1]", "{}", '[{"name": 1}]', ""])
def test_a_damaged_history_is_one_paragraph(text: str) -> None:
    with pytest.raises(BadArtefact, match="the history in x is damaged: ") as error:
        read_history(text, Path("x"))
    assert "\n" not in str(error.value)


def test_what_fits_is_checked_by_names_and_shapes_alone(model: Model) -> None:
    shapes = {name: weight.to("meta") for name, weight in model.weights.items()}
    replace(model, weights=shapes).check()
    del shapes["position"]
    with pytest.raises(
        BadArtefact, match="1 weights do not fit the architecture, the first is position: given nothing"
    ):
        replace(model, weights=shapes).check()
    with pytest.raises(BadArtefact, match="the first is position"):
        replace(model, weights=shapes).network()


def test_dropping_qk_channels_equals_masking_them(model: Model) -> None:
    """The scale stays that of the model the weights came from."""
    keep = torch.tensor([0, 3, 4, 9])
    pruned = remap_model(model, {"s0.b1.qk": Select(keep)})
    mixer = pruned.architecture.stages[0].blocks[1].mixer
    assert mixer is not None
    assert mixer.kind == "softmax"
    assert mixer.scale == pytest.approx(16**-0.5)
    mask = torch.zeros(16)
    mask[keep] = 1
    weights = dict(model.weights)
    for name in ("wq", "wk"):
        weights[f"stages.0.1.mixer.{name}"] = weights[f"stages.0.1.mixer.{name}"] * mask[:, None]
        bias = name.replace("w", "b")
        weights[f"stages.0.1.mixer.{bias}"] = weights[f"stages.0.1.mixer.{bias}"] * mask
    x = torch.rand(4, 1, 8, 8)
    masked = replace(model, weights=weights)
    torch.testing.assert_close(pruned.network()(x), masked.network()(x))


def test_remap_of_an_unknown_axis(model: Model) -> None:
    with pytest.raises(BadOption, match=r"no axis named s0\.b9\.heads; this model has stem\.width, s0\.embed"):
        remap_model(model, {"s0.b9.heads": Leading(1)})


def test_passes_never_change_their_input(model: Model) -> None:
    before = {name: weight.clone() for name, weight in model.weights.items()}
    remap_model(model, {"s0.embed": Leading(8)}).weights["position"].zero_()
    model.network().reset()
    assert all(torch.equal(before[name], weight) for name, weight in model.weights.items())


def test_a_fingerprint_is_of_architecture_and_weights(model: Model, tmp_path: Path) -> None:
    """It survives the file, whatever the order and the memory of the weights; the history does not count."""
    own = model.fingerprint()
    assert len(own) == 16
    int(own, 16)
    for ending in (".pt", ".safetensors"):
        save(model.then(Step(name="more")), tmp_path / f"a{ending}")
        assert load(tmp_path / f"a{ending}").fingerprint() == own
    turned = {name: model.weights[name] for name in reversed(list(model.weights))}
    turned["head"] = turned["head"].T.contiguous().T
    assert not turned["head"].is_contiguous()
    assert replace(model, weights=turned).fingerprint() == own
    others = {own}
    for name, weight in model.weights.items():
        changed = weight.clone()
        changed.view(-1)[-1] += 1
        others.add(replace(model, weights={**model.weights, name: changed}).fingerprint())
    others.add(replace(model, architecture=with_eps(model.architecture, 1e-5)).fingerprint())
    assert len(others) == len(model.weights) + 2
