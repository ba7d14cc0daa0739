"""`wb grow` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import files, succeeded, wb
from tests.networks import of_digits, random_model
from wb import api
from wb.models.model import load, save


def test_a_model_grows_into_an_architecture_and_says_how(tmp_path: Path) -> None:
    given, to, out = (tmp_path / name for name in ("a.safetensors", "to.json", "g.safetensors"))
    save(random_model(of_digits(depth=1), gain=1.0), given)
    to.write_text(of_digits(embed=24, depth=2, heads=3, mlp=40).to_json(), encoding="utf-8")
    said = " ".join(succeeded("grow", given, "--to", to, "-o", out).stdout.split())
    assert "1 isometry" in said
    assert f"`wb train --from {out}` goes on training" in said
    assert files(tmp_path) == {"a.safetensors", "to.json", "g.safetensors", "g.onnx"}
    again = api.grow(given, to, out, force=True)
    assert again.model.fingerprint() == load(out).fingerprint()
    assert again.difference.value < 1e-3
    content = json.loads(succeeded("grow", given, "--to", to, "-o", out, "--force", "--seed", 1, "--json").stdout)
    before, after = (one["value"] for one in content["counts"]["parameters"])
    assert before < after
    for arguments, words in (
        (("grow", out, "--to", given, "-o", tmp_path / "x.pt"), "growing makes nothing smaller; `wb prune` does"),
        (("grow", given, "--to", to, "-o", out), "exists already"),
        (("grow", given, "--to", tmp_path / "no.json", "-o", tmp_path / "x.pt"), "there is no file"),
    ):
        refused = wb(*arguments)
        assert refused.exit_code in (1, 2)
        assert words in " ".join(refused.stderr.split())
