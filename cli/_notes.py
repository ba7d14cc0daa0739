"""What the libraries log is said once, as a note on stderr."""

from __future__ import annotations

import logging

from wb.cli import _output

ROOT = "wb"


class Notes(logging.Handler):
    """Prints each message as `note: …`, the same text once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Above a progress bar, where there is one."""
        text = record.getMessage()
        if text in self.said:
            return
        self.said.add(text)
        _output.note(text)


def listen() -> None:
    """Has everything under `wb` told; a second call begins anew, as a command in the same process does."""
    logger = logging.getLogger(ROOT)
    for handler in [handler for handler in logger.handlers if isinstance(handler, Notes)]:
        logger.removeHandler(handler)
    logger.addHandler(Notes())
    logger.propagate = False
