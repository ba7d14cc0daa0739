from __future__ import annotations

from pathlib import Path

import pytest

from wb.core.errors import BadOption
from wb.data.spec import Spec, resolved, with_background, with_columns, with_truncation


@pytest.mark.parametrize(
    "text",
    [
        *(
            "digits",
            "imagefolder:/a",
            "idx:/a:b",
            "imagefolder,background=black:/a,b",
            "imagefolder,background=#010203:x",
            "imagefolder,background=black,colours=grey:x",
            "npz,colours=grey:/a.npz",
        ),
        *("npz:/a.npz", "npz,values=features:/a.npz", "hf:a/b", "hf,background=black,config=c,image=i,label=l:/a"),
    ],
)
def test_a_spec_is_read_and_written(text: str) -> None:
    assert Spec.parse(text).text() == text


def test_white_goes_without_saying() -> None:
    assert with_background("imagefolder,background=black:/a", "#FFFFFF") == "imagefolder:/a"
    assert with_background("imagefolder:/a", "#000000") == "imagefolder,background=black:/a"
    assert with_background("imagefolder:/a", None) == "imagefolder:/a"


@pytest.mark.parametrize("data", [None, "digits", "idx:/a"])
def test_only_folders_have_a_background(data: str | None) -> None:
    with pytest.raises(BadOption, match="give it with --data imagefolder:PATH"):
        with_background(data, "black")


def test_a_path_means_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolved("imagefolder,background=black:x/../y") == f"imagefolder,background=black:{tmp_path / 'y'}"
    assert resolved("digits") == "digits"
    assert resolved("npz:a.npz") == f"npz:{tmp_path / 'a.npz'}"
    (tmp_path / "mine").mkdir()
    assert resolved("hf,label=y:mine") == f"hf,label=y:{tmp_path / 'mine'}"
    assert resolved("hf:mine/more") == "hf:mine/more", "no folder here, so a name on the hub"
    assert resolved("hf:./mine/more") == f"hf:{tmp_path / 'mine' / 'more'}"


@pytest.mark.parametrize(
    "text", ["idx,label=y:a", "hf,split=x:a", "hf,label=:a", "hf,label=a,label=b:a", "imagefolder,:a"]
)
def test_options_that_a_form_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(BadOption, match="is no option of"):
        Spec.parse(text)
    for unknown in ("imagefolder,colours=red:a", "npz,values=features,colours=grey:a.npz"):
        with pytest.raises(BadOption, match="turns images in colour into grey ones"):
            Spec.parse(unknown)
    assert Spec.parse("imagefolder:a").in_grey == "imagefolder,colours=grey:a"
    with pytest.raises(BadOption, match="values=images is not known"):
        Spec.parse("npz,values=images:a.npz")


def test_paths_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadOption, match="a symbolic link leads back to itself"):
        resolved(f"imagefolder:{tmp_path / 'loop'}")
    with pytest.raises(BadOption, match="the name of a user that does not exist"):
        resolved("imagefolder:~nosuchuser/x")


def test_texts_are_said_to_be_truncated_and_others_cannot_be() -> None:
    assert with_truncation("csv,text=a:/x.csv") == "csv,text=a,truncate=yes:/x.csv"
    assert with_truncation(with_truncation("listops")) == "listops,truncate=yes"
    assert Spec.parse("lm,between=#,truncate=yes:a").truncates
    assert not Spec.parse("csv:/x.csv").truncates
    for data, why in (
        ("digits", "--truncate is for texts, and digits has none"),
        ("lm:a", "none of which is too long"),
    ):
        with pytest.raises(BadOption, match=why):
            with_truncation(data)
    with pytest.raises(BadOption, match="truncate=no is not known; csv,truncate=yes"):
        Spec.parse("csv,truncate=no:/x.csv")


def test_truncation_goes_into_the_data_or_waits_for_them() -> None:
    assert with_columns({"data": "csv:/x.csv", "truncate": True}) == {
        "data": "csv,truncate=yes:/x.csv",
        "truncate": False,
    }
    assert with_columns({"data": None, "truncate": True}) == {"data": None, "truncate": True}
