"""Work that goes on where it was interrupted: its finished parts as JSON lines, under a key of what they are of."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file whose first line holds ``key`` and each other line one finished part, by number."""

    path: Path
    key: str

    def resume(self) -> dict[int, Any]:
        """The finished parts; none where there is no file, or it is of other work. The file then holds just these.

        A line that was cut off ends what is read.
        """
        parts = dict(self._read())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"key": self.key}),
            *(_line(number, part) for number, part in parts.items()),
        ]
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        fresh.replace(self.path)
        return parts

    def append(self, parts: Mapping[int, Any]) -> None:
        """Add finished parts; only after :meth:`resume`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{_line(number, part)}\n" for number, part in parts.items())

    def _read(self) -> Iterable[tuple[int, Any]]:
        try:
            header, *lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return
        if header != json.dumps({"key": self.key}):
            return
        for line in lines[:-1]:  # what follows the last newline was not finished
            try:
                number, part = json.loads(line)
            except ValueError:
                return
            yield number, part


def _line(number: int, part: Any) -> str:
    return json.dumps([number, part], allow_nan=False)
