"""Other ways to write words with a BPE vocabulary.

Source: Provilkov et al., "BPE-Dropout: Simple and Effective Subword Regularization", 2020, https://arxiv.org/abs/1910.13267,
algorithm 1: at each step every possible merge is dropped with some probability; the first by rank of those that are left is
done.
Differs: the draws follow from a seed, so that a resumed training sees the same pieces (those of the library `tokenizers` follow
from nothing); `WAYS` ways are drawn for each word, and every place where it stands takes one of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from tokenizers import Tokenizer

WAYS = 4  # of a word in one epoch


@dataclass(frozen=True, eq=False)
class Merges:
    """The merges of a BPE tokenizer by rank, and its ids."""

    tokenizer: Tokenizer
    ranks: Mapping[tuple[str, str], int]
    ids: Mapping[str, int]
    unknown: int | None

    @staticmethod
    def of(tokenizer: Tokenizer) -> Merges | None:
        """Those of a tokenizer, None unless it is BPE without anything special to words, bytes or whole texts."""
        content = json.loads(tokenizer.to_str())
        model = content["model"]
        special = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
        if model.get("type") != "BPE" or any(model.get(name) for name in special) or content.get("post_processor"):
            return None
        pairs = [one.split(" ") if isinstance(one, str) else one for one in model["merges"]]
        ids = model["vocab"]
        return Merges(tokenizer, {(a, b): i for i, (a, b) in enumerate(pairs)}, ids, ids.get(model.get("unk_token")))

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text, as the tokenizer cuts it before it looks at merges."""
        normalizer, cutter = self.tokenizer.normalizer, self.tokenizer.pre_tokenizer
        plain = texts if normalizer is None else [normalizer.normalize_str(text) for text in texts]
        return [[text] if cutter is None else [w for w, _ in cutter.pre_tokenize_str(text)] for text in plain]

    def varied(self, words: Sequence[Sequence[str]], share: float, seed: int) -> list[list[int]]:
        """The ids of texts, given by their words, with a `share` of the merges dropped."""
        random = Random(seed)
        ways: dict[str, list[list[int]]] = {}
        for word in dict.fromkeys(word for text in words for word in text):
            ways[word] = [self.pieces(word, share, random) for _ in range(WAYS)]
        return [[one for word in text for one in ways[word][int(random.random() * WAYS)]] for text in words]

    def pieces(self, word: str, share: float, random: Random) -> list[int]:
        """The ids of a word with a `share` of the merges dropped at every step."""
        parts = list(word)
        while len(parts) > 1:
            known = ((self.ranks.get(pair), i) for i, pair in enumerate(pairwise(parts)))
            left = [(rank, i) for rank, i in known if rank is not None and random.random() >= share]
            if not left:
                break
            _, i = min(left)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        found = (self.ids.get(part, self.unknown) for part in parts)
        return [one for one in found if one is not None]
