"""What ``calibrate simulate`` is asked to serve: a workload by distributions, or a recorded one."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.serving.lengths import Lengths
    from sim.serving.workload import Load, Trace, Workload

PRESETS = {
    "chatbot": (256, 100, 256, 100),
    "summarization": (4096, 1500, 512, 200),
    "contentgen": (256, 100, 1024, 400),
}
"""Mean and standard deviation of prompt and output tokens."""

_CUT = 4  # normal lengths are cut at so many times the mean


@dataclasses.dataclass(frozen=True)
class Asked:
    """The options of the command that say what is served."""

    workload: str
    num_requests: int
    prompt_tokens: int | None
    prompt_std: float | None
    output_tokens: int | None
    output_std: float | None
    lengths: str
    rate: float | None
    arrivals: str
    cv: float | None
    concurrency: int | None
    shared_tokens: int
    num_shared: int
    distinct_prompts: int
    warm: bool

    def read(self) -> "Workload | Trace":
        """The workload. Raises CalibrateError for options that contradict each other, WorkloadError."""
        from sim.serving.workload import Workload

        if Path(self.workload).is_file():
            return self._recorded(Path(self.workload))
        prompt, output = self._both_lengths()
        return Workload(
            self.num_requests,
            self._load(),
            prompt,
            output,
            shared_tokens=self.shared_tokens,
            num_shared=self.num_shared,
            distinct_prompts=self.distinct_prompts,
            warm=self.warm,
        )

    def read_without_rate(self) -> "Workload | Trace":
        """The workload at a rate that is still to be found. Raises as :meth:`read`, and where a rate is given."""
        from calibrate.records.errors import CalibrateError

        for option, value in {"--rate": self.rate, "--concurrency": self.concurrency}.items():
            if value is not None:
                raise CalibrateError(f"--find-rate looks for the rate: leave {option} out")
        recorded = Path(self.workload).is_file()
        return self.read() if recorded else dataclasses.replace(self, rate=1.0).read()

    def unit_load(self) -> "Load":
        """When requests come, at one a second."""
        return dataclasses.replace(self, rate=1.0)._load()

    def _load(self) -> "Load":
        from calibrate.records.errors import CalibrateError
        from sim.serving.workload import Closed, Constant, Gamma, Poisson, Stage

        if self.concurrency is not None and self.rate is None:
            return Closed(self.concurrency)
        if self.rate is None or self.concurrency is not None:
            raise CalibrateError("give either --rate or --concurrency")
        kinds: dict[str, type[Poisson | Constant | Stage]] = {
            "poisson": Poisson,
            "constant": Constant,
            "stage": Stage,
        }
        kind = _known("--arrivals", self.arrivals, (*kinds, "gamma"))
        if (kind == "gamma") != (self.cv is not None):
            raise CalibrateError(
                "--arrivals gamma and --cv, the gaps' standard deviation over their mean, go together"
            )
        return kinds[kind](self.rate) if self.cv is None else Gamma(self.rate, self.cv)

    def _both_lengths(self) -> "tuple[Lengths, Lengths]":
        from calibrate.records.errors import CalibrateError

        name = _known(
            "--workload", self.workload, ("distribution", *PRESETS), "neither a file nor known"
        )
        given = (self.prompt_tokens, self.prompt_std, self.output_tokens, self.output_std)
        usual = PRESETS.get(name, (None, 0.0, None, 0.0))
        prompt, prompt_std, output, output_std = (
            u if g is None else g for g, u in zip(given, usual, strict=True)
        )
        if prompt is None or output is None:
            raise CalibrateError(
                "--workload distribution needs --prompt-tokens and --output-tokens"
            )
        return self._drawn(prompt, prompt_std), self._drawn(output, output_std)

    def _drawn(self, mean: float, std: float | None) -> "Lengths":
        from sim.serving.lengths import Fixed, LogNormal, Normal

        kind = _known("--lengths", self.lengths, ("normal", "lognormal"))
        if not std:
            return Fixed(int(mean))
        return (
            LogNormal(mean, std) if kind == "lognormal" else Normal(mean, std, 1, int(_CUT * mean))
        )

    def _recorded(self, path: Path) -> "Trace":
        from calibrate.campaign.workload_files import read_workload
        from calibrate.records.errors import CalibrateError

        given = {
            "--rate": self.rate,
            "--concurrency": self.concurrency,
            "--prompt-tokens": self.prompt_tokens,
            "--output-tokens": self.output_tokens,
            "--shared-tokens": self.shared_tokens,
            "--distinct-prompts": self.distinct_prompts,
        }
        for option, value in given.items():
            if value:
                raise CalibrateError(
                    f"{path} says when requests come and how long they are: leave {option} out"
                )
        return read_workload(path)


def _known(option: str, name: str, known: tuple[str, ...], otherwise: str = "not known") -> str:
    from calibrate.records.errors import CalibrateError
    from sim.errors import nearest

    if name not in known:
        raise CalibrateError(
            f"{option} {name!r} is {otherwise} (known: {', '.join(known)}){nearest(name, known)}"
        )
    return name
