"""Puts a finished fit where it belongs: the run's folder with its report, then the configuration."""

import contextlib
import dataclasses
import difflib
import secrets
from pathlib import Path

from calibrate.job.engines import engine_entries, models_of_engines
from calibrate.job.gate import Refusal, refusal
from calibrate.job.leftovers import CONFIG, DRAWN, WORKSHOP, clear_leftovers, place_run
from calibrate.outcome.result import FitResult, Previous, PreviousParameter
from calibrate.outcome.result_json import dump_json
from calibrate.outcome.run_files import read_result, read_run
from calibrate.parameters.registry import REQUEST_TIME_NAMES
from calibrate.records.config_writer import merged_text, write_config
from calibrate.records.errors import CalibrateError
from calibrate.records.files import replace_text
from calibrate.records.interrupts import uninterrupted
from calibrate.records.reading.content import read_text
from calibrate.records.workshop import workshop
from calibrate.report import draw_report
from sim.configuration import MODELS
from sim.hardware import Hardware, canonical_gpu, check_gpu_name, gpu_specs
from sim.models.registry import PARAMETERS


@dataclasses.dataclass(frozen=True)
class Published:
    """Where things lie now; None for what a dry run leaves out."""

    run: Path | None
    report: Path | None
    config: Path | None
    backup: Path | None


def publish(
    result: FitResult, start: Hardware, config: Path, out: Path, *, force: bool, dry_run: bool
) -> Published:
    """Write report and configuration: both or none, but of a refused fit the report alone.

    Raises RefusedFitError, unless ``force``, for a fit that :func:`calibrate.job.gate.refusal` keeps out of the
    configuration, and CalibrateError if a folder cannot be written.
    """
    refused = None if force else refusal(result, start)
    nothing = Published(None, None, None, None)
    written = nothing if dry_run else _write(result, start, config, out, refused)
    if refused is None:
        return written
    outcome = "nothing was written"
    if written.report is not None:
        outcome = f"{config} stays as it was. The report is {written.report}"
    raise refused.error(
        f"{refused.why}; {outcome}. {refused.advice} --force writes it all the same."
    )


def _write(
    result: FitResult, start: Hardware, config: Path, out: Path, refused: Refusal | None
) -> Published:
    """Write the report and, unless the fit is refused, the configuration: all of it or nothing."""
    values = values_to_write(result, start)
    parent = out / check_gpu_name(result.gpu)
    clear_leftovers(parent, config)
    result = dataclasses.replace(result, previous=_previous(parent, result.latency_model))
    if refused is None:
        result = dataclasses.replace(result, config_diff=_config_diff(config, result, values))
    else:
        result = _marked(result, refused)
    outcome = "nothing was written"
    try:
        with workshop(parent / f"{WORKSHOP}{secrets.token_hex(4)}") as shop:
            drawn = shop / DRAWN
            drawn.mkdir()
            write_run(result, values, config, drawn)
            with uninterrupted():
                found = engines_to_write(result)
                backup = None if refused else write_config(config, result.gpu, values, found)
                outcome = f"{config} holds the values" if refused is None else outcome
                run = place_run(drawn, parent, result.created)
    except OSError as error:
        raise CalibrateError(
            f"{parent}: the report cannot be written: {error.strerror or error}; {outcome}"
        ) from error
    return Published(run, run / "report.html", None if refused else config, backup)


def _marked(result: FitResult, refused: Refusal) -> FitResult:
    """The same result, its verdict saying that the configuration does not hold it."""
    verdict = result.verdict
    sentence = f"{verdict.sentence} {refused.why}; it was not written to the configuration."
    return dataclasses.replace(result, verdict=dataclasses.replace(verdict, sentence=sentence))


def values_to_write(result: FitResult, start: Hardware) -> dict[str, float]:
    """The start's values and the fit's; without what is off and was never there, and what the registry knows anyway."""
    spec = gpu_specs().get(canonical_gpu(start.gpu))
    known = {k: v for k, v in (spec.values if spec else {}).items() if k not in result.peaks}
    kept = {key: value for key, value in start.values.items() if known.get(key) != value}
    fitted = result.values.items()
    return {
        **kept,
        **{k: v for k, v in fitted if k in start.values or not (v == 0 and PARAMETERS[k].zero)},
    }


def engines_to_write(result: FitResult) -> dict[str, dict[str, object]]:
    """What serving results say of each engine: what they moved, times beside the model's own, and models served."""
    entries = {name: dict(terms) for name, terms in engine_entries(result).items()}
    if result.serving is not None and result.serving.engine:
        named = {*(one.name for one in result.serving.tuned), *REQUEST_TIME_NAMES}
        values = {one.name: one.value for one in result.parameters if one.name in named}
        entries[result.serving.engine] = values
    served = models_of_engines(result)
    return {
        name: {**terms, **({MODELS: list(served[name])} if name in served else {})}
        for name, terms in entries.items()
    }


def write_run(result: FitResult, values: dict[str, float], config: Path, folder: Path) -> None:
    """Write a run's files into an empty folder; the configuration is that of the file at ``config`` with ``values``.

    The configuration comes last: a folder that has it is whole.
    """
    (folder / "result.json").write_text(dump_json(result.to_dict()), encoding="utf-8")
    for name, table in (("predictions", result.predictions), ("serving", result.served)):
        if table is not None and len(table):
            table.to_csv(
                folder / f"{name}.csv", index=False, lineterminator="\n", float_format="%.8g"
            )
    draw_report(read_run(folder), folder)
    text = merged_text(config, result.gpu, values, engines_to_write(result))
    replace_text(folder / CONFIG, text)


def _config_diff(config: Path, result: FitResult, values: dict[str, float]) -> tuple[str, ...]:
    """What changes in the configuration file, as the lines of a unified diff."""
    old = read_text(config).splitlines() if config.exists() else []
    new = merged_text(config, result.gpu, values, engines_to_write(result)).splitlines()
    return tuple(
        difflib.unified_diff(
            old, new, f"{config.name} before", f"{config.name} after", lineterm="", n=2
        )
    )


def _previous(parent: Path, latency_model: str) -> Previous | None:
    """The latest run of the same GPU and model that can be read; None where there is none."""
    for folder in sorted(parent.glob("[0-9]*"), reverse=True):
        with contextlib.suppress(CalibrateError):  # not a run of today's form
            run = read_result(folder)
            if run.latency_model == latency_model:
                return _summary(folder.name, run)
    return None


def _summary(name: str, run: FitResult) -> Previous:
    """What the report on a later run shows of this one."""
    unseen = run.metrics.unseen
    served = run.serving.unseen if run.serving else None
    return Previous(
        run=name,
        created=run.created,
        latency_model=run.latency_model,
        parameters={p.name: PreviousParameter(p.value, p.ci90) for p in run.parameters},
        mape_after=run.metrics.after["all"].mape if run.has_steps else None,
        mape_held_out=unseen["all"].mape if unseen else None,
        serving={metric: slices["all"].mape for metric, slices in served.items()}
        if served
        else None,
    )
