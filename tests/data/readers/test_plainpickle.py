from __future__ import annotations

import os
import pickle
import subprocess
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from wb.core.errors import BadData
from wb.data.readers import plainpickle

ARRAY = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("array", [ARRAY, np.asfortranarray(ARRAY)])
def test_plain_data_and_byte_arrays_are_read(tmp_path: Path, protocol: int, array: np.ndarray) -> None:
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": array, b"labels": [1, 2], b"name": b"x\xff"}, protocol=protocol))
    content = plainpickle.load(path)
    assert np.array_equal(content.pop(b"data"), array)  # type: ignore[arg-type]
    assert content == {b"labels": [1, 2], b"name": b"x\xff"}


def test_a_pickle_as_python_2_wrote_it_is_read(tmp_path: Path) -> None:
    # By hand, because Python 3 writes bytes differently: strings of Python 2 are SHORT_BINSTRING (U).
    raw = bytes(range(6))
    text = (
        b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x06" + raw + b"tbU\x06labels](K\x03K\x04eu."
    )
    path = tmp_path / "batch"
    path.write_bytes(text)
    content = plainpickle.load(path)
    assert np.array_equal(content[b"data"], np.frombuffer(raw, np.uint8).reshape(2, 3))  # type: ignore[arg-type]
    assert content[b"labels"] == [3, 4]


class _Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, os.system, subprocess.Popen, eval, getattr, np.fromfile, np.load])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, function: object) -> None:
    target = tmp_path / "made"
    argument = (
        f"mkdir {target}"
        if function is os.system
        else ["mkdir", str(target)]
        if function is subprocess.Popen
        else str(target)
    )
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": _Calls(function, argument)}, protocol=2))
    with pytest.raises(
        BadData, match=r"batch is refused: it asks for [\w.]+, which a file of images never needs; get it"
    ):
        plainpickle.load(path)
    assert not target.exists()


def test_the_harmful_pickle_of_these_tests_is_harmful(tmp_path: Path) -> None:
    # Otherwise the test above could not fail.
    pickle.loads(pickle.dumps(_Calls(os.mkdir, str(tmp_path / "made")), protocol=2))
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.dtype("O"), np.dtype("u1,u1")])
def test_arrays_of_other_types_are_refused(tmp_path: Path, dtype: np.dtype) -> None:
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": np.zeros(3, dtype)}, protocol=2))
    with pytest.raises(BadData, match="an array of another type than bytes"):
        plainpickle.load(path)


def _array(*state: object) -> bytes:
    """A pickle of an array as numpy writes it, but with this state."""
    rebuild, arguments, _ = cast("tuple[object, object, object]", np.zeros(0).__reduce__())

    class State:
        def __reduce__(self) -> tuple[object, ...]:
            return rebuild, arguments, state or None

    return pickle.dumps({b"data": State()}, protocol=3)


BYTE = np.dtype(np.uint8)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (_array(), "an array without content"),
        (_array(1, 2), "an array without content"),
        (_array(1, (3,), "u1", False, b"abc"), "another type than bytes"),
        (_array(1, (-3,), BYTE, False, b"abc"), "impossible shape"),
        (_array(1, "3", BYTE, False, b"abc"), "impossible shape"),
        (_array(1, (2**40,), BYTE, False, b"abc"), "whose content has another size"),
        (_array(1, (3,), BYTE, False, ["a", "b", "c"]), "whose content has another size"),
        (pickle.dumps([1, 2]), "it holds a list, not a dictionary"),
        (pickle.dumps({b"a": 1})[:-3], "is damaged or no pickle"),
        (pickle.dumps({b"a": b"x" * 100}, protocol=2)[:40], "is damaged or no pickle"),
        (b"", "is damaged or no pickle .*empty"),
        (b"\x89PNG\r\n\x1a\n", "is damaged or no pickle"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "bytes encoded as 'rot13'"),
        (b"\x80\x02r\xff\xff\xff\xff.", "is damaged or no pickle"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(BadData, match=text):
        plainpickle.load(path)
