"""Log messages of the libraries, each printed once as a note on stderr."""

from __future__ import annotations

import logging

from wb.cli.frame import output

ROOT = "wb"


class Notes(logging.Handler):
    """A log handler that prints each message as `note: …`, and the same text only once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message, above a progress bar if there is one."""
        text = record.getMessage()
        if text in self.said:
            return
        self.said.add(text)
        output.note(text)


def listen() -> None:
    """Prints everything that is logged under `wb`; a second call starts again, as for another command in the same process."""
    logger = logging.getLogger(ROOT)
    for handler in [handler for handler in logger.handlers if isinstance(handler, Notes)]:
        logger.removeHandler(handler)
    logger.addHandler(Notes())
    logger.propagate = False
