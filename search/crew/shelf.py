"""What workers without the run folder need, kept in the storage of the study: no other service has to be there."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import optuna
from sqlalchemy import create_engine, inspect, make_url

from wb.core.errors import BadArtefact
from wb.search.study.storage import file_of, named, open_storage, public
from wb.search.study.trials import OPEN

SUFFIX = ":files"  # of the name of a study whose attributes are pieces of files
PIECES = 1 << 16  # of a file, at most
INDEX = "files"  # its attribute: name of a file -> number of pieces and hash of the whole
PIECE, SMALL_PIECE = 1 << 20, 45 << 10  # bytes; MySQL's texts have 64 kB at most, and base64 makes four bytes of three


class Shelf:
    """Files beside the study `name` in the storage at `url`.

    They are attributes of a study of their own, as those of the study itself are read again and again.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, f"{name}{SUFFIX}"

    @staticmethod
    def studies(url: str) -> dict[str, datetime | None]:
        """The studies at `url` with files beside them and candidates that are evaluated or wait to be, and when one last began.

        Candidates of a run that was killed and never continued wait for ever, so that only the time tells it from others.

        Raises:
            StorageFailed: the database cannot be read.
        """
        file = file_of(url)
        if file is not None and not file.is_file():  # SQLite would create an empty file
            return {}
        with named(url):
            if not _begun(url):
                return {}
            storage = open_storage(url)
            there = {study.study_name: study._study_id for study in storage.get_all_studies()}
            found = {}
            for name in sorted(name for name in there if f"{name}{SUFFIX}" in there):
                trials = storage.get_all_trials(there[name], deepcopy=False)
                stale = storage._get_stale_trial_ids(there[name])
                if any(trial.state in OPEN and trial._trial_id not in stale for trial in trials):
                    found[name] = max((t.datetime_start for t in trials if t.datetime_start), default=None)
            return found

    def put(self, files: Mapping[str, bytes]) -> None:
        """Stores the files, in the place of any before; those that are there already are not written again.

        Raises:
            StorageFailed: the database cannot be written.
        """
        size = SMALL_PIECE if make_url(self._url).get_backend_name() in ("mysql", "mariadb") else PIECE
        with named(self._url):
            study = optuna.create_study(
                storage=open_storage(self._url, create=True), study_name=self._name, load_if_exists=True
            )
            index = study.user_attrs.get(INDEX, {})
            for name, content in files.items():
                count = -(-len(content) // size)
                entry = [count, hashlib.sha256(content).hexdigest()]
                if index.get(name) == entry:
                    continue
                for i in range(count):
                    piece = base64.b64encode(content[i * size : (i + 1) * size]).decode("ascii")
                    study.set_user_attr(f"{name}/{i}", piece)
                index = {**index, name: entry}
                study.set_user_attr(INDEX, index)  # last: a file is there as a whole or not at all

    def get(self) -> dict[str, bytes]:
        """The files by name; none if there are none yet.

        Raises:
            BadArtefact: they are damaged.
            StorageFailed: the database cannot be read.
        """
        file = file_of(self._url)
        if file is not None and not file.is_file():  # SQLite would create an empty file
            return {}
        with named(self._url), suppress(KeyError):
            found = optuna.load_study(storage=open_storage(self._url), study_name=self._name).user_attrs
            return self._files(found)
        return {}

    def _files(self, found: Mapping[str, object]) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        index = found.get(INDEX, {})
        try:
            for name, (count, digest) in index.items():  # type: ignore[attr-defined]
                if name in (".", "..") or re.fullmatch(r"[\w.-]+", name) is None or not 0 <= count <= PIECES:
                    raise ValueError(f"{name!r} is no file of a run")
                pieces = [base64.b64decode(str(found[f"{name}/{i}"]), validate=True) for i in range(count)]
                files[name] = b"".join(pieces)
                if hashlib.sha256(files[name]).hexdigest() != digest:
                    raise ValueError(f"{name} is not what was stored")
        except (KeyError, ValueError, TypeError, AttributeError, binascii.Error) as error:
            raise BadArtefact(
                f"the files of the run in {public(self._url)} are damaged ({error}); say `wb search --resume` where its folder "
                "is, which stores them again"
            ) from error
        return files


def _begun(url: str) -> bool:
    """Whether any study was ever begun there: a database without tables is not damaged."""
    engine = create_engine(url)
    try:
        return inspect(engine).has_table("studies")
    finally:
        engine.dispose()
