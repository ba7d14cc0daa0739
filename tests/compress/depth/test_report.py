from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks import assembled
from tests.pages import Page
from wb.compress.depth.analysis import DepthAnalysis, analyze_depth
from wb.compress.depth.report import About, page, result, write_depth_report
from wb.core.architecture import Block, Stage
from wb.core.errors import BadOption
from wb.core.records import ImageInput, Mlp, PatchStem, Pool
from wb.data.split import Images
from wb.models.model import from_network
from wb.models.network import build

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'
ABOUT = About("a.safetensors", "digits", "validation", {"model": {"architecture": "0123"}})


def analysis_of(image: ImageInput, *blocks: Block) -> DepthAnalysis:
    torch.manual_seed(0)
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=blocks),), classes=3)
    network = build(a)
    network.reset()
    rng = np.random.default_rng(0)
    split = Images(rng.random((9, 1, 8, 8), dtype=np.float32), rng.integers(3, size=9))
    return analyze_depth(from_network(a, network), split)


@pytest.fixture(scope="module")
def analysis(image: ImageInput) -> DepthAnalysis:
    both = Block(mixer=Pool(), ffn=Mlp(mlp=12))
    return analysis_of(image, both, Block(mixer=Pool()), Block(), Block(ffn=Mlp(mlp=5)))


def test_everything_is_on_the_page(analysis: DepthAnalysis, tmp_path: Path) -> None:
    path = write_depth_report(analysis, ABOUT, tmp_path / "depth.html")
    shown = Page(path.read_text(encoding="utf-8"))
    figures = {f"figure-{name}" for name in ("output", "change", "direct", "contribution", "lens")}
    assert figures | {row.name for row in analysis.sublayers} | {"blocks", "settings"} <= shown.ids()
    assert "9 images" in shown.text
    assert result(analysis) in shown.text
    assert "With 3 classes the overlap says nothing." in shown.text
    for row in analysis.sublayers:
        assert f"{row.output.kl:.3g}" in shown.text
    with pytest.raises(BadOption, match="exists already"):
        write_depth_report(analysis, ABOUT, path)
    write_depth_report(analysis, ABOUT, path, force=True)


def test_only_mixers_and_no_sublayers(image: ImageInput) -> None:
    mixers = analysis_of(image, Block(mixer=Pool()))
    assert "figure-output" in Page(page(mixers, ABOUT)).ids()
    none = analysis_of(image, Block())
    shown = Page(page(none, About("a", "digits", "train")))
    assert "This network has no sub-layers" in shown.text
    assert not any(name.startswith("figure-") for name in shown.ids())


def test_the_result_names_both_ends(analysis: DepthAnalysis) -> None:
    rows = sorted(analysis.sublayers, key=lambda row: row.output.kl)
    assert f"Without {rows[0].name} the output changes least" in result(analysis)
    assert f"{rows[-1].name} most" in result(analysis)


def test_nothing_given_becomes_code(analysis: DepthAnalysis) -> None:
    plain = Page(page(analysis, ABOUT))
    spoiled = About(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: {HOSTILE: (HOSTILE,)}})
    shown = Page(page(analysis, spoiled))
    assert shown.count("img") == 0
    assert shown.count("script") == plain.count("script")
    assert HOSTILE in shown.text
