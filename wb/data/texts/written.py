"""What splits of texts and of passages have in common: they are written with a vocabulary, and show no images."""

from __future__ import annotations

from wb.core.specs import Spec, text_specs
from wb.data.split import Levels, Split
from wb.data.texts.vocabulary import Vocabulary


class Written(Split):
    """A split whose examples are token ids; subclasses have the vocabulary that they are `written_with`."""

    written_with: Vocabulary

    @property
    def vocabulary(self) -> Vocabulary:
        return self.written_with

    @property
    def images(self) -> Levels:
        raise self.refused()

    def specs(self) -> tuple[Spec, ...]:
        return text_specs(self.written_with.size)
