"""The channel to a runner on another machine, or in another process: requests and answers as lines of JSON.

A channel that was lost is opened again, a few times with growing pauses; whoever uses it then sends again what the runner needs,
because a new runner knows nothing. So what was being measured is measured anew, and never guessed.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from wb.core.commands.progress import told
from wb.core.errors import WbError, printable
from wb.hardware.remote.runner import PROTOCOL

RUNNER = Path(__file__).with_name("runner.py")
START_S = 60.0  # for the channel and the imports of the runner
SILENCE_S = 20.0  # without a line from a busy runner, after which it is taken for lost; it says something every two
LONGEST = 1 << 24  # bytes of a line
SLOWEST = 50_000.0  # bytes a second, at least
ENDING_S = 2.0  # for a runner to end by itself
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # before a lost channel is opened again
ANDROID = (  # in the words of its shell; Linux boards with adbd have others
    "it has no such Python, and Android brings none: name one that adb's user may run with ,python=/path/to/python3, which has "
    "onnxruntime and numpy. Without Python wb times nothing there: write the network with wb bundle MODEL -o FOLDER --runtimes "
    "litert and time model_b1.tflite by LiteRT's benchmark_model, or predict with a table of such a device (table:FILE)"
)
_PROGRAMS = {
    "adb": "; install it (apt install adb, or Android's platform tools)",
    "ssh": "; install it (apt install openssh-client)",
}
_ADVICE = (
    (
        "can't execute",
        "that Python may not be run there: it needs the right to be, and a place that allows it, such as /data/local/tmp",
    ),
    ("cannot connect to daemon", "adb's server does not start here: adb start-server says why"),
    (
        "HOST IDENTIFICATION HAS CHANGED",
        "its key is another one than before: find out why, and do not go on before you know",
    ),
    ("Host key verification failed", "its key is not known here: log in once by hand and compare it"),
    ("Could not resolve hostname", "check the name of the host"),
    (
        "Permission denied",
        "no password is asked for: give it a key, and this machine's agent or ~/.ssh/config the other half",
    ),
    ("Connection refused", "no ssh server answers there"),
    ("timed out", "it does not answer: is it on, and in this network?"),
    ("device unauthorized", "it does not trust this machine yet: allow USB debugging on its screen"),
    ("device still authorizing", "it does not trust this machine yet: allow USB debugging on its screen"),
    ("device offline", "adb sees it, but has no connection: plug it in again, or adb reconnect offline"),
    (
        "insufficient permissions",
        "adb may not open it: udev has to give this user the device (on Debian, android-sdk-platform-tools-common)",
    ),
    ("device '", "adb sees no device of that serial number: adb devices lists them, adb connect HOST:PORT adds one"),
    ("doesn't support PTY args", "its adbd is too old for channels of bytes: Android 7 or later has one"),
    ("inaccessible or not found", ANDROID),
    ("not found", "it has no such Python: name one with ,python=/path/to/python3"),
    ("No such file", "it has no such Python: name one with ,python=/path/to/python3"),
)


class DeviceLost(WbError, ConnectionError):
    """A device does not answer any more; this is never a number."""


class Refused(Exception):
    """The runner could not do what it was asked; `kind` is the name of the exception there."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Link:
    """The channel that the command `argv` opens, which starts the runner there. `name` is for messages.

    `env` are the command's environment variables, None for those of this process. Not for several threads at once.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.name, self._argv, self._env = name, list(argv), env
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._said: deque[str] = deque(maxlen=20)
        self.loaded: object = None  # whoever has loaded graphs into the runner that answers now
        self.learned: set[str] = set()  # the names of modules that it was sent
        self._number = 0
        self._threads: list[threading.Thread] = []

    def ask(self, op: str, raw: bytes = b"", seconds: float = 120.0, **fields: Any) -> dict[str, Any]:
        """The answer to a request, which may take `seconds`. Opens the channel if there is none.

        Raises:
            DeviceLost: it cannot be opened, or ends before the answer.
            Refused: the runner has an error.
        """
        if self._process is None:
            self._open()
        self._number += 1
        request = {"id": self._number, "op": op, "size": len(raw), **fields}
        self._send(json.dumps(request).encode() + b"\n" + raw, seconds + len(raw) / SLOWEST)
        end = time.monotonic() + seconds
        while True:
            answer = self._next(SILENCE_S)
            if answer.get("id") == self._number:
                break
            if time.monotonic() > end:
                raise self._lost(f"it took longer than {seconds:g} s for {op}")
        if "error" in answer:
            raise Refused(printable(str(answer["error"]), 500), str(answer.get("kind")))
        return answer

    def nonsense(self, why: str) -> DeviceLost:
        """What is raised where an answer cannot be one; the channel is closed."""
        return self._lost(f"it answers nonsense ({printable(why)})")

    def again(self) -> None:
        """Opens the channel again, after a pause, and tells the user. Raises `DeviceLost` once all pauses are over."""
        for number, pause in enumerate(PAUSES_S, start=1):
            told(f"{self.name} does not answer; trying again in {pause:g} s ({number} of {len(PAUSES_S)} times)")
            time.sleep(pause)
            try:
                self._open()
            except DeviceLost:
                if number == len(PAUSES_S):
                    raise
            else:
                told(f"{self.name} answers again; what was being measured is measured anew")
                return

    def close(self) -> None:
        """Ends the channel, and with it the runner."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # The other streams are closed by the threads that read them, which see their ends now.
        for thread in self._threads:
            thread.join(ENDING_S)

    def _open(self) -> None:
        """Starts the command, sends the runner and waits until it is ready."""
        self.close()
        code = RUNNER.read_bytes()
        self._lines, self._said, self.loaded = queue.SimpleQueue(), deque(maxlen=20), None
        self.learned.clear()
        try:
            self._process = subprocess.Popen(
                [*self._argv],
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for this process, which then ends the channel
            )
        except OSError as error:
            why = f"{self._argv[0]}: {error.strerror or error}{_PROGRAMS.get(self._argv[0], '')}"
            raise DeviceLost(f"{self.name} cannot be reached: {why}") from error
        arguments = (self._process, self._lines, self._said)
        self._threads = [
            threading.Thread(target=work, args=arguments, daemon=True) for work in (self._read, self._hear)
        ]
        for thread in self._threads:
            thread.start()
        self._send(code, START_S)
        found = self._next(START_S)
        if found.get("ready") != PROTOCOL:
            raise self._lost(f"its runner says {printable(str(found))}, where protocol {PROTOCOL} is expected")

    def _send(self, content: bytes, seconds: float) -> None:
        """Writes, in a thread, because a runner that hangs does not read and the pipe is small."""
        process, failed = self._process, list[OSError]()

        def write() -> None:
            try:
                stream = cast(IO[bytes], cast(subprocess.Popen[bytes], process).stdin)
                stream.write(content)
                stream.flush()
            except (OSError, ValueError) as error:
                failed.append(error if isinstance(error, OSError) else BrokenPipeError(str(error)))

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            if process is not None:
                process.kill()
            thread.join(ENDING_S)
            raise self._lost(f"it did not take {len(content):,} bytes within {seconds:.0f} s")
        if failed:
            raise self._lost(failed[0].strerror or str(failed[0]), ended=True)

    def _next(self, seconds: float) -> dict[str, Any]:
        """The next line, as JSON."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise self._lost(f"it said nothing for {seconds:.0f} s") from None
        if line is None:
            raise self._lost("the channel ended", ended=True)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._lost(f"it says {printable(line.decode(errors='replace'))!r}, which is no answer")
        return answer

    def _lost(self, why: str, *, ended: bool = False) -> DeviceLost:
        """What is raised where the channel is of no use any more; it is closed. Where it `ended`, last words are waited for."""
        if ended:
            self.close()  # which waits for the threads that read
        said = [line for line in self._said if line.strip()]
        self.close()
        advice = next((text for words, text in _ADVICE if any(words in line for line in said)), None)
        last = f" ({printable(said[-1].strip())})" if said else ""
        return DeviceLost(f"{self.name} does not answer: {why}{last}" + (f"; {advice}" if advice else ""))

    @staticmethod
    def _read(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[bytes | None], _: deque[str]) -> None:
        """Hands on the lines of the runner, and None at their end."""
        with suppress(OSError), cast(IO[bytes], process.stdout) as stream:
            while line := stream.readline(LONGEST):
                lines.put(line)
        lines.put(None)

    @staticmethod
    def _hear(process: subprocess.Popen[bytes], _: object, said: deque[str]) -> None:
        """Keeps the last lines of the command's messages."""
        with suppress(OSError), cast(IO[bytes], process.stderr) as stream:
            while line := stream.readline(LONGEST):
                said.append(line.decode(errors="replace"))
