"""A finished fit in a notebook: its parameters as lmfit has them, tables, plots, and files."""

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.fitting.solver import lmfit_parameters, lmfit_report
from calibrate.job.gate import refusal
from calibrate.job.publish import engines_to_write, values_to_write, write_run
from calibrate.outcome.result import FitResult, ParameterResult
from calibrate.outcome.run_files import read_run
from calibrate.records.config_writer import write_config
from calibrate.records.errors import CalibrateError
from calibrate.records.folders import replaced_folder
from sim.hardware import Hardware

_SHOWN_PARAMETERS = 7  # with what stands above and below, ten lines
_SHOWN_WARNINGS = 8


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Fit(FitResult):
    """A finished fit, and what one does with it. ``start`` is the configuration it started from."""

    start: Hardware | None = None

    @classmethod
    def of(cls, result: FitResult, start: Hardware | None = None) -> "Fit":
        """The same fit with its start."""
        fields = {
            field.name: getattr(result, field.name) for field in dataclasses.fields(FitResult)
        }
        return cls(**fields, start=start)

    @property
    def hardware(self) -> Hardware:
        """The configuration with the fitted values: what :func:`calibrate.predict` and the simulator take."""
        known = self.start.values if self.start else self.peaks
        return Hardware(self.gpu, {**known, **self.values}, f"the fit of {self.created}")

    @property
    def params(self) -> Any:
        """``lmfit.Parameters``: every one with bounds, standard error and correlations, for lmfit's own tools."""
        free = [p.name for p in self.parameters if p.status in ("fitted", "at-bound")]
        starts = {p.name: p.start for p in self.parameters}
        return lmfit_parameters(self.values, starts, free, self.fit.covariance)

    @property
    def covariance(self) -> pd.DataFrame:
        """Covariance (k, k) of the parameters that were fitted inside their bounds, by name; empty if not known."""
        return pd.DataFrame(self.fit.covariance, dtype=float)

    def fit_report(self) -> str:
        """A page of text: statistics, errors, parameters and correlations as lmfit writes them, verdict, warnings."""
        sections = {
            "Fit": self._statistics_lines(),
            "Mean errors": self._error_lines(),
            "Verdict": self._verdict_lines(),
        }
        texts = [_section(title, lines) for title, lines in sections.items()]
        return "\n".join([*texts[:2], lmfit_report(self.params), *texts[2:]])

    def plot(self, name: str = "residuals") -> Any:
        """A matplotlib figure: one plot of the report.

        ``name`` is that of its file: ``residuals``, ``predicted_measured``, ``roofline``, ``profiles`` and so on.
        Raises CalibrateError for another name, or where this fit holds nothing to draw.
        """
        from calibrate.report.plots import draw_plot

        return draw_plot(self, name)

    def save(self, folder: str | Path) -> Path:
        """Write a run's folder, new or empty: result, tables, report and plots; return the report's path.

        Raises CalibrateError if the folder holds something or cannot be written.
        """
        root = Path(folder)
        try:
            if root.exists() and any(root.iterdir()):
                raise CalibrateError(f"{root}: holds files already; give a new folder")
        except OSError as error:
            raise CalibrateError(f"{root}: cannot be written: {error.strerror or error}") from error
        values = values_to_write(self, self.start or self.hardware)
        with replaced_folder(root) as new:
            write_run(self, values, new / "hardware_config.json", new)
        return root / "report.html"

    def write_config(self, file: str | Path, *, force: bool = False) -> Path | None:
        """Merge the values into the GPU's block of a configuration file; return the backup of the previous file.

        Raises RefusedFitError, unless ``force``, for a fit that is poor at physical bounds (WorseFitError for one that
        is worse than its start on rows it has not seen), and ConfigError if the file cannot be written.
        """
        start = self.start or self.hardware
        refused = None if force else refusal(self, start)
        if refused is not None:
            raise refused.error(
                f"{refused.why}; nothing was written. {refused.advice} force=True writes it all the same."
            )
        values = values_to_write(self, start)
        return write_config(Path(file), self.gpu, values, engines_to_write(self))

    def __repr__(self) -> str:
        """Ten lines: what was fitted, the parameters it determined, and the verdict."""
        shown, rest = self._shown()
        lines = [
            f"Fit of {self.gpu}, {self.latency_model}, {self.fit.n_rows:,} rows: {self.verdict.level}"
        ]
        lines += [f"  {p.name:<24} {p.value:>10.4g} {_interval(p):<18} {p.unit}" for p in shown]
        lines += [f"  … and {rest} more"] if rest else []
        return "\n".join([*lines, self.verdict.sentence])

    def _repr_html_(self) -> str:
        """The same as a small table."""
        shown, rest = self._shown()
        cells = [
            (p.name, f"{p.start:.4g}", f"{p.value:.4g}", _interval(p), p.unit, p.status)
            for p in shown
        ]
        head = ("parameter", "start", "value", "90% interval", "unit", "status")
        rows = "".join(_html_row(row, "td") for row in cells)
        more = f"<p>… and {rest} more</p>" if rest else ""
        title = html.escape(
            f"{self.gpu} · {self.latency_model} · {self.fit.n_rows:,} rows · {self.verdict.level}"
        )
        sentence = html.escape(self.verdict.sentence)
        return f"<table><caption>{title}</caption>{_html_row(head, 'th')}{rows}</table>{more}<p>{sentence}</p>"

    def _shown(self) -> tuple[list[ParameterResult], int]:
        """The parameters that were determined, the first few, and how many more there are."""
        determined = [p for p in self.parameters if p.status in ("fitted", "at-bound")]
        return determined[:_SHOWN_PARAMETERS], max(len(determined) - _SHOWN_PARAMETERS, 0)

    def _statistics_lines(self) -> list[str]:
        statistics = self.fit.statistics
        lines = [
            f"{self.gpu}, {self.latency_model}, loss {self.fit.loss}, {self.fit.starts} starts"
        ]
        if statistics is None:
            return [
                *lines,
                f"# data points      = {self.fit.n_rows}",
                f"# variables        = {self.fit.n_free}",
            ]
        figures = {
            "chi-square": statistics.chi_square,
            "reduced chi-square": statistics.reduced_chi_square,
            "Akaike info crit": statistics.aic,
            "Bayesian info crit": statistics.bic,
        }
        lines += [
            f"# data points      = {statistics.n_data}",
            f"# variables        = {statistics.n_varys}",
        ]
        return lines + [
            f"{name:<18} = {value:.6g}" for name, value in figures.items() if value is not None
        ]

    def _error_lines(self) -> list[str]:
        if not self.has_steps:
            served = self.serving.unseen if self.serving else {}
            return [
                f"{metric.upper():<20} {slices['all'].mape:.2%}"
                for metric, slices in served.items()
            ]
        held_out = {
            f"held out, by {kind}": slices["all"].mape
            for kind, slices in self.metrics.held_out.items()
        }
        errors = {
            "before": self.metrics.before["all"].mape,
            "after": self.metrics.after["all"].mape,
            **held_out,
        }
        every = self.metrics.every_row
        if every is not None:
            errors["after, every row"] = every.after["all"].mape
        return [f"{name:<20} {error:.2%}" for name, error in errors.items()]

    def _verdict_lines(self) -> list[str]:
        warnings = [f"! {text}" for text in self.warnings[:_SHOWN_WARNINGS]]
        rest = len(self.warnings) - len(warnings)
        more = [f"! … and {rest} more"] if rest else []
        statements = [f"{one.light}, on {one.name}: {one.text}" for one in self.verdicts]
        return [f"{self.verdict.level}: {self.verdict.sentence}", *statements, *warnings, *more]


def load_run(folder: str | Path) -> Fit:
    """The fit that a run's folder holds. Raises CalibrateError if it cannot be read."""
    return Fit.of(read_run(folder))


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"[[{title}]]", *(f"    {line}" for line in lines)])


def _interval(p: ParameterResult) -> str:
    if p.ci90 is None:
        return ""
    low, high = ("…" if end is None else f"{end:.3g}" for end in p.ci90)
    return f"{low}–{high}"


def _html_row(cells: tuple[str, ...], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
