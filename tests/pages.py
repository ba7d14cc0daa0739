"""Reading a page in tests: its tags and its text."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text without scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.pieces.append(data)

    @property
    def raw(self) -> str:
        """The text with the white space that the page has."""
        return "".join(self.pieces)

    @property
    def text(self) -> str:
        """The text with one space between pieces and words."""
        return " ".join(" ".join(self.pieces).split())

    def values(self, attribute: str) -> list[str]:
        return [str(attributes[attribute]) for _, attributes in self.tags if attribute in attributes]

    def links(self) -> list[str]:
        return self.values("href")

    def ids(self) -> set[str]:
        return set(self.values("id"))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)
