"""Work that goes on where it was interrupted: its finished parts as JSON lines, each under a key of what it is of."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file whose lines hold one finished part each: the ``key`` of the work, its number, what came out.

    Several works may share a file at once: each reads its own lines only.
    """

    path: Path
    key: str

    def resume(self) -> dict[int, Any]:
        """The finished parts of this work, by number; none where there is no file. A line that was cut off is none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = self._text()
        if text and not text.endswith("\n"):
            self._append("\n")
        return dict(self._parts(text))

    def append(self, parts: Mapping[int, Any]) -> None:
        """Add finished parts; only after :meth:`resume`."""
        lines = [json.dumps([self.key, *part], allow_nan=False) for part in parts.items()]
        self._append("".join(f"{line}\n" for line in lines))

    def _append(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _parts(self, text: str) -> Iterable[tuple[int, Any]]:
        for line in text.split("\n")[:-1]:  # what follows the last newline was not finished
            try:
                key, number, part = json.loads(line)
            except (ValueError, TypeError, RecursionError):
                continue
            if key == self.key and isinstance(number, int):
                yield number, part
