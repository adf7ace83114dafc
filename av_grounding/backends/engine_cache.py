"""Engines that were built once on this machine, kept for the next start.

An engine fits one bundle, precision and shape on one kind of GPU with one version of the
libraries. The key names all of these; the file's name is made of it and the JSON beside the file
repeats it. The directory holds nothing that cannot be built again: it may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from filelock import AcquireReturnProxy, FileLock, Timeout

from av_grounding.backends import artefact

LOGGER = logging.getLogger(__name__)
SUFFIX = ".engine"
PATIENCE_S = 10.0
"""Waiting for another process's build is said in the log once this has passed."""
REMEDY = "it is built again where it is needed, or delete the file"


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on; all of it in plain words."""

    bundle: str
    graph: str
    precision: str
    shapes: str
    tensorrt: str
    torch_tensorrt: str
    cuda: str
    sm: str
    gpu: str
    graph_version: str

    @property
    def facts(self) -> dict[str, str]:
        return asdict(self)

    @property
    def digest(self) -> str:
        text = json.dumps(self.facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def stem(self) -> str:
        """The part of the file's name that does not depend on the machine."""
        return f"{self.bundle[:12]}-{self.graph}-{self.precision}"

    @property
    def file_name(self) -> str:
        return f"{self.stem}-{self.digest}{SUFFIX}"


class EngineCache:
    """Engines in a directory, by default `engines` in the user's cache."""

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = Path(directory) if directory is not None else default_directory()

    def path(self, key: EngineKey) -> Path:
        return self.directory / key.file_name

    def get(self, key: EngineKey, build: Callable[[], bytes]) -> tuple[bytes, str]:
        """The engine, and "cache" or "built".

        Of several processes that ask at once one builds, and the others wait for it. A damaged
        file is said in the log and built again. Raises OSError where the directory cannot be
        written, before the minutes that a build takes.
        """
        if (engine := self._load_or_warn(key)) is not None:
            return engine, "cache"
        check_writable(self.directory)
        with build_lock(self.path(key).with_suffix(".lock")):
            if (engine := self._load_or_warn(key)) is not None:
                return engine, "cache"
            self._say_why(key)
            self._sweep(key)
            engine = build()
            try:
                self.store(key, engine)
            except OSError as error:
                LOGGER.warning("the engine is not kept for the next start: %s", error)
        return engine, "built"

    def load(self, key: EngineKey) -> bytes | None:
        """The engine, or None where it was never built.

        Raises ValueError where the file is damaged or its JSON states another key.
        """
        path = self.path(key)
        if not path.exists() or not artefact.sidecar_of(path).exists():
            return None
        return artefact.read(path, key.facts, REMEDY)

    def store(self, key: EngineKey, engine: bytes) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        artefact.store(self.path(key), key.facts, lambda path: _write_bytes(path, engine))

    def _load_or_warn(self, key: EngineKey) -> bytes | None:
        try:
            return self.load(key)
        except (ValueError, OSError) as error:
            LOGGER.warning("%s", error)
            return None

    def _sweep(self, key: EngineKey) -> None:
        """Remove what a killed process left half written; to be called under the lock."""
        for path in self.directory.glob(f"{artefact.PARTIAL}*-{key.file_name}"):
            path.unlink(missing_ok=True)

    def _say_why(self, key: EngineKey) -> None:
        """Why an engine that seems to be there does not serve."""
        for path in sorted(self.directory.glob(f"{key.stem}-*{SUFFIX}")):
            try:
                built = artefact.read_facts(path, REMEDY)
            except (ValueError, OSError):
                continue
            LOGGER.info("%s was %s", path.name, artefact.differences(built, key.facts))
        LOGGER.info("building %s: this takes minutes, once", key.file_name)


def default_directory() -> Path:
    """`engines` in the user's cache."""
    return user_cache("engines")


def user_cache(name: str) -> Path:
    """A directory in the user's cache, which XDG_CACHE_HOME moves."""
    return platformdirs.user_cache_path("av_grounding") / name


def check_writable(directory: Path) -> None:
    """Make a directory of the cache; OSError with the remedy where nothing can be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(
            f"the engine cache {directory} cannot be written ({error.strerror}): make it "
            "writable, or set XDG_CACHE_HOME to a directory that is"
        ) from None


def build_lock(path: Path) -> AcquireReturnProxy:
    """For the one process that builds; the others wait, and say so after a while."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        LOGGER.info("waiting for another process that builds %s", path.stem)
        return lock.acquire()


def _write_bytes(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        # A robot's power is switched off without a word.
        os.fsync(file.fileno())
