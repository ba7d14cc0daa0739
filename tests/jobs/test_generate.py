"""What is said of a text as its tokens come."""

from __future__ import annotations

import pytest

from wb.core.errors import BadOption
from wb.data.texts.vocabulary import BPE, Vocabulary, vocabulary_of
from wb.jobs.generate.generating import Generating, _Told

TEXT = "Grüße, 世界! Ein  Text — mit Zeichen, deren Bytes 😀 einzeln kommen.\n"


class Counting:
    """A vocabulary that counts the tokens that it reads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary, self.tokens = vocabulary, 0

    def read(self, ids: list[int]) -> str:
        self.tokens += len(ids)
        return self.vocabulary.read(ids)


@pytest.mark.parametrize("kind", [BPE, "bytes", "characters"])
def test_pieces_are_the_text_and_are_read_a_few_tokens_at_a_time(kind: str) -> None:
    vocabulary = vocabulary_of([TEXT * 3], kind, 64, prose=True)
    ids: list[int] = vocabulary.whole(TEXT * 4).tolist()
    start, reader = 5, Counting(vocabulary)
    told = _Told(reader, start)  # type: ignore[arg-type]
    pieces = [told.more(ids[:end], last=end == len(ids)) for end in range(start + 1, len(ids) + 1)]
    assert "".join(pieces) == vocabulary.read(ids)[len(vocabulary.read(ids[:start])) :]
    assert all("\ufffd" not in piece for piece in pieces[4:-1])
    assert reader.tokens < 20 * len(ids)


def test_a_prompt_longer_than_the_network_reads_is_refused_or_truncated_and_that_is_said() -> None:
    said: list[str] = []
    Generating(prompt="a")._check(8, 8, said.append)
    with pytest.raises(
        BadOption, match="--prompt has 9 tokens, and the network reads 8; give --truncate to continue its end"
    ):
        Generating(prompt="a")._check(9, 8, said.append)
    assert not said
    Generating(prompt="a", truncate=True)._check(9, 8, said.append)
    assert said == ["the prompt has 9 tokens, of which the network reads the last 8: the rest is cut"]
