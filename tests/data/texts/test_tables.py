"""Tables of texts: columns, labels, what is left out, and faults of files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from wb.core.errors import BadData, BadOption
from wb.data import Dataset, load
from wb.data.spec import with_columns
from wb.data.texts.vocabulary import Vocabulary

ROWS = [(f"word{i % 5} and, more {i}", "yes" if i % 2 else "no") for i in range(40)]


def csv(path: Path, rows: list[tuple[str, str]], header: str = "text,label") -> Path:
    path.write_text(header + "\n" + "".join(f'"{text}",{label}\n' for text, label in rows), encoding="utf-8")
    return path


def loaded(*paths: Path, options: str = "") -> Dataset:
    return load(f"csv{options}:{','.join(map(str, paths))}")


def test_two_files_are_training_and_test(tmp_path: Path) -> None:
    data = loaded(csv(tmp_path / "a.csv", ROWS), csv(tmp_path / "b.csv", ROWS[:7]))
    assert data.classes == ("no", "yes")
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 7)
    assert data.test.line(1) == "word1 and, more 1"
    assert data.test.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert data.sources == ("a.csv", "cut from a.csv", "b.csv")
    assert loaded(tmp_path / "a.csv", tmp_path / "b.csv").fingerprint == data.fingerprint


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_the_tokenizer_knows_only_texts_that_are_trained_on(tmp_path: Path, kind: str) -> None:
    rows = [(f"same unique{chr(97 + i % 26) * 9}{i} same", label) for i, (_, label) in enumerate(ROWS)]
    data = loaded(csv(tmp_path / "a.csv", rows), options=f",tokenizer={kind}")
    vocabulary = data.train.vocabulary
    assert vocabulary is not None
    known = vocabulary.tokenizer.get_vocab()
    if kind == "words":
        others = [data.test.line(i).split()[1] for i in range(len(data.test))]
        assert not known.keys() & set(others)
    alone = csv(tmp_path / "b.csv", [(data.train.line(i), ROWS[i % 2][1]) for i in range(len(data.train))])
    again = loaded(alone, csv(tmp_path / "c.csv", rows), csv(tmp_path / "d.csv", rows), options=f",tokenizer={kind}")
    assert again.train.vocabulary is not None
    assert again.train.vocabulary.tokenizer.get_vocab() == known


def test_numbers_as_labels_have_one_order(tmp_path: Path) -> None:
    rows = [(text, ("1", "01", "10", "2")[i % 4]) for i, (text, _) in enumerate(ROWS)]
    assert loaded(csv(tmp_path / "a.csv", rows)).classes == ("01", "1", "2", "10")


def test_lines_of_json_are_the_same_data(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"sentence": text, "intent": label}) + "\n" for text, label in ROWS)
    (tmp_path / "a.jsonl").write_text(rows)
    one, other = load(f"jsonl:{tmp_path / 'a.jsonl'}"), loaded(csv(tmp_path / "a.csv", ROWS))
    assert one.fingerprint == other.fingerprint
    assert np.array_equal(one.train.inputs(), other.train.inputs())


def test_json_has_what_other_systems_take_for_the_end_of_a_line(tmp_path: Path) -> None:
    texts = [f"{text}{sign}more" for (text, _), sign in zip(ROWS, "\u2028\u2029\x85\u00e4" * 10, strict=True)]
    rows = [json.dumps({"text": text, "label": i % 2}, ensure_ascii=False) for i, text in enumerate(texts)]
    path = tmp_path / "a.jsonl"
    path.write_bytes("\r\n".join(rows).encode())
    data = load(f"jsonl:{path},{path}")
    assert [data.test.line(i) for i in range(40)] == texts


def test_columns_are_those_that_are_asked_for(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", ROWS, "was sagt er,Klasse")
    with pytest.raises(BadData, match=r"no column of texts; it has was sagt er, Klasse; say which with --text-column"):
        loaded(path)
    given = {"data": f"csv:{path}", "text_column": "was sagt er", "label_column": "Klasse"}
    assert len(load(with_columns(given)["data"]).train) == 28
    with pytest.raises(BadData, match=r"no column 'klasse'.*Klasse.*--label-column"):
        loaded(path, options=",text=was sagt er,label=klasse")
    with pytest.raises(BadOption, match="--text-column is for tables of texts"):
        with_columns({"data": "digits", "text_column": "x"})


def test_rows_without_a_text_or_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    data = loaded(csv(tmp_path / "a.csv", [*ROWS, ("  ", "no"), ("word", "")]))
    assert data.notes[:2] == (
        "1 rows of a.csv have no text and are left out",
        "1 rows of a.csv have no label and are left out",
    )


def test_texts_that_are_too_long_are_refused_or_truncated_and_counted(tmp_path: Path) -> None:
    long = [(f"{text} " * 9, label) for text, label in ROWS[:2]]
    files, short = (csv(tmp_path / "a.csv", ROWS), csv(tmp_path / "b.csv", long)), ",tokenizer=words,length=8"
    with pytest.raises(
        BadData, match=r"2 of 2 texts for test are longer than the 8 .*--truncate .*csv,length=48:FILES"
    ):
        loaded(*files, options=short)
    data = loaded(*files, options=f"{short},truncate=yes")
    assert "2 of 2 texts for test are longer than 8 tokens: the rest is cut" in data.notes
    assert data.text.length == 8
    assert int(data.test.inputs().shape[1]) == 8


def test_without_a_length_no_text_of_a_usual_length_is_too_long(tmp_path: Path) -> None:
    """Though none for training is as long; those that may be truncated have no say."""
    files = csv(tmp_path / "a.csv", ROWS), csv(tmp_path / "b.csv", [("word1 " * 50, "yes"), ("word2", "no")])
    whole, cut = (loaded(*files, options=f",tokenizer=words{more}") for more in ("", ",truncate=yes"))
    assert (whole.text.length, cut.text.length) == (56, 8)
    assert whole.text.tokens == cut.text.tokens
    with pytest.raises(BadData, match=r"1 of 2 texts .* longer than the 512 tokens .* has 600; .*csv,length=600:FILES"):
        loaded(
            files[0], csv(tmp_path / "c.csv", [("word1 " * 600, "yes"), ("word2", "no")]), options=",tokenizer=words"
        )


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"text,label\na,b,c\n", "3 cells in the row that ends in line 2, and 2 in its header"),
        ("text,label\nb,no\ncafé,yes\n".encode("latin-1"), "no UTF-8 text in line 3"),
        (b'text,label\n"a"b,no\n', "no table of comma-separated values"),
        (b"text,text\na,b\n", "two columns of one name"),
        (b"text,label\n", "no row with a text and a label"),
        (b"", "no row with a text and a label"),
        (b"text,label\na,no\nb,no\nc,no\nd,no\ne,no\nf,no\ng,no\n", "one class only"),
    ],
)
def test_faults_of_tables_are_named(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(BadData, match=match):
        loaded(tmp_path / "a.csv")


def test_labels_that_training_does_not_have_are_named_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"b\.csv has the label 'yess' in line 2, which no row of a\.csv has \(did"):
        loaded(csv(tmp_path / "a.csv", ROWS), csv(tmp_path / "b.csv", [("word", "yess")]))


def test_texts_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"training texts of .* are alike"):
        loaded(csv(tmp_path / "a.csv", [("word", label) for _, label in ROWS]))


def test_other_faults_of_json(tmp_path: Path) -> None:
    for content, match in (
        ("[1]\n", "no object in line 1"),
        ("{\n", "no JSON in line 1"),
        ('{"text": [1], "label": 2}\n', "in line 1 under 'text'"),
    ):
        (tmp_path / "a.jsonl").write_text(content)
        with pytest.raises(BadData, match=match):
            load(f"jsonl:{tmp_path / 'a.jsonl'}")


def test_sizes_of_images_and_more_than_three_files_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", ROWS)
    with pytest.raises(BadOption, match="image_size=8 is for images"):
        load(f"csv:{path}", image_size=8)
    with pytest.raises(BadOption, match="name 4 files; give one, training and test, or all three"):
        loaded(path, path, path, path)


def jsonl(path: Path, *labels: object) -> Path:
    lines = (json.dumps({"text": f"word {i % 3} more {i}", "label": labels[i % len(labels)]}) for i in range(40))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ((1, True), r"the label 1 in line 1 and true in line 2"),
        ((0, False), r"the label 0 in line 1 and false in line 2"),
        ((1, 2, "1"), r'the label 1 in line 1 and "1" in line 3'),
        ((True, "true", "no"), r'the label true in line 1 and "true" in line 2'),
    ],
)
def test_labels_that_json_tells_apart_are_not_mixed_up(labels: tuple[object, ...], why: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=f"{why}, so that it is not clear whether both are one class"):
        load(f"jsonl:{jsonl(tmp_path / 'a.jsonl', *labels)}")


@pytest.mark.parametrize(
    ("train", "test", "why"),
    [
        ((1, 0), (True, False), "label 1 in line 1, and {} has true in line 1"),
        ((True, False), (0, 1), "label true in line 1, and {} has 0 in line 1"),
        ((1, 0), ("0", "1"), 'label 0 in line 2, and {} has "0" in line 1'),
        (("a", "true"), ("a", True), 'label "true" in line 2, and {} has true in line 2'),
    ],
)
def test_labels_that_json_tells_apart_are_not_mixed_up_between_files(
    train: tuple[object, ...], test: tuple[object, ...], why: str, tmp_path: Path
) -> None:
    """Whichever of the three files they are in."""
    one, other = jsonl(tmp_path / "a.jsonl", *train), jsonl(tmp_path / "b.jsonl", *test)
    for files in ((one, other), (one, other, one), (one, one, other)):
        with pytest.raises(BadData, match=re.escape(f"{one} has the {why.format(other)}, so that it is not clear")):
            load(f"jsonl:{','.join(map(str, files))}")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [((True, False), ("false", "true")), ((1, 10, 2), ("1", "2", "10")), (("a", 1), ("1", "a"))],
)
def test_labels_are_called_as_json_writes_them(
    labels: tuple[object, ...], classes: tuple[str, ...], tmp_path: Path
) -> None:
    assert load(f"jsonl:{jsonl(tmp_path / 'a.jsonl', *labels)}").classes == classes


@pytest.mark.parametrize("source", ["csv", "csv,tokenizer=words,length=8,truncate=yes", "listops"])
def test_every_text_is_tokenized_once(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the length, what is too long, and ids; by a command on a model as well, and of splits that are made of others."""
    plain, seen = Vocabulary._whole, list[str]()

    def counted(self: Vocabulary, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        seen.extend(texts)
        return plain(self, texts, special=special)

    monkeypatch.setattr(Vocabulary, "_whole", counted)
    if source != "listops":
        source += f":{csv(tmp_path / 'a.csv', [(f'{text} {i}', label) for i, (text, label) in enumerate(ROWS)])}"
    data = load(source)
    own = data.train.vocabulary
    assert own is not None
    splits = (data.train, data.validation, data.test)
    lines = [split.line(i) for split in splits for i in range(len(split))]
    ids = [row for split in splits for row in plain(own, [split.line(i) for i in range(len(split))])]
    for found in (data, load(source, own_words=False).written_by(Vocabulary(own.text, own.length, own.tokens))):
        order = np.arange(len(found.train))[::-1]
        train = found.train.labelled(found.train.labels).take(order).joined(found.validation)
        rows = [*train.inputs().tolist(), *found.test.inputs().tolist()]
        expected = [*reversed(ids[: len(order)]), *ids[len(order) :]]
        assert [[one for one in row if one >= 0] for row in rows] == [row[: own.length] for row in expected]
    assert sorted(seen) == sorted(lines * 2)
    other = data.written_by(Vocabulary(own.text.replace("[UNK]", "[XXX]"), own.length, own.tokens))
    assert len(other.test.labelled(other.test.labels).inputs()) == len(data.test)
    assert sorted(seen) == sorted(lines * 3)
