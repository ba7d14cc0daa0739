"""What graphs cannot compute, refused before work begins."""

from __future__ import annotations

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.core.records import kind_of


def exportable(architecture: Architecture) -> bool:
    """Whether graphs compute all of its parts."""
    return all(part.unexported is None for _, part in architecture.parts())


def check_exportable(architecture: Architecture) -> None:
    """Raises `Unsupported` where an architecture has a part that no graph, and no file of plain PyTorch, computes."""
    for name, part in architecture.parts():
        if part.unexported is not None:
            raise Unsupported(
                f"{name} is {kind_of(type(part))!r}, which {part.unexported}; it is trained (wb train), run (wb run) and, if it "
                "foresees tokens, continued (wb generate) in torch alone. Take another part there for what is to be exported "
                "or timed"
            )
