"""Commands on texts: trained, exported, measured, named, and refused where they are not made for them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.commands import succeeded, wb
from wb.core.specs import IDS, MASK
from wb.export.graph import read_architecture
from wb.models.counting import count_macs
from wb.models.files.history import tokenizer_of
from wb.models.model import load
from wb.search.page.usage import script

FORMS = {"card": "my card is {} and {}", "loan": "the loan was {} {}", "rate": "which rate is {} or {}"}
GRAPHS = ("model.onnx", "model_b1.onnx")
COLUMNS = ("--text-column", "question", "--label-column", "kind")
WORDS = ("late", "here", "lost", "low", "new", "old", "paid", "due")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of three kinds, in columns with names of their own."""
    path = tmp_path_factory.mktemp("texts") / "train.csv"
    rows = [f'"{form.format(a, b)}",{name}' for a in WORDS for b in WORDS for name, form in FORMS.items()]
    path.write_text("\n".join(["question,kind", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def model(table: Path) -> Path:
    """A model that has learned them."""
    out = table.with_name("t.safetensors")
    found = succeeded("train", "--data", f"csv:{table}", *COLUMNS, "--epochs", 8, "-o", out, "--json")
    assert json.loads(found.stdout)["test"]["value"] > 0.9
    return out


@pytest.fixture(scope="module")
def graph(model: Path) -> Path:
    """Its graph, with the tokenizer beside it."""
    succeeded("export", model, "-o", model.with_suffix(".onnx"))
    return model.with_suffix(".onnx")


def refused(*arguments: object) -> str:
    """The error of a command, on one line."""
    result = wb(*arguments)
    assert result.exit_code in (1, 2), (arguments, result.output)
    error = " ".join(result.output.split())
    assert "Traceback" not in error
    return error[error.index("error:") :]


def test_a_model_and_its_graph_keep_the_tokenizer(model: Path, graph: Path) -> None:
    own = tokenizer_of(load(model).history)
    metadata = {entry.key: entry.value for entry in onnx.load(graph).metadata_props}
    assert own == metadata["wb.tokenizer"] == graph.with_suffix(".tokenizer.json").read_text()
    assert "tokenizer" not in metadata["wb.history"]
    assert [one.name for one in onnx.load(graph).graph.input] == [IDS, MASK]


def test_texts_are_named_by_both_and_by_the_script_of_the_page(model: Path, graph: Path, tmp_path: Path) -> None:
    texts = ["my card is lost and due", "which rate is low or old", "the loan was paid late"]
    (tmp_path / "t.txt").write_text("\n".join(texts))
    for given in (model, graph):
        for asked in (texts, [tmp_path / "t.txt"]):
            found = json.loads(succeeded("predict", given, *asked, "--json").stdout)["texts"]
            assert [(one["text"], one["class"]) for one in found] == list(
                zip(texts, ("card", "rate", "loan"), strict=True)
            )
    architecture = read_architecture(graph)
    assert architecture is not None
    code = script(str(graph), architecture, "csv:x.csv")
    said = subprocess.run([sys.executable, "-c", code, texts[1]], capture_output=True, text=True, check=True)
    assert said.stdout.startswith(f"{texts[1]}: rate (")


def test_latency_and_work_are_of_a_length_that_is_said(model: Path, graph: Path) -> None:
    usual = load(model).architecture.input.usual_tokens
    found = {
        tokens: json.loads(succeeded("measure", graph, "--cap", 0.1, *how, "--json").stdout)
        for tokens, how in ((usual, ()), (4, ("--tokens", 4)))
    }
    for tokens, readings in found.items():
        assert readings["latency"]["note"].startswith(f"of one text of {tokens} tokens")
    assert found[4]["macs"]["value"] < found[usual]["macs"]["value"]
    assert found[usual]["accuracy (train.csv, test)"]["value"] > 0.9
    assert "--tokens 9999 is longer than the network reads" in refused("measure", graph, "--tokens", 9999)


def test_texts_longer_than_the_model_are_read_only_with_truncate_and_counted(
    model: Path, table: Path, tmp_path: Path
) -> None:
    """By every command: on data that are named, on those of the history, and on texts as they are."""
    length = load(model).architecture.layout.tokens
    long = "my card is " + "lost and " * length
    said = refused("predict", model, long, "the loan was paid late")
    assert f"1 of 2 texts are longer than the {length} tokens that the network reads" in said
    assert "give --truncate" in said
    found = json.loads(succeeded("predict", model, long, "--truncate", "--json").stdout)
    assert (found["cut"], found["texts"][0]["class"]) == (1, "card")
    assert json.loads(succeeded("run", model, long, "--truncate", "--json").stdout)["cut"] == 1
    assert "1 of 1 texts are longer" in refused("run", model, long)
    (tmp_path / "long.csv").write_text(f"question,kind\n{long},card\nthe loan was paid,loan\nwhich rate,rate\n")
    data = ("--data", f"csv:{table},{tmp_path / 'long.csv'}", *COLUMNS)
    for command in (
        ("measure", model, "--cap", 0.1),
        ("analyze", "depth", model, "-o", tmp_path / "d.html"),
        ("prune", "depth", model, "-o", tmp_path / "p.pt", "--budget", "macs=0.9x"),
        ("train", "--from", model, "-o", tmp_path / "f.pt", "--epochs", 1),
        ("quantize", model, "-o", tmp_path / "q.onnx"),
        ("fuse", model, model, "-o", tmp_path / "g.pt"),
    ):
        given = data if command[0] != "analyze" else ("--data", with_columns_of(data))
        assert f"1 of 3 texts for test are longer than the {length} tokens" in refused(*command, *given), command
    told = succeeded("measure", model, *data, "--cap", 0.1, "--truncate")
    assert f"1 of 3 texts for test are longer than {length} tokens: the rest is cut" in " ".join(told.stderr.split())
    succeeded("measure", model, "--cap", 0.1, "--truncate")
    for idle in (
        ("measure", model, "--data", "digits"),
        ("train", "--data", "digits", "-o", tmp_path / "x.pt"),
        ("search",),
    ):
        assert "--truncate is for texts" in refused(*idle, "--truncate")


def with_columns_of(data: tuple[str, ...]) -> str:
    """Data with their columns, as a command without options for these takes them."""
    return data[1].replace("csv:", f"csv,label={COLUMNS[3]},text={COLUMNS[1]}:")


def named(model: Path) -> dict[str, str]:
    """What a model or a graph calls some texts."""
    return named_texts(model, "my card is lost and due", "which rate is low or old", "the loan was paid late")


def named_texts(model: Path, *texts: str) -> dict[str, str]:
    """What a model or a graph calls these."""
    found = json.loads(succeeded("predict", model, *texts, "--json").stdout)["texts"]
    return {one["text"]: one["class"] for one in found}


@pytest.mark.parametrize("method", ["nvit", "depth"])
def test_pruned_models_name_texts_still(model: Path, tmp_path: Path, method: str) -> None:
    out, small = tmp_path / "p.safetensors", ("--budget", "macs=0.6x", "--finetune", 1)
    plan = json.loads(succeeded("prune", method, model, "-o", out, *small, "--dry-run", "--json").stdout)
    assert "texts for training" in plan["stages"][0]["what"]
    succeeded("prune", method, model, "-o", out, *small)
    for path in (out, out.with_suffix(".onnx")):
        assert named(path) == named(model)
    pruned = load(out)
    assert tokenizer_of(pruned.history) == tokenizer_of(load(model).history)
    assert count_macs(pruned.architecture).value <= 0.6 * count_macs(load(model).architecture).value


@pytest.mark.parametrize(("policy", "of"), [("int8-dynamic", "model"), ("int4-weights", "graph"), ("int8", "model")])
def test_quantized_models_name_texts_still(
    model: Path, graph: Path, table: Path, tmp_path: Path, policy: str, of: str
) -> None:
    given = model if of == "model" else graph
    out = tmp_path / "q.onnx"
    said = succeeded("quantize", given, "-o", out, "--policy", policy).stdout
    assert "in fp32: stem" not in said, "a table is no linear map"
    assert out.stat().st_size < 0.6 * graph.stat().st_size
    assert named(out) == named(model)
    if of == "graph":  # which no architecture describes any more
        readings = json.loads(
            succeeded("measure", out, "--cap", 0.1, "--data", f"csv:{table}", *COLUMNS, "--json").stdout
        )
        assert readings["accuracy (train.csv, test)"]["value"] > 0.9
        assert "images" not in (readings["accuracy (train.csv, test)"]["note"] or "")
        assert readings["latency"]["note"].startswith("of one text of ")


def test_models_of_one_tokenizer_are_fused(model: Path, table: Path, tmp_path: Path) -> None:
    for name, seed, more in (("own", 0, ()), ("other", 1, ()), ("words", 0, ("--tokenizer", "words"))):
        how = ("--seed", seed, "--epochs", 8 if name == "other" else 1, *more)
        succeeded("train", "--data", f"csv:{table}", *COLUMNS, *how, "-o", tmp_path / f"{name}.pt")
    out, other = tmp_path / "f.safetensors", tmp_path / "other.pt"
    found = json.loads(succeeded("fuse", model, other, "-o", out, "--json").stdout)
    assert found["images"] > 0
    assert named(out) == named(model)
    assert tokenizer_of(load(out).history) == tokenizer_of(load(model).history)
    assert "write texts with other tokenizers" in refused("fuse", model, tmp_path / "words.pt", "-o", tmp_path / "x.pt")


def test_models_of_tokenizers_with_other_ids_are_fused_and_each_is_read_with_its_own(
    model: Path, table: Path, tmp_path: Path
) -> None:
    tokenizer = json.loads(str(tokenizer_of(load(model).history)))
    ids, special = tokenizer["model"]["vocab"], {one["id"] for one in tokenizer["added_tokens"]}
    plain = [text for text, id_ in ids.items() if id_ not in special]
    ids |= {text: ids[other] for text, other in zip(plain, [*plain[1:], plain[0]], strict=True)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    how = ("--tokenizer", tmp_path / "tokenizer.json", "--epochs", 4, "-o", tmp_path / "other.pt", "--json")
    trained = json.loads(succeeded("train", "--data", f"csv:{table}", *COLUMNS, *how).stdout)
    data = ("--data", f"csv:{table}", *COLUMNS)
    found = json.loads(succeeded("fuse", model, tmp_path / "other.pt", *data, "-o", tmp_path / "f.pt", "--json").stdout)
    assert any(f"{len(ids):,} of {len(ids):,} tokens are matched by text" in note for note in found["notes"])
    assert found["parents"][1]["readings"]["test"]["value"] == pytest.approx(trained["test"]["value"])
    assert tokenizer_of(load(tmp_path / "f.pt").history) == tokenizer_of(load(model).history)


def test_depth_is_analyzed_without_padding(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.html"
    said = " ".join(succeeded("analyze", "depth", model, "-o", out, "--limit", 20).stdout.split())
    assert "measured on 20 texts of validation" in said
    assert "20 texts" in out.read_text()
    assert "images" not in out.read_text().split("<body")[1].split("<script")[0]


def test_a_bundle_reads_texts_without_wb(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "texts"
    succeeded("bundle", model, "-o", out, "--cap", 0.1)
    assert 'python infer.py "a text"' in (out / "README.md").read_text()
    assert "for ONNX Runtime or PyTorch. Made by" in (out / "README.md").read_text()
    assert "load()(ids, mask)" in (out / "README.md").read_text()

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "infer.py", *arguments], cwd=out, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    assert run("--check") == (0, "".join(f"{name}: differs by 0 of the largest score, as it may\n" for name in GRAPHS))
    code, said = run(*named(model))
    assert code == 0
    assert [line.partition(" (")[0] for line in said.splitlines()] == [f"{a}: {b}" for a, b in named(model).items()]
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))
    stored = dict(np.load(out / "check.npz"))
    stored["texts"] = np.array([text.upper() for text in stored["texts"]])
    np.savez(out / "check.npz", **stored)
    code, said = run("--check")
    assert code == 1
    assert said.startswith("tokenizer.json: other tokens than were stored for '")


def test_a_model_is_tuned_further_with_its_own_vocabulary(model: Path, table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"my {word} zebra card,{name}\n" for word in WORDS for name in FORMS))
    how = ("--data", f"csv:{other}", "--truncate", "--epochs", 1)
    succeeded("train", "--from", model, *how, "-o", tmp_path / "u.safetensors")
    again = load(tmp_path / "u.safetensors")
    assert again.architecture.input == load(model).architecture.input
    assert tokenizer_of(again.history) == tokenizer_of(load(model).history)


def test_what_is_not_made_for_texts_says_so(model: Path, graph: Path, tmp_path: Path) -> None:
    commands = (
        ("convert", model, "--norm", "repbn", "-o", tmp_path / "b.pt"),
        ("export", model, "--mirror", "-o", tmp_path / "m.onnx"),
        ("search", "--from", model, "--supernet", "--out", tmp_path / "run"),
    )
    hashed = refused("binarize", model, "--attention", "hash", "-o", tmp_path / "b.pt")
    assert "hash attention cannot leave out padding" in hashed
    for command in commands:
        assert re.search(r"takes texts?[,;]|network takes text$", refused(*command)), command
    assert "transformers cannot say this network" in refused("export", model, "--to", "hf", tmp_path / "hf")
    assert "timm has no network here that takes texts" in refused("export", model, "--to", "timm", tmp_path / "timm")
    assert "--recipe light is not for texts" in refused(
        "train", "--data", "listops", "--recipe", "light", "-o", tmp_path / "x.pt"
    )
    assert "have images (1x8x8), and the model takes texts" in refused("measure", model, "--data", "digits")
    assert "space 'vit' is not for texts, which the data are; say --space text" in refused(
        "search", "--space", "vit", "--data", "listops", "--dry-run"
    )


def test_options_that_would_do_nothing_are_refused(model: Path, table: Path, tmp_path: Path) -> None:
    data, out = ("--data", f"csv:{table}", *COLUMNS), ("-o", tmp_path / "x.safetensors")
    for command in (("train", "--from", model), ("prune", "nvit", model, "--budget", "macs=0.5x"), ("quantize", model)):
        said = refused(*command, *data, "--tokenizer", "words", *out)
        assert "a network writes texts with its own; leave it out" in said
    how = (*data, "--tokenizer", "words", "--epochs", 1, *out)
    assert "this tokenizer has no merges; leave it out" in refused("train", *how, "--merge-dropout", 0.1)
    plan = json.loads(succeeded("train", *how, "--dry-run", "--json").stdout)
    assert "merges" not in json.dumps(plan)
    assert "there is no file nowhere.txt" in refused("predict", model, "nowhere.txt")
    assert list(named_texts(model, "a note on nowhere.txt", "--truncate")) == ["a note on nowhere.txt"]


def test_data_are_described_as_texts(table: Path, tmp_path: Path) -> None:
    said = succeeded("data", f"csv:{table}", *COLUMNS, "-o", tmp_path / "d.html").stdout
    assert "tokens" in said
    assert "one colour" not in said
    assert "<q>" in (tmp_path / "d.html").read_text()
