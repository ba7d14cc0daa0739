"""Weights that do not fit are read whenever they are needed, and the outputs are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.staged.parts import parts, ran, stored
from tests.networks import images, of_digits, random_model
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.models.exits.record import KEY
from wb.models.files.tensorfile import entries_of, header_of, write_tensors
from wb.models.model import Model, metadata_of, save
from wb.models.staged.stored import Stored

DEPTH = 6


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model(of_digits(depth=DEPTH))


def test_a_pool_holds_what_it_may_and_gives_the_same(model: Model, tmp_path: Path) -> None:
    given, inputs = stored(model, tmp_path), images(model.architecture).double()
    (whole,) = parts(given, 1)
    block = sum(w.numel() for name, w in model.weights.items() if name.startswith("stages.0.0.")) * 8
    ends = whole.pool.held - DEPTH * block
    expected = ran([whole], inputs)
    assert whole.pool.read == whole.pool.held
    for resident in (ends + 2 * block, ends + 4 * block + 1, whole.pool.held - 1):
        (part,) = parts(given, 1, resident)
        assert part.pool.held <= resident
        assert len(part.pool.streamed) == DEPTH - (resident - ends - 2 * block) // block
        for _ in range(3):
            assert torch.equal(ran([part], inputs), expected)
        part.pool.close()
        assert part.pool.read >= ends + 3 * len(part.pool.streamed) * block
    with pytest.raises(BadOption, match=f"--resident 1,000 has no room .* {ends + 2 * block:,} bytes"):
        parts(given, 1, 1000)


def test_stages_hold_their_own_layers(model: Model, tmp_path: Path) -> None:
    given = stored(model, tmp_path)
    (whole,) = parts(given, 1)
    assert sum(part.pool.held for part in parts(given, 3)) == whole.pool.held
    assert max(part.pool.held for part in parts(given, 3)) < whole.pool.held / 2


def test_files_that_are_not_right_are_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(model, path)
    before = Stored.at(path)
    save(random_model(model.architecture, seed=1), path, force=True)
    with pytest.raises(BadArtefact, match="was replaced while it was read"):
        parts(before, 1)
    broken = {name: weight.clone() for name, weight in model.weights.items()}
    broken["stages.0.5.mixer.wq"][0, 0, 0] = torch.nan
    save(Model(model.architecture, broken), path, force=True)
    with pytest.raises(BadArtefact, match=r"NaN or infinite weights in stages.0.5.mixer.wq"):
        parts(Stored.at(path), 1)
    fewer = {name: weight for name, weight in model.weights.items() if name != "head"}
    entries = entries_of(fewer)
    write_tensors(path, header_of(entries, metadata_of(model)), entries, fewer.__getitem__)
    with pytest.raises(BadArtefact, match="1 weights do not fit the architecture, the first is head: given nothing"):
        Stored.at(path)
    entries = entries_of(model.weights)
    write_tensors(path, header_of(entries, {**metadata_of(model), KEY: "{}"}), entries, model.weights.__getitem__)
    with pytest.raises(Unsupported, match="early exits"):
        Stored.at(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadArtefact, match="damaged"):
        Stored.at(path)
    with pytest.raises(BadArtefact, match="there is no file"):
        Stored.at(tmp_path / "none.safetensors")
