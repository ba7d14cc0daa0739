"""A whole fusion on the stripes: what it leaves is what it says, and an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks import assembled, hybrid, of_digits, wired
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact, BadData, BadOption, Unsupported
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.core.statistics.paired import Paired
from wb.data import Dataset, Split
from wb.data.split import Images
from wb.export.graph import export
from wb.export.score import outputs, score
from wb.fusion.curve import point
from wb.fusion.forms.compatible import adapted
from wb.fusion.fuse import fuse
from wb.fusion.job.begin import begin
from wb.fusion.job.config import MAPS_RATE, RATE, FuseConfig
from wb.fusion.job.finish import Ensemble, Parents
from wb.fusion.job.job import FuseJob, calibration, held_out
from wb.fusion.job.record import Fusion
from wb.fusion.job.verdict import remarks
from wb.fusion.settings import Settings
from wb.hardware.device import Device
from wb.models.axes import Select, remap
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, load, save
from wb.models.named import axes_of
from wb.models.network import build
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import train

CONFIG = FuseConfig(data="stripes", settings=Settings(method="regress"), calib=64, finetune=2)
PLAIN = FuseConfig()
Where = Callable[[str, int], bool]  # what is done, how much of it
Files = list[tuple[str, Path]]


@dataclass
class Tale:
    """Hears what a job reports, and stops it where it is told to."""

    stop: Where = lambda what, done: False
    heard: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, what: str, done: int, of: int) -> None:
        self.heard.append((what, done))
        if self.stop(what, done):
            raise KeyboardInterrupt


def network(embed: int = 12, depth: int = 2, heads: int = 2, mlp: int = 20) -> Architecture:
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    block = Block(mixer=Softmax(heads=heads, qk=6, v=5), ffn=Mlp(mlp=mlp))
    stages = (Stage(embed=embed, blocks=(block,) * depth),)
    return assembled(input=image, stem=PatchStem(patch=2), stages=stages, classes=3, labels=("a", "b", "c"))


@pytest.fixture(scope="module")
def stripes(stripes: Dataset) -> Dataset:
    """Under so much noise that networks make mistakes, each its own."""
    rng = np.random.default_rng(1)

    def noisy(split: Split) -> Split:
        noise = rng.random(split.images.shape, dtype=np.float32)
        return Images((0.3 * split.images + 0.7 * noise).astype(np.float32), split.labels)

    fit, validation, test = (noisy(split) for split in (stripes.train, stripes.validation, stripes.test))
    return replace(stripes, train=fit, validation=validation, test=test)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, stripes: Dataset) -> Path:
    """With three models that know the stripes: two alike, and one that is wider and deeper."""
    folder = tmp_path_factory.mktemp("fusion")
    for name, architecture, seed in (("a", network(), 0), ("b", network(), 1), ("c", network(16, 3, 3, 24), 2)):
        model = train(architecture, stripes, Recipe(epochs=12, learning_rate=1e-2), seed=seed)
        save(model, folder / f"{name}.safetensors")
    return folder


def files_of(folder: Path, names: str = "ab") -> Files:
    return [(name, folder / f"{name}.safetensors") for name in names]


def job_of(
    files: Files, data: Dataset | None, out: Path, config: FuseConfig = CONFIG, tale: Tale | None = None
) -> FuseJob:
    return begin(config, files, data, out, tale or Tale(), force=False)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(folder: Path, stripes: Dataset) -> Fusion:
    """The record of a job that nothing interrupted."""
    job_of(files_of(folder), stripes, folder / "whole" / "x.safetensors")()
    return Fusion.read(folder / "whole" / "x.json")


@pytest.fixture(autouse=True)
def _no_page(unpaged: None) -> None:
    """But for `whole`, which is made before."""


def exported(model: Model, folder: Path) -> Path:
    export(model, folder / "x.onnx", force=True)
    return folder / "x.onnx"


def test_what_is_written_is_what_it_says(whole: Fusion, folder: Path, stripes: Dataset, tmp_path: Path) -> None:
    assert files(folder / "whole") == {"x.safetensors", "x.onnx", "x.json", "x.html"}
    model = load(folder / "whole" / "x.safetensors")
    assert model.architecture == whole.architecture == network()
    assert [step.name for step in model.history] == ["train", "fuse", "finetune"]
    assert [dict(step.readings) for step in model.history[1:]] == [whole.one_shot, whole.tuned]
    assert model.history[1].arguments["parents"] == [parent.key for parent in whole.parents]
    assert model.history[1].arguments["images"] == whole.images == 64
    graph = exported(model, tmp_path)
    for split, name in ((stripes.validation, "acc"), (stripes.test, "test")):
        assert score(graph, split, CLASSES, Device()) == whole.tuned[name]
    assert whole.tuned["params"].value == count_parameters(model.architecture).value
    assert whole.tuned["macs"] == count_macs(model.architecture)
    assert whole.tuned["size"].value == graph.stat().st_size
    assert whole.graph == "x.onnx"
    assert (folder / "whole" / "x.onnx").read_bytes() == graph.read_bytes(), "what is left is what was read"
    assert whole.tuned["test"].value > 0.7
    assert "test" not in whole.average, "it is read of what may be taken"


def test_the_parents_and_their_ensemble_are_read_from_their_files(
    whole: Fusion, folder: Path, stripes: Dataset, tmp_path: Path
) -> None:
    models = [load(path) for _, path in files_of(folder)]
    for parent, model in zip(whole.parents, models, strict=True):
        graph = exported(model, tmp_path)
        for split, name in ((stripes.validation, "acc"), (stripes.test, "test")):
            assert score(graph, split, CLASSES, Device()) == parent.readings[name]
        assert parent.readings["size"].value == graph.stat().st_size
        assert parent.key == model.fingerprint()
        assert parent.share == 0.5
    for split, name in ((stripes.validation, "acc"), (stripes.test, "test")):
        with torch.no_grad():
            each = [model.network()(torch.from_numpy(split.pixels())).softmax(1).numpy() for model in models]
        right = np.mean(sum(each).argmax(1) == split.labels)
        assert whole.ensemble[name].value == pytest.approx(float(right))
        assert (whole.ensemble[name].interval or (1, 1))[0] < right < 1
    for name in ("params", "macs", "size"):
        assert whole.ensemble[name].value == sum(parent.readings[name].value for parent in whole.parents)


def test_what_came_of_it_is_compared_image_by_image(
    whole: Fusion, folder: Path, stripes: Dataset, tmp_path: Path
) -> None:
    """With every parent, their ensemble, and the model before fine-tuning."""
    split = stripes.test

    def scores(graph: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return outputs(graph, split, Device())

    parents = [scores(exported(load(path), tmp_path)) for _, path in files_of(folder)]
    shares = [np.exp(values) / np.exp(values).sum(axis=1, keepdims=True) for values in parents]
    fused = (scores(folder / "whole" / "x.onnx").argmax(1) == split.labels).tolist()
    for found, other in zip(
        (*(parent.paired for parent in whole.parents), whole.against_ensemble), (*parents, sum(shares)), strict=True
    ):
        right = (np.asarray(other).argmax(1) == split.labels).tolist()
        assert found == Paired.of(fused, right)
    assert whole.against_untuned is not None
    change = whole.tuned["test"].value - whole.one_shot["test"].value
    assert whole.against_untuned.points == pytest.approx(100 * change)
    assert whole.verdicts == tuple(remark.text for remark in remarks(whole))
    assert len(whole.verdicts) == 4


def test_the_record_tells_the_way(whole: Fusion, folder: Path, stripes: Dataset) -> None:
    one, two = whole.parents
    assert (one.plans, one.costs, one.match) == ((), {}, ())
    assert two.match == ((0, 1),)
    axes = {"s0.embed", *(f"s0.b{i}.{name}" for i in (0, 1) for name in ("heads", "qk", "v", "mlp"))}
    assert {plan.axis for plan in two.plans} == set(two.before) == set(two.costs) == axes
    assert all(two.costs[axis] < two.before[axis] for axis in axes)
    assert {plan.axis for plan in two.plans if plan.signed} == {
        axis for axis in axes if axis.endswith(("embed", "qk", "v"))
    }
    vanilla, aligned = whole.line("vanilla"), whole.line("aligned")
    assert vanilla is not None
    assert aligned is not None
    assert aligned.barrier < vanilla.barrier
    ends = [point(load(path), stripes.validation, float(i)) for i, (_, path) in enumerate(files_of(folder))]
    assert list(whole.ends) == ends
    for line in (vanilla, aligned):
        for end, found in zip(ends, (line.points[0], line.points[-1]), strict=True):
            assert found.accuracy == end.accuracy
            assert found.loss == pytest.approx(end.loss, rel=1e-3)
    assert whole.points["one shot"].share == whole.points["fine-tuned"].share == 0.5
    assert whole.points["one shot"].loss < aligned.points[5].loss, "corrected"
    assert whole.points["fine-tuned"].accuracy == whole.tuned["acc"].value
    assert aligned.points[5].accuracy == whole.average["acc"].value
    assert {"aligning", "fitting to the parents", "curves", "fine-tuning", "final readings"} <= whole.seconds.keys()


INTERRUPTIONS: tuple[Where, ...] = (
    lambda what, done: what == "reading b",
    lambda what, done: what == "fitting to the parents" and done == 2,
    lambda what, done: what == "looking between the parents, vanilla" and done == 3,
    lambda what, done: what == "fine-tuning",
    lambda what, done: what.startswith("fine-tuning, loss") and done == 1,
    lambda what, done: what == "final readings, parents" and done == 1,
    lambda what, done: what == "final readings, fine-tuned",
)


def test_interruptions_change_nothing(whole: Fusion, folder: Path, stripes: Dataset, tmp_path: Path) -> None:
    """One fusion that is stopped again and again ends in the same model, and no epoch is done twice."""
    out = tmp_path / "x.safetensors"
    epochs: list[int] = []
    for stop in INTERRUPTIONS:
        job = job_of(files_of(folder), stripes, out)  # reads the files
        tale = job.progress = Tale(stop)
        with pytest.raises(KeyboardInterrupt):
            job()
        epochs += [done for what, done in tale.heard if what.startswith("fine-tuning, loss")]
        assert files(tmp_path) & {"x.safetensors", "x.onnx", "x.json", "x.html"} == set()
    assert epochs == [1, 1, 2], "the one that was done before is told of once more, at once"
    last = job_of(files_of(folder), stripes, out)
    last.progress = tale = Tale()
    record = last()
    assert {what.split(",")[0] for what, _ in tale.heard} == {"final readings"}
    assert load(out).fingerprint() == load(folder / "whole" / "x.safetensors").fingerprint()
    assert record.model_copy(update={"created": whole.created, "seconds": whole.seconds}) == whole
    assert files(tmp_path) == {"x.safetensors", "x.onnx", "x.json", "x.html"}


def test_without_data_nothing_is_measured(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("export", "checked", "Assessor"):
        monkeypatch.setattr(f"wb.fusion.job.finish.{name}", lambda *_, **__: pytest.fail("something is measured"))
    out = tmp_path / "new" / "x.pt"
    record = job_of(files_of(folder), None, out, PLAIN)()
    assert files(tmp_path) == {"new", "x.pt", "x.onnx", "x.json", "x.html"}
    assert record == Fusion.read(out.with_suffix(".json"))
    assert record.one_shot.keys() == {"params", "macs"}
    assert [parent.readings.keys() for parent in record.parents] == [{"params", "macs"}] * 2
    assert (record.average, record.tuned, record.ensemble, record.lines) == ({}, {}, {}, ())
    assert record.parents[1].costs
    model = load(out)
    assert model.fingerprint() == fuse(map(load, paths(folder)), ["a", "b"], Settings()).model.fingerprint()
    assert model.history[-1].readings == record.one_shot


def paths(folder: Path, names: str = "ab") -> list[Path]:
    return [path for _, path in files_of(folder, names)]


def test_three_of_two_sizes(folder: Path, stripes: Dataset, tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={"finetune": 0, "settings": Settings(method="regress", anchor=3, weights=(1, 1, 2))}
    )
    record = job_of(files_of(folder, "abc"), stripes, tmp_path / "x.pt", config)()
    assert [parent.share for parent in record.parents] == [0.25, 0.25, 0.5]
    assert record.architecture == load(folder / "c.safetensors").architecture
    assert [bool(parent.costs) for parent in record.parents] == [True, True, False]
    assert [parent.before for parent in record.parents] == [{}, {}, {}], "of unequal sizes"
    assert [sum(block is None for block in parent.match[0]) for parent in record.parents[:2]] == [1, 1]
    assert [line.name for line in record.lines] == ["aligned"]
    assert record.points["one shot"].share == 0.5
    assert record.tuned == {}
    assert record.final["test"].value > 0.7
    with torch.no_grad():
        each = [
            load(path).network()(torch.from_numpy(stripes.test.pixels())).softmax(1) for path in paths(folder, "abc")
        ]
    right = (torch.stack(each).mean(0).argmax(1).numpy() == stripes.test.labels).mean()
    assert record.ensemble["test"].value == pytest.approx(right)


def reordered(model: Model, labels: tuple[str, ...]) -> Model:
    """The same function with its classes in another order."""
    order = Select(torch.tensor([model.architecture.head.labels.index(label) for label in labels]))
    weights = remap(model.weights, axes_of(build(model.architecture, "meta")), {"classes": order})
    return replace(model, architecture=model.architecture.with_labels(labels), weights=weights)


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_classes_in_another_order(folder: Path, stripes: Dataset, tmp_path: Path, whole: Fusion, names: str) -> None:
    """Of a parent, or of the anchor and so of the fused model, while the data have theirs: all go by their names."""
    save(reordered(load(folder / "b.safetensors"), ("c", "a", "b")), tmp_path / "b.safetensors")
    given = {"a": ("a", folder / "a.safetensors"), "b": ("b", tmp_path / "b.safetensors")}
    record = job_of([given[name] for name in names], stripes, tmp_path / "x.pt")()
    assert record.notes == (f"the classes of {names[1]} are put into the order of {names[0]}",)
    straight = dict(zip("ab", whole.parents, strict=True))
    for parent in record.parents:
        for name in ("acc", "test"):
            assert parent.readings[name] == straight[parent.name].readings[name]
    assert record.ensemble == {**whole.ensemble, "size": record.ensemble["size"]}
    assert record.tuned["test"].value > 0.7
    model = load(tmp_path / "x.pt")
    assert model.architecture.head.labels == (("a", "b", "c") if names == "ab" else ("c", "a", "b"))
    order = reordered(model, ("a", "b", "c"))
    split = stripes.test
    right = score(exported(order, tmp_path), split, CLASSES, Device())
    assert right.value == record.tuned["test"].value


def test_the_teacher_is_the_mean_of_the_parents_probabilities(folder: Path, tmp_path: Path, stripes: Dataset) -> None:
    a, b = (load(path) for path in paths(folder))
    save(reordered(b, ("b", "c", "a")), tmp_path / "b.pt")
    parents = Parents([folder / "a.safetensors", tmp_path / "b.pt"], a.architecture)
    assert len(parents) == 2
    images = torch.from_numpy(stripes.test.pixels())
    with torch.no_grad():
        found = Ensemble(parents, torch.device("cpu"))(images).softmax(1)
        wanted = (a.network()(images).softmax(1) + b.network()(images).softmax(1)) / 2
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(adapted(load(tmp_path / "b.pt"), a.architecture).weights["head"], b.weights["head"])


def test_one_model_into_another_architecture(folder: Path, stripes: Dataset, tmp_path: Path) -> None:
    config = FuseConfig(
        data="stripes", settings=Settings(method="regress"), calib=64, to=network(10, 3, 1, 30), finetune=1
    )
    record = job_of(files_of(folder, "c"), stripes, tmp_path / "x.pt", config)()
    assert record.architecture == config.to == load(tmp_path / "x.pt").architecture
    assert (record.ensemble, record.lines, record.points) == ({}, (), {})
    assert record.tuned["test"].value > 0.6
    assert [step.name for step in load(tmp_path / "x.pt").history] == ["train", "fuse", "finetune"]


def test_what_does_not_help_is_not_kept(folder: Path, stripes: Dataset, tmp_path: Path) -> None:
    """The average of a model with itself is that model, which no correction and no wild training makes better."""
    config = FuseConfig(data="stripes", settings=Settings(method="regress"), calib=64, finetune=1, learning_rate=1.0)
    record = job_of(files_of(folder, "aa"), stripes, tmp_path / "x.pt", config)()
    model, parent, again = load(tmp_path / "x.pt"), load(folder / "a.safetensors"), tmp_path / "again"
    again.mkdir()
    assert record.refit is not None
    assert not record.refit.kept
    assert record.untuned
    assert record.final == record.one_shot
    assert record.tuned["acc"].value < record.one_shot["acc"].value
    assert [step.name for step in model.history] == ["train", "fuse"]
    assert model.history[-1].arguments["corrected"] is False
    assert dict(model.history[-1].readings) == record.one_shot
    assert (tmp_path / "x.onnx").read_bytes() == exported(model, again).read_bytes()
    x = torch.from_numpy(stripes.test.pixels())
    with torch.no_grad():
        assert torch.allclose(model.network()(x), parent.network()(x), atol=1e-4)
    said = " ".join(record.verdicts)
    assert "The correction did not help" in said
    assert "the network is that from before it" in said


def test_images_are_drawn_by_the_seed_and_only_where_they_are_of_use(stripes: Dataset) -> None:
    parents = [network(), network()]
    other = CONFIG.model_copy(update={"settings": Settings(method="regress", seed=1)})
    one, again, two = (calibration(config, stripes, parents) for config in (CONFIG, CONFIG, other))
    assert one is not None
    assert again is not None
    assert two is not None
    assert torch.equal(one, again)
    assert one.shape == two.shape == (64, 1, 8, 8)
    assert not torch.equal(one, two)
    every = calibration(CONFIG.model_copy(update={"calib": None}), stripes, parents)
    rest = held_out(CONFIG.model_copy(update={"calib": None}), stripes, parents)
    assert every is not None
    assert rest is not None
    both = np.concatenate([every.numpy(), rest.inputs()])
    seen, there = (sorted(one.tobytes() for one in part) for part in (both, stripes.train.pixels()))
    assert seen == there, "all are looked at, or judge"
    assert held_out(CONFIG.model_copy(update={"calib": len(stripes.train)}), stripes, parents) is None
    plain = FuseConfig(data="stripes")
    assert calibration(plain, stripes, parents) is None
    assert calibration(plain, stripes, [network(), network(depth=3)]) is not None, "blocks are matched"
    assert calibration(plain.model_copy(update={"to": network(8)}), stripes, parents) is not None
    assert calibration(CONFIG, None, parents) is None


def test_other_settings_models_or_data_do_not_continue(folder: Path, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    job = job_of(files_of(folder), stripes, out)
    job.progress = Tale(lambda what, _: what == "fine-tuning")
    with pytest.raises(KeyboardInterrupt):
        job()
    before = contents(tmp_path)
    other = CONFIG.model_copy(update={"finetune": 3})
    changed = replace(stripes, fingerprint="1")
    for files_, data, config in (
        (files_of(folder), stripes, other),
        (files_of(folder, "ba"), stripes, CONFIG),
        (files_of(folder), changed, CONFIG),
    ):
        with pytest.raises(BadArtefact, match=r"x\.partial belongs to a fusion with other settings"):
            job_of(files_, data, out, config)
    assert contents(tmp_path) == before
    (tmp_path / "x.partial" / "record.json").write_text("{")
    with pytest.raises(BadArtefact, match=r"record\.json is damaged"):
        job_of(files_of(folder), stripes, out)


@pytest.mark.parametrize(
    ("names", "changes", "error", "words"),
    [
        ("a", {}, BadOption, "one model cannot be fused"),
        ("ab", {"settings": Settings(anchor=3), "calib": None}, BadOption, "anchor 3: there are 2 models"),
        ("ab", {"settings": Settings(weights=(1, 2, 3)), "calib": None}, BadOption, "weights 1,2,3 do not fit"),
        ("ab", {"settings": Settings()}, BadOption, "looks at no images; leave out --samples"),
        ("ab", {"device": "tpu"}, BadOption, "there is no device 'tpu'"),
        ("ac", {"settings": Settings(method="vanilla"), "calib": None}, Unsupported, "vanilla averages equal"),
        ("ac", {"settings": Settings(method="ot"), "calib": 8}, Unsupported, "ot transports equal depths"),
        ("ab", {"to": wired(network(), "post")}, BadOption, "the wiring of the target is post-norm"),
    ],
)
def test_errors_leave_nothing(
    folder: Path,
    stripes: Dataset,
    tmp_path: Path,
    names: str,
    changes: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    config = CONFIG.model_copy(update=changes)
    with pytest.raises(error, match=words):
        job_of(files_of(folder, names), stripes, tmp_path / "new" / "deep" / "x.pt", config)()
    assert files(tmp_path) == set()


def test_bad_models_and_data(folder: Path, stripes: Dataset, tmp_path: Path) -> None:
    a = load(folder / "a.safetensors")
    huge = {
        name: weight * 1e30 if name.endswith(("wq", "up", "patches")) else weight for name, weight in a.weights.items()
    }
    models = {
        "huge": replace(a, weights=huge),
        "post": replace(a, architecture=wired(a.architecture, "post")),
        "classes": replace(a, architecture=a.architecture.with_labels(("a", "b", "d"))),
    }
    post = {name: weight for name, weight in a.weights.items() if not name.startswith("norm.")}
    models["post"] = replace(models["post"], weights=post)
    for name, model in models.items():
        save(model, tmp_path / f"{name}.pt")
    (tmp_path / "text.pt").write_text("no model")
    before = files(tmp_path)
    for name, error, words in (
        ("huge", BadArtefact, "look for huge weights"),
        ("post", Unsupported, "post has norms post-norm and a has pre-norm"),
        ("classes", BadOption, "the classes of classes and a are not the same: c, d in one only"),
        ("text", BadArtefact, "cannot be read as weights only"),
        ("none", BadArtefact, "there is no file"),
    ):
        given = [*files_of(folder, "a"), (name, tmp_path / f"{name}.pt")]
        with pytest.raises(error, match=words):
            job_of(given, stripes, tmp_path / "x.pt", CONFIG)()
        assert files(tmp_path) == before, name
    small = Images(stripes.train.images[:, :, :4, :4], stripes.train.labels)
    other = replace(stripes, train=small, validation=small, test=small)
    with pytest.raises(BadData, match="name other data with --data"):
        job_of(files_of(folder), other, tmp_path / "x.pt")
    assert files(tmp_path) == before


def test_convolutions_are_fine_tuned_at_a_higher_rate_and_a_given_one_stands() -> None:
    tokens, maps = of_digits(), hybrid()
    assert FuseConfig().tuned_for(tokens).learning_rate == RATE
    assert FuseConfig().tuned_for(maps).learning_rate == MAPS_RATE
    assert FuseConfig(learning_rate=0.5).tuned_for(maps).learning_rate == 0.5
