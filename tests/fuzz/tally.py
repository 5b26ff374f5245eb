"""What came of many cases, reader by reader, and the findings of a kind together."""

import collections
import dataclasses
from collections.abc import Iterable

from tests.fuzz.case import Case, Result

_WORDS = 300


@dataclasses.dataclass
class Findings:
    """Findings of one kind: how many, the first case and what it said."""

    first: Case
    message: str
    count: int = 0


@dataclasses.dataclass
class Tally:
    """Counts by reader and outcome, the CPU time and the slowest case of each, findings by reader and kind."""

    counts: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )
    cpu_s: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    slowest: dict[str, tuple[float, str]] = dataclasses.field(default_factory=dict)
    findings: dict[tuple[str, str], Findings] = dataclasses.field(default_factory=dict)
    peak_bytes: int = 0

    def add(self, case: Case, result: Result) -> None:
        """Count one more case."""
        reader = case.reader
        self.counts[reader, result.outcome] += 1
        self.cpu_s[reader] += result.cpu_s
        self.slowest[reader] = max(self.slowest.get(reader, (0.0, "")), (result.cpu_s, str(case)))
        if result.outcome == "finding":
            key = reader, result.kind
            self.findings.setdefault(key, Findings(case, result.message)).count += 1

    def join(self, other: "Tally") -> None:
        """Count all cases of another tally too."""
        self.counts += other.counts
        self.cpu_s += other.cpu_s
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        for reader, slowest in other.slowest.items():
            self.slowest[reader] = max(self.slowest.get(reader, (0.0, "")), slowest)
        for key, found in other.findings.items():
            self.findings.setdefault(key, Findings(found.first, found.message)).count += found.count

    @property
    def cases(self) -> int:
        """How many there were."""
        return self.counts.total()

    def lines(self) -> Iterable[str]:
        """The tally in words: a line a reader, then every kind of finding."""
        yield f"{'reader':<22}{'cases':>9}{'read':>9}{'refused':>9}{'findings':>9}{'ms each':>9}{'slowest s':>10}"
        for reader in sorted(self.cpu_s):
            outcomes = [self.counts[reader, name] for name in ("read", "refused", "finding")]
            each_ms = 1e3 * self.cpu_s[reader] / max(sum(outcomes), 1)
            cells = "".join(f"{count:>9,}" for count in (sum(outcomes), *outcomes))
            yield f"{reader:<22}{cells}{each_ms:>9.2f}{self.slowest[reader][0]:>10.2f}"
        hangs = sum(
            one.count for (_, kind), one in self.findings.items() if kind.startswith("hang")
        )
        found = sum(one.count for one in self.findings.values())
        cpu_s = sum(self.cpu_s.values())
        yield (
            f"{self.cases:,} cases, {found:,} findings of which {hangs:,} hangs, {cpu_s:,.0f} s of CPU, "
            f"peak memory {self.peak_bytes / 2**20:,.0f} MiB"
        )
        for (reader, kind), one in sorted(self.findings.items()):
            last = one.message.strip().splitlines()[-1][:_WORDS]
            yield f"\n{one.count:>6,} × {reader}: {kind}\n         {last}\n         {one.first}"
