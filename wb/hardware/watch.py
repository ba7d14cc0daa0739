"""A time limit on every run of an untrusted graph, whose loops may depend on its input and run for ever.

What counts is the time of the processor, so that a large network on a busy machine is not taken for an endless one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from wb.core.errors import BadArtefact

if TYPE_CHECKING:
    import onnxruntime as ort

RUN_S = 60.0  # of the processor, for up to `TOGETHER` examples
TOGETHER = 8
IDLE = 20  # times as long by the clock is too long too: on a device elsewhere the processor may only wait


class Watch:
    """Runs a session inside a `with` block, and stops any run that takes longer than `limit_s` seconds of the processor.

    The runtime checks between two operators whether to stop, also in the body of a loop. One thread watches all runs, which
    adds a microsecond to each.
    """

    def __init__(self, loaded: ort.InferenceSession, what: str, limit_s: float = RUN_S) -> None:
        import onnxruntime

        self._loaded, self._what, self._limit_s = loaded, what, limit_s
        self._threads = loaded.get_session_options().intra_op_num_threads or os.cpu_count() or 1
        self._options = onnxruntime.RunOptions()
        self._since: tuple[float, float] | None = None  # of the processor and by the clock
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Runs the session and returns its outputs.

        Raises:
            BadArtefact: the run took too long.
            Exception: whatever the runtime raises.
        """
        self._since = time.process_time(), time.monotonic()
        try:
            found: list[Any] = self._loaded.run(list(outputs), dict(inputs), self._options)
        except Exception as error:
            if not self._options.terminate:
                raise
            raise BadArtefact(
                f"{self._what} ran for {self._limit_s:g} s on its inputs and was stopped; give a graph whose loops end"
            ) from error
        finally:
            self._since = None
        return found

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._limit_s / 10)):
            since = self._since
            if since is None:
                continue
            spent, passed = time.process_time() - since[0], time.monotonic() - since[1]
            if spent > self._limit_s * self._threads or passed > IDLE * self._limit_s:
                self._options.terminate = True
                return
