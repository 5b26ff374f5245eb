"""A folder that holds the files of one case after another; only what changes is written."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.samples import Files

_IN_MEMORY = Path("/dev/shm")


class Folder:
    """``root`` has the files of the case; beside it is room for what a reader writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._present: Files = {}

    def hold(self, files: Files) -> None:
        """Have these files and no others."""
        for name in self._present.keys() - files.keys():
            self._remove(name)
        for name, content in files.items():
            if name not in self._present or self._present[name] is not content:
                self._put(name, content)
        self._present = dict(files)

    def empty(self) -> None:
        """Have nothing, not even what a reader left there."""
        shutil.rmtree(self.root)
        self.root.mkdir()
        self._present = {}

    def _put(self, name: str, content: bytes | None) -> None:
        path = self.root / name
        if content is None:
            path.unlink(missing_ok=True)
            path.mkdir(parents=True)
            return
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _remove(self, name: str) -> None:
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.root or any(parent.iterdir()):
                return
            parent.rmdir()


@contextlib.contextmanager
def temporary_folders() -> Iterator[Path]:
    """A place for folders, in memory where the system offers that."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
