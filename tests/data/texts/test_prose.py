"""Plain texts: cut by position, written so that they can be read back, in passages with the tokens that follow."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.foreign.checkpoints import REFERENCES
from wb.core.errors import BadData, BadOption, Unsupported
from wb.core.specs import IDS, MASK
from wb.data import load
from wb.data.texts.passages import Passages
from wb.data.texts.vocabulary import UNKNOWN, Vocabulary, vocabulary_of

TEXT = "".join(Random(0).choices("abc de\n", k=2000))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


def passages(split: object) -> Passages:
    assert isinstance(split, Passages)
    return split


def test_a_text_is_cut_by_position_into_passages_with_what_follows(file: Path) -> None:
    data = load(f"lm,length=16:{file}")
    train, validation, test = (passages(split).text for split in (data.train, data.validation, data.test))
    assert train[:850] + validation + train[850:] + test == TEXT
    assert (len(passages(data.validation).text), len(passages(data.test).text)) == (100, 200)
    assert (data.classes, data.task, data.text.vocabulary, data.text.length) == ((), "next", 8, 16)
    split = passages(data.train)
    assert len(split) == (1700 - 1) // 16
    read = split.written_with.read
    for i in (0, 3, len(split) - 1):
        assert split.line(i) == train[16 * i : 16 * (i + 1)]
        assert read(split.labels[i].tolist()) == train[16 * i + 1 : 16 * (i + 1) + 1]
    feed = split.feed(slice(0, 2))
    assert feed[IDS].shape == feed[MASK].shape == (2, 16)
    assert feed[MASK].all()


def test_validation_is_spread_over_the_text(tmp_path: Path) -> None:
    text = "".join(f"{number:06d}\n" for number in range(20_000))  # every line is another one
    (tmp_path / "text.txt").write_text(text)
    data = load(f"lm:{tmp_path / 'text.txt'}")
    train, validation, test = (passages(split).text for split in (data.train, data.validation, data.test))
    assert (len(validation), len(test)) == (3 * 2_333, 14_000)
    assert text.endswith(test)
    for number, start in enumerate((19_834, 61_834, 103_834)):  # in the middles of three thirds of 126,000 characters
        piece = validation[number * 2_333 : (number + 1) * 2_333]
        assert text[start : start + len(piece)] == piece
        assert piece not in train
    assert train == text[:19_834] + text[22_167:61_834] + text[64_167:103_834] + text[106_167:126_000]


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
@pytest.mark.parametrize(
    "text", ["abc  de\n\n\tfé ☃ 7", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
)
def test_every_tokenizer_of_prose_gives_its_text_back(kind: str, text: str) -> None:
    vocabulary = vocabulary_of([text * 5], kind, 8, prose=True)
    assert vocabulary.read(vocabulary.whole(text).tolist()) == text
    assert vocabulary.size > int(vocabulary.whole(text).max())


def test_epochs_begin_elsewhere_and_taken_passages_stay() -> None:
    vocabulary = vocabulary_of([TEXT], "characters", 16, prose=True)
    split = Passages.of(TEXT, vocabulary, "the text")
    first, again, other = (split.varied(0.0, seed) for seed in (1, 1, 2))
    assert len(first) == len(split)
    np.testing.assert_array_equal(first.starts, again.starts)
    assert (first.starts != other.starts).any()
    for one in (first, other, split.shortened(2), split.varied(0, 5).shortened(2)):
        flat = split.ids
        assert int(one.starts.max()) + one.length < len(flat)
        np.testing.assert_array_equal(one.inputs()[:, 1:], one.labels[:, :-1])
        np.testing.assert_array_equal(one.labels[:, -1], flat[one.starts + one.length])
    halves = split.shortened(2)
    np.testing.assert_array_equal(halves.inputs().reshape(len(split), 16), split.inputs())
    taken = split.take(np.array([3, 1]))
    assert taken.varied(0.0, 1) is taken
    both = taken.joined(split.take(np.array([0])))
    np.testing.assert_array_equal(both.inputs(), split.inputs(np.array([3, 1, 0])))
    with pytest.raises(Unsupported, match="no others"):
        split.labelled(split.labels)


def test_another_vocabulary_writes_the_same_text() -> None:
    split = Passages.of(TEXT, vocabulary_of([TEXT], "characters", 16, prose=True), "the text")
    other = vocabulary_of([TEXT], "bytes", 8, prose=True)
    assert other.read(split.written_by(other).inputs().ravel().tolist()) == TEXT[: 8 * ((len(TEXT) - 1) // 8)]
    same = split.take(slice(1, 3)).written_by(Vocabulary(split.written_with.text, 16, 4))
    assert (len(same), same.vocabulary.tokens) == (2, 4)


def test_the_embedded_text_is_that_of_the_standard_library() -> None:
    data = load("lm,length=32", limit=5)
    assert (data.name, len(data.train), data.limit) == ("lm", 5, 5)
    assert "assert" in passages(data.train).text


def test_characters_that_training_lacks_are_told(tmp_path: Path) -> None:
    for name, text in (("a", "abab" * 200), ("b", "abéé" * 20)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    data = load(f"lm,length=8:{tmp_path / 'a'},{tmp_path / 'b'}")
    assert any("40 of 80 characters for test" in note for note in data.notes)
    other = load(f"lm,length=8:{tmp_path / 'a'},{tmp_path / 'b'}", own_words=False)
    assert not any("characters" in note for note in other.notes)
    unknown = passages(data.test).written_with.tokenizer.token_to_id(UNKNOWN)
    assert (passages(data.test).inputs() == unknown).mean() == 0.5


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("lm,length=0:FILE", "no number of tokens"),
        ("lm,length=900:FILE", "give a longer text"),
        ("lm,tokenizer=none:FILE", "give characters, bytes, bpe"),
        ("lm:FILE,FILE,FILE,FILE", "name 4 files"),
        ("lm:FILE.none", "give the file of a text"),
        ("lm,label=x:FILE", "is no option of 'lm'"),
        ("lm,truncate=yes:FILE", "none of which is too long"),
    ],
)
def test_what_is_no_text_is_refused(file: Path, spec: str, why: str) -> None:
    with pytest.raises((BadData, BadOption), match=why):
        load(spec.replace("FILE", str(file)))


def test_a_text_of_one_character_teaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a" * 500)
    with pytest.raises(BadData, match="are alike, so that nothing can be learned"):
        load(f"lm,length=8:{tmp_path / 'a'}")


def test_texts_with_something_between_them_begin_and_end_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text(" abc de\n<|end|>\nde<|end|>\n\n<|end|>a<|end|>" + "abcde" * 9, encoding="utf-8")
    with pytest.raises(BadData, match=r"1 of 3 texts .* 16 tokens of a passage .*has 45; .*lm,length=44:FILES"):
        load(f"lm,between=<|end|>,length=16:{path},{path}")
    assert load(f"lm,between=<|end|>,length=44:{path},{path}").notes[-1].startswith("there are only")
    data = load(f"lm,between=<|end|>,length=16,truncate=yes:{path},{path}")
    assert "1 of 3 texts for test are longer than 17 tokens: the rest is cut" in data.notes
    split = passages(data.test)
    read = split.written_with.read
    assert [read([one for one in row if one >= 0]) for row in split.labels.tolist()] == [
        "bc de",
        "e",
        ("abcde" * 9)[1:17],
    ]
    assert [read(row.tolist())[:2] for row in split.inputs()] == ["ab", "de", "ab"]
    counts = (split.labels >= 0).sum(axis=1)
    assert (split.ids[split.starts[0] : split.starts[0] + 5] == split.inputs()[0][:5]).all()
    assert (split.shortened(4).labels >= 0).sum() == counts.sum(), "passages behind the end of a text are left out"
    assert len(split.shortened(4)) == 2 + 1 + 4
    assert split.varied(0.1, 3) is split
    again = split.take(slice(1, 3)).written_by(Vocabulary(split.written_with.text, 4, 4))
    assert (again.length, (again.labels >= 0).sum(axis=1).tolist()) == (4, [4, 1])


def test_tokens_in_front_of_texts_stand_in_front_of_each() -> None:
    words = Vocabulary((REFERENCES / "hf-llama/tokenizer.json").read_text(), 6, 6)
    split = Passages.of("a b c|d", words, "the text", "|")
    assert split.inputs()[:, :2].tolist() == [[1, 4], [1, 7]]
    assert split.labels.tolist() == [[4, 5, 6, -1, -1, -1], [7, -1, -1, -1, -1, -1]]
    with pytest.raises(BadData, match=r"the text has no text of two tokens or more between '\|'"):
        Passages.of(" | |", words, "the text", "|")


def test_one_file_of_several_texts_is_cut_between_them(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("#".join(["abcdefgh"] * 40), encoding="utf-8")
    data = load(f"lm,between=#,length=8:{path}")
    assert all(
        part.text.strip("#").replace("#", "") == "abcdefgh" * len(part)
        for part in map(passages, (data.train, data.test))
    )
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == 40
