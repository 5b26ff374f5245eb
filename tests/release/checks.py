"""One check of a release: what it was, how it ended, and what there is to say of it."""

import dataclasses
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Ended = Literal["passed", "failed", "not done"]
_LAST_LINES = 6


@dataclasses.dataclass(frozen=True)
class Check:
    """``words`` are figures where it passed, else what went wrong or why it was not done."""

    what: str
    ended: Ended
    words: str = ""

    def __str__(self) -> str:
        return (
            f"{self.ended:<9} {self.what}: {self.words}"
            if self.words
            else f"{self.ended:<9} {self.what}"
        )


def run(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run in ``folder``, without what this process's environment adds to Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def tried(
    what: str, commands: Sequence[Sequence[str | Path]], folder: Path, words: str = ""
) -> Check:
    """A check that passes if all commands do; the first that does not is shown with its last lines."""
    for command in commands:
        done = run(command, folder)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
            ran = " ".join(map(str, command))
            return Check(
                what, "failed", "\n    ".join([f"{ran} ended with {done.returncode}", *said])
            )
    return Check(what, "passed", words)
