"""``python -m tests.fuzz``: many cases, or one again with its files."""

import argparse
import os
import sys
import warnings
from pathlib import Path

from tests.fuzz.case import Case, run
from tests.fuzz.folder import Folder
from tests.fuzz.readers import READERS
from tests.fuzz.workers import run_everywhere


def main() -> int:
    """Run what is asked for; 1 if there is a finding."""
    asked = _asked()
    readers = asked.reader or [*READERS]
    if asked.case is not None:
        return max(_again(Case(asked.seed, reader, asked.case), asked.out) for reader in readers)
    tally = run_everywhere(asked.seed, asked.cases, readers, asked.jobs, _say)
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)
    print("\n".join(tally.lines()))
    return 1 if tally.findings else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="how many, all readers together")
    parser.add_argument("--seed", type=int, default=0, help="another seed is other accidents")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--reader", action="append", choices=READERS, help="only this one; may be repeated"
    )
    parser.add_argument(
        "--case", type=int, help="only the case of this number, its files written to --out"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz-case"), help="folder for one case's files"
    )
    return parser.parse_args()


def _again(case: Case, out: Path) -> int:
    """One case, its files, what happened to them and what the reader says."""
    warnings.simplefilter("error")
    root = out / case.reader
    root.mkdir(parents=True, exist_ok=True)
    folder = Folder(root)
    folder.empty()
    files, happened = case.files()
    result = run(case, folder)
    folder.hold(files)
    print(
        f"{case}: {root}", *happened, f"{result.outcome} in {result.cpu_s:.3f} s of CPU", sep="\n"
    )
    print(result.message)
    return 1 if result.outcome == "finding" else 0


def _say(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
