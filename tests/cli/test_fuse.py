"""`wb fuse` as a user runs it, on tiny networks of the digits that nobody trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.commands import files, succeeded, wb
from tests.networks import answering, of_digits, random_model, wired
from tests.processes import Command
from wb.data import load as load_data
from wb.fusion.fuse import fuse as fuse_models
from wb.fusion.job.record import Fusion
from wb.fusion.settings import Settings
from wb.models.counting import count_macs, count_parameters
from wb.models.model import load, save

DATA = ("--data", "digits", "--limit", 100)
SMALL = of_digits(embed=12, mlp=20)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models alike, and one with more blocks and other widths."""
    folder = tmp_path_factory.mktemp("models")
    for i, (name, architecture) in enumerate((("a", SMALL), ("b", SMALL), ("c", of_digits(depth=3, heads=3)))):
        save(random_model(architecture, i, gain=1.0), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def a(folder: Path) -> Path:
    return folder / "a.safetensors"


@pytest.fixture
def b(folder: Path) -> Path:
    return folder / "b.safetensors"


@pytest.fixture
def c(folder: Path) -> Path:
    return folder / "c.safetensors"


def fused(paths: list[Path], settings: Settings, **given: object) -> str:
    """The fingerprint of what the library makes of these without data."""
    return fuse_models(map(load, paths), list(map(str, paths)), settings, **given).model.fingerprint()  # type: ignore[arg-type]


@pytest.mark.usefixtures("page")
def test_without_data(a: Path, b: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    result = succeeded("fuse", a, b, "-o", out)
    names = ("x.html", "x.json", "x.onnx", "x.pt")
    assert files(tmp_path) == set(names)
    assert result.stdout.splitlines()[-4:] == [f"wrote {tmp_path / name}" for name in names]
    assert "nothing was measured; the fused model is expected to need fine-tuning" in result.stderr
    assert "note:" not in result.stderr, "nothing that was asked for is missing"
    assert "302" not in result.stdout
    assert load(out).fingerprint() == fused([a, b], Settings())
    config = Fusion.read(tmp_path / "x.json").config
    assert (config.data, config.settings.method) == (None, "orth")
    for words in ("a.safetensors", "one shot", "parameters", "MACs"):
        assert words in result.stdout
    assert "validation" not in result.stdout
    shown = succeeded("show", out)
    assert "fuse" in shown.stdout
    again = wb("fuse", a, b, "-o", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert wb("fuse", a, b, "-o", out, "--force", "--seed", 1).exit_code == 0


def test_with_data_all_numbers_hold(a: Path, b: Path, tmp_path: Path) -> None:
    """Every accuracy of the record, recomputed with nothing but the runtime from what `wb export` writes."""
    out = tmp_path / "x.safetensors"
    result = succeeded("fuse", a, b, "-o", out, *DATA, "--calib", 64, "--finetune", 1, "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "x.json").read_text())
    record = Fusion.read(tmp_path / "x.json")
    assert record.config.settings.method == "regress"
    assert record.images == 64
    data = load_data("digits", limit=100)
    scores: dict[str, list[np.ndarray]] = {"acc": [], "test": []}
    left = (tmp_path / "x.onnx").read_bytes()
    for path, readings in ((a, record.parents[0].readings), (b, record.parents[1].readings), (out, record.tuned)):
        assert wb("export", path, "-o", tmp_path / "x.onnx", "--force").exit_code == 0
        session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
        for split, name in ((data.validation, "acc"), (data.test, "test")):
            (logits,) = session.run(None, {"pixel_values": split.pixels()})
            assert float(np.mean(logits.argmax(1) == split.labels)) == readings[name].value
            scores[name].append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
        assert count_macs(load(path).architecture) == readings["macs"]
        assert count_parameters(load(path).architecture) == readings["params"]
        assert readings["size"].value == (tmp_path / "x.onnx").stat().st_size
    for split, name in ((data.validation, "acc"), (data.test, "test")):
        right = np.mean((scores[name][0] + scores[name][1]).argmax(1) == split.labels)
        assert record.ensemble[name].value == right
    assert "nothing was measured" not in result.stderr
    assert (tmp_path / "x.onnx").read_bytes() == left, "what is left is what `wb export` writes"


@pytest.mark.usefixtures("page")
def test_the_report_again(a: Path, c: Path, tmp_path: Path) -> None:
    assert wb("fuse", a, c, "-o", tmp_path / "x.pt").exit_code == 0
    reported = succeeded("report", tmp_path / "x.json", "-o", tmp_path / "again.html")
    assert reported.stdout.splitlines()[-1] == f"wrote {tmp_path / 'again.html'}"
    assert (tmp_path / "again.html").read_text() == (tmp_path / "x.html").read_text()
    content = json.loads((tmp_path / "x.json").read_text())
    del content["one_shot"]["macs"]
    (tmp_path / "bad.json").write_text(json.dumps(content))
    reported = wb("report", tmp_path / "bad.json")
    assert reported.exit_code == 1
    assert "the fused model has no reading of macs" in reported.stderr
    for text in ("[]", "{", '{"kind": 3}', '{"kind": "other"}'):
        (tmp_path / "bad.json").write_text(text)
        reported = wb("report", tmp_path / "bad.json")
        assert reported.exit_code == 1
        assert "is damaged or no record" in reported.stderr
        assert "Traceback" not in reported.stderr
    assert not (tmp_path / "bad.html").exists()


OPTIONS: dict[str, tuple[tuple[object, ...], Settings]] = {
    "perm": (("--method", "perm"), Settings(method="perm")),
    "vanilla": (("--method", "vanilla"), Settings(method="vanilla")),
    "ot": (("--method", "ot", "--stat", "weights"), Settings(method="ot", stat="weights")),
    "solver": (("--solver", "sinkhorn"), Settings(solver="sinkhorn")),
    "reg": (("--solver", "sinkhorn", "--reg", 0.5), Settings(solver="sinkhorn", reg=0.5)),
    "anchor": (("--anchor", 2), Settings(anchor=2)),
    "mean": (("--anchor", "mean"), Settings(anchor="mean")),
    "weights": (("--weights", "0.3, 0.7"), Settings(weights=(0.3, 0.7))),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_do_what_they_say(a: Path, b: Path, tmp_path: Path, name: str) -> None:
    options, settings = OPTIONS[name]
    succeeded("fuse", a, b, "-o", tmp_path / "x.pt", *options)
    made = load(tmp_path / "x.pt").fingerprint()
    assert made == fused([a, b], settings)
    assert made != fused([a, b], Settings())


def test_sizes_and_three_parents(a: Path, b: Path, c: Path, tmp_path: Path) -> None:
    small, large = load(a).architecture, load(c).architecture
    for size, expected in (("small", small), ("large", large), ("anchor", large)):
        succeeded("fuse", c, a, b, "-o", tmp_path / "x.pt", "--size", size, "--force")
        assert load(tmp_path / "x.pt").architecture == expected, size
    assert len(Fusion.read(tmp_path / "x.json").parents) == 3


def test_options_that_look_at_images(a: Path, b: Path, tmp_path: Path) -> None:
    data = load_data("digits", limit=100)
    seen = []
    for options, images in (
        (("--repair",), len(data.train) * 4 // 5),  # a fifth judges
        (("--method", "orth", "--stat", "activations", "--calib", 32), 32),
        (("--calib", 32, "--seed", 1), 32),
        (("--method", "orth"), 0),
    ):
        succeeded("fuse", a, b, "-o", tmp_path / "x.pt", *DATA, *options, "--force")
        record = Fusion.read(tmp_path / "x.json")
        assert record.images == images, options
        assert record.config.settings.method == ("orth" if "--repair" in options or "orth" in options else "regress")
        seen.append(load(tmp_path / "x.pt").fingerprint())
    assert len(set(seen)) == len(seen)


def test_finetuning_and_its_rate(a: Path, b: Path, tmp_path: Path) -> None:
    found = {}
    for options in ((), ("--learning-rate", 1e-4)):
        succeeded(
            "fuse", a, b, "-o", tmp_path / "x.pt", *DATA, "--method", "orth", "--finetune", 1, *options, "--force"
        )
        step = load(tmp_path / "x.pt").history[-1]
        assert (step.name, step.arguments["distilled"], step.arguments["epochs"]) == ("finetune", True, 1)
        found[step.arguments["learning_rate"]] = load(tmp_path / "x.pt").fingerprint()
    assert found.keys() == {3e-4, 1e-4}
    assert len(set(found.values())) == 2


def test_into_another_architecture(a: Path, c: Path, tmp_path: Path) -> None:
    target = of_digits(embed=10, heads=1, mlp=16)
    (tmp_path / "x.json").write_text(target.to_json())
    clash = wb("fuse", a, c, "-o", tmp_path / "x.pt", "--to", tmp_path / "x.json", "--force")
    assert clash.exit_code == 2
    assert "x.json is one of the files that are fused" in clash.stderr
    (tmp_path / "x.json").rename(tmp_path / "target.json")
    for models in ((a, c), (c,)):
        succeeded("fuse", *models, "-o", tmp_path / "x.pt", "--to", tmp_path / "target.json", "--force")
        assert load(tmp_path / "x.pt").architecture == target
        assert load(tmp_path / "x.pt").fingerprint() == fused(list(models), Settings(), target=target)
    succeeded("fuse", a, "-o", tmp_path / "y.pt", "--to", c)
    assert load(tmp_path / "y.pt").architecture == load(c).architecture


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    a: Path, c: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wb.export.timing.estimate.measure_latency", lambda *_, **__: None)
    monkeypatch.setattr("wb.jobs.frame.job.Job.__call__", lambda _: pytest.fail("it is done"))
    result = succeeded("fuse", a, c, *DATA, "--finetune", 3, "--dry-run", "-o", "x.pt")
    for words in (
        "residual stream",
        "go with nothing",
        "fine-tuning",
        "3 epochs of 4 steps",
        "final readings",
        "in all",
        "would write x.onnx",
    ):
        assert words in result.stdout, words
    found = json.loads(wb("fuse", a, c, *DATA, "--finetune", 3, "--dry-run", "-o", "x.pt", "--json").stdout)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == ["data", "network", "fusing", "curves", "fine-tuning", "final readings"]
    assert "looking at 80 training images" in stages["fusing"]["what"]
    assert stages["curves"]["what"].startswith("11 averages"), "models of two depths cannot be averaged as they are"
    assert all(stages[name]["seconds"] > 0 for name in ("fusing", "curves", "fine-tuning", "final readings"))
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"]))
    assert found["models"][1]["match"]
    assert found["files"] == ["x.html", "x.json", "x.onnx", "x.pt"]
    plain = json.loads(wb("fuse", a, c, "--dry-run", "-o", "x.pt", "--json").stdout)
    assert [stage["name"] for stage in plain["stages"]] == ["network", "network", "fusing"], "nothing is measured"
    assert files(tmp_path) == set()
    (tmp_path / "x.onnx").touch()
    assert "x.onnx exists already" in wb("fuse", a, c, "--dry-run", "-o", "x.pt").stderr
    assert "--dry-run says all that --check does" in wb("fuse", a, c, "--dry-run", "--check").stderr


def test_a_dry_run_without_models_trains_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wb.export.timing.estimate.measure_latency", lambda *_, **__: None)
    monkeypatch.setattr("wb.training.train.fit_module", lambda *_: pytest.fail("it is trained"))
    result = succeeded("fuse", "--limit", 64, "--calib", 16, "--method", "perm", "--repair", "--dry-run", "--json")
    names = [stage["name"] for stage in json.loads(result.stdout)["stages"]]
    assert names.count("stock model") == 2
    assert names.count("network") == 2
    assert files(tmp_path) == set()


def test_check_says_how_and_writes_nothing(
    a: Path, b: Path, c: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wb.fusion.job.job.fuse", lambda *_, **__: pytest.fail("it is fused"))
    result = succeeded("fuse", a, b, "--check")
    for words in ("residual stream", "s0.b0 to b1", "classes: 10, matched by name", "blocks: matched in order"):
        assert words in result.stdout, words
    key = SMALL.key
    assert f"a.safetensors and b.safetensors can be fused by orth, into the architecture of a.safetensors ({key}" in (
        result.stdout
    )
    result = succeeded("fuse", a, c, "--check", *DATA)
    assert "by regress" in result.stdout
    assert "of c.safetensors go with nothing" in result.stdout
    assert "s0.b2" in result.stdout
    result = wb("fuse", a, c, "--check", "--size", "large")
    assert "a.safetensors has nothing for" in result.stdout
    (tmp_path / "target.json").write_text(of_digits(embed=9, mlp=20).to_json())
    result = wb("fuse", a, c, "--check", "--to", tmp_path / "target.json")
    assert "target" in result.stdout.splitlines()[2]
    assert "into the architecture of the target" in result.stdout
    assert files(tmp_path) == {"target.json"}


def test_check_for_programs(a: Path, c: Path, tmp_path: Path) -> None:
    unnamed = load(c)
    save(replace(unnamed, architecture=unnamed.architecture.with_labels(())), tmp_path / "c.pt")
    result = succeeded("fuse", a, tmp_path / "c.pt", "--check", "--json", "--anchor", 2)
    found = json.loads(result.stdout)
    assert (found["fusable"], found["method"], found["anchor"]) == (True, "orth", 2)
    assert found["target"]["s0.embed"] == 16
    assert [model["axes"]["s0.embed"] for model in found["models"]] == [12, 16]
    first = found["models"][0]["match"][0]
    assert len(first) == 3
    assert first.count(None) == 1
    gone = f"s0.b{first.index(None)}"
    assert found["models"][0]["missing"] == [f"{gone}.mixer", f"{gone}.ffn"]
    assert found["models"][1]["alone"] == []
    assert len(found["notes"]) == 1
    assert "has no class names" in found["notes"][0]
    assert "note: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "vanilla"], "vanilla averages equal architectures only; take orth"),
        (["--method", "ot", "--stat", "weights"], "ot transports equal depths"),
        (["--anchor", "3"], "anchor 3: there are 2 models; give 1 to 2"),
        (["--weights", "1"], "weights 1 do not fit"),
        (["--method", "regress"], "looks at images; name data with --data"),
    ],
)
def test_check_gives_the_errors_of_fusing(a: Path, c: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    checked = wb("fuse", a, c, "--check", *arguments)
    made = wb("fuse", a, c, "-o", tmp_path / "sub" / "x.pt", *arguments)
    for result in (checked, made):
        assert result.exit_code in (1, 2), result.output
        assert words in result.stderr
        assert result.stdout == ""
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "best"], "method: Input should be 'vanilla', 'ot', 'perm', 'orth' or 'regress'"),
        (["--stat", "logits"], "stat: Input should be"),
        (["--solver", "simplex"], "solver: Input should be"),
        (["--size", "huge"], "size: Input should be"),
        (["--reg", "0.1"], "reg is Sinkhorn's; lap has none"),
        (["--solver", "sinkhorn", "--reg", "0"], "reg: Input should be greater than 0"),
        (["--anchor", "0"], "--anchor '0' is no model; give its number"),
        (["--anchor", "first"], "--anchor 'first' is no model"),
        (["--anchor", "1", "--size", "small"], "leave out anchor or size"),
        (["--anchor", "mean", "--method", "vanilla"], "anchor 'mean' compares weights in perm, orth and regress only"),
        (["--weights", "half"], "--weights 'half' is no list of numbers"),
        (["--weights", "0,0"], "weights 0,0 do not fit"),
        (["--weights", "1,-1"], "weights.1: Input should be greater than or equal to 0"),
        (["--weights", "1,nan"], "weights.1: Input should be"),
        (["--weights", "1,2,3"], "weights 1,2,3 do not fit"),
        (["--method", "vanilla", "--solver", "emd"], "vanilla compares nothing"),
        (["--method", "regress", "--repair", *map(str, DATA)], "repair does not go with regress"),
        (["--method", "regress"], "--method regress looks at images; name data with --data"),
        (["--repair"], "--repair looks at images; name data with --data"),
        (["--stat", "activations"], "comparing activations looks at images; name data with --data"),
        (["--method", "ot"], "comparing activations looks at images; name data with --data"),
        (["--finetune", "2"], "--finetune is of no use without data; name some with --data"),
        (["--calib", "8"], "--samples is of no use without data"),
        (["--limit", "8"], "--limit is of no use without data"),
        (["--image-size", "8"], "--image-size is of no use without data"),
        (["--device", "cpu"], "--device is of no use without data"),
        (["--learning-rate", "0.1"], "--learning-rate is that of fine-tuning; add --finetune"),
        (["--calib", "8", "--method", "orth", *map(str, DATA)], "looks at no images; leave out --samples"),
        (["--device", "tpu", *map(str, DATA)], "there is no device 'tpu'"),
        (["--calib", "0", *map(str, DATA)], "samples"),
        (["--finetune", "-1"], "finetune"),
        (["--data", "imagefolder:/nowhere"], "/nowhere"),
        (["--data", "pictures"], "is not a form that is known"),
        (["--data", "digits", "--image-size", "16"], "name other data with --data"),
        (["--to", "/nowhere.json"], "there is no file /nowhere.json"),
        (["--seed", "-1"], "seed"),
        (["-o", "x.onnx"], "end it in .safetensors or .pt"),
    ],
)
def test_bad_input_is_one_clear_error(a: Path, b: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    result = wb("fuse", a, b, "-o", tmp_path / "sub" / "x.pt", *arguments)
    assert result.exit_code in (1, 2), result.output
    assert words in result.stderr
    assert result.stderr.count("error:") <= 1
    assert "Traceback" not in result.stderr
    assert "mistake of wb's" not in result.stderr
    assert files(tmp_path) == set(), "nothing is written"


def test_bad_models(a: Path, c: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.pt"
    model = load(a)
    here = model.architecture
    nan = {**model.weights, "head_bias": torch.full((10,), float("nan"))}
    post = {name: weight for name, weight in model.weights.items() if not name.startswith("norm.")}
    gone = {**model.weights, "head": model.weights["head"][:3], "head_bias": model.weights["head_bias"][:3]}
    huge = {name: weight * 1e30 for name, weight in model.weights.items()}
    flat = answering(here, pool="first").model_copy(update={"prefix": 1})
    token = {**model.weights, "cls": torch.zeros(12), "position": torch.zeros(17, 12)}
    bad = {
        "nan": replace(model, weights=nan),
        "post": replace(model, architecture=wired(here, "post"), weights=post),
        "other": replace(model, architecture=here.with_labels(tuple("abcdefghij"))),
        "three": replace(model, architecture=answering(here, classes=3, labels=()), weights=gone),
        "huge": replace(model, weights=huge),
        "token": replace(model, architecture=flat, weights=token),
    }
    for name, one in bad.items():
        save(one, tmp_path / f"{name}.pt")
    (tmp_path / "text.pt").write_text("no model")
    (tmp_path / "text.safetensors").write_text("no model")
    before = files(tmp_path)
    for name, words in (
        ("nan.pt", "has NaN or infinite weights, first in head_bias"),
        ("post.pt", "has norms post-norm and"),
        ("other.pt", "the classes of"),
        ("three.pt", "has 3 classes and"),
        ("huge.pt", "look for huge weights"),
        ("token.pt", "has a prefix of 1 tokens and"),
        ("text.pt", "cannot be read as weights only"),
        ("text.safetensors", "is no safetensors file or is damaged"),
        ("none.pt", "there is no file"),
    ):
        for options in (("-o", out), ("-o", out, *DATA), ("--check",)):
            result = wb("fuse", a, tmp_path / name, *options)
            assert result.exit_code in (1, 2), (name, result.output)
            assert words in result.stderr, name
            assert result.stderr.count("error:") == 1
            assert "Traceback" not in result.stderr
            assert "mistake of wb's" not in result.stderr
            assert files(tmp_path) == before, name
    alone = wb("fuse", a, "-o", tmp_path / "x.pt")
    assert alone.exit_code == 2
    assert "one model cannot be fused; give two or more, or one with --to" in alone.stderr


def test_a_parent_is_not_overwritten(a: Path, b: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(a.read_bytes())
    monkeypatch.chdir(tmp_path)
    for out in (own, "own.safetensors", f"../{tmp_path.name}/own.safetensors"):
        result = wb("fuse", b, own, "-o", out, "--force")
        assert result.exit_code == 2
        assert "is one of the files that are fused; choose another name" in result.stderr
    assert own.read_bytes() == a.read_bytes()
    assert files(tmp_path) == {"own.safetensors"}


def test_two_stock_models_are_the_default(a: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wb.training.fit import Recipe

    small = load(a).architecture  # in place of the preset's
    monkeypatch.setattr("wb.spaces.stock.Stock.architecture", property(lambda _: small))
    monkeypatch.setattr("wb.spaces.stock.RECIPE", Recipe(epochs=1))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    succeeded("fuse", "--limit", 100, "--calib", 32, "--seed", 3)
    (out,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in out.iterdir()} == {
        f"fused.{ending}" for ending in ("safetensors", "onnx", "json", "html")
    }
    kept = sorted((tmp_path / "cache" / "wb" / "models").iterdir())
    assert [path.stem.split("-")[-2] for path in kept] == ["3", "4"]
    record = Fusion.read(out / "fused.json")
    assert [parent.name for parent in record.parents] == ["stock model, seed 3", "stock model, seed 4"]
    assert [parent.key for parent in record.parents] == [load(path).fingerprint() for path in kept]
    assert (record.config.data, record.config.finetune, record.config.settings.method) == ("digits", 5, "regress")
    succeeded("fuse", "--limit", 100, "--calib", 32, "--seed", 3, "--finetune", 0, "-o", tmp_path / "x.pt")
    assert Fusion.read(tmp_path / "x.json").config.finetune == 0
    assert load(tmp_path / "x.pt").history[-1].name == "fuse"
    assert wb("fuse", "--check").exit_code == 2


def test_a_killed_fusion_continues(a: Path, b: Path, tmp_path: Path) -> None:
    arguments = ["fuse", a, b, *DATA, "--calib", 64, "--finetune", 3]
    checkpoint = tmp_path / "x.partial" / "tuned.checkpoint"
    Command(*arguments, "-o", tmp_path / "x.pt").until(checkpoint.exists).kill()
    assert files(tmp_path) & {"x.pt", "x.json", "x.html"} == set()
    other = wb(*arguments[:-1], 2, "-o", tmp_path / "x.pt")
    assert other.exit_code == 1
    assert "belongs to a fusion with other settings, models or data" in other.stderr
    continued, whole = (wb(*arguments, "-o", tmp_path / name) for name in ("x.pt", "whole.pt"))
    for result in (continued, whole):
        assert result.exit_code == 0, result.output
    assert load(tmp_path / "x.pt").fingerprint() == load(tmp_path / "whole.pt").fingerprint()
    one, two = (Fusion.read(tmp_path / f"{name}.json") for name in ("x", "whole"))
    assert one.tuned == two.tuned
    assert not (tmp_path / "x.partial").exists()


def test_an_interrupted_fusion_says_how_to_go_on(
    a: Path, b: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.pt"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wb.fusion.job.finish.Finish.finetuned", stop)
        stopped = wb("fuse", a, b, "-o", out, *DATA, "--method", "orth", "--finetune", 1)
    assert stopped.exit_code == 130
    assert f"what is done is in {tmp_path / 'x.partial'}; the same command with -o {out} continues" in stopped.stderr
    assert wb("fuse", a, b, "-o", out, *DATA, "--method", "orth", "--finetune", 1).exit_code == 0
