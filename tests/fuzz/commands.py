"""What a command does with the files that it is given, by the public functions behind it; each takes a folder."""

import contextlib
import tempfile
import tomllib
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from calibrate.bench.planned import read_points
from calibrate.bench.record import begin_campaign, open_record, rows_of
from calibrate.bench.specs import widened
from calibrate.campaign.campaign import load_campaigns
from calibrate.campaign.peaks import check_peaks
from calibrate.campaign.quality import check_coverage, check_runs
from calibrate.campaign.step_rows import read_steps
from calibrate.campaign.workload_files import read_workload
from calibrate.capacity.uncertainty import uncertainty_of
from calibrate.cli.show_model import describe
from calibrate.exporters import (
    aiconfigurator,
    blis_trained_physics,
    export,
    genz,
    llm_optimizer,
    own_json,
)
from calibrate.exporters.exported import Source
from calibrate.importers import completed, read_source, write_campaign
from calibrate.importers.forward_pass_dataset import Request, import_dataset
from calibrate.importers.imported import Imported
from calibrate.job.priors import read_priors
from calibrate.outcome.comparison import compare
from calibrate.outcome.result_json import dump_json
from calibrate.outcome.run_files import read_result, read_run
from calibrate.records.checkpoint import Checkpoint
from calibrate.records.config_writer import merged_text
from calibrate.records.errors import CalibrateError, CampaignError, printable
from calibrate.records.reading.content import read_text
from calibrate.records.reading.csv_rows import CsvRows, csv_header
from calibrate.records.reading.documents import read_json_documents, read_toml, read_yaml
from calibrate.records.reading.parquet import parquet_columns, read_parquet_frame
from calibrate.records.schema import STEPS_TO_PREDICT, TABLES
from calibrate.records.tables import read_table
from calibrate.report.contents import complete_rows
from calibrate.watch.as_plain import as_plain
from calibrate.watch.calibrated import read_calibrated
from calibrate.watch.session import Session
from sim import Batch, latency_model, load_architecture, load_hardware, load_mfu_table
from sim.architecture_files import registry
from sim.errors import SimError
from sim.hardware import Hardware
from sim.models.mfu_holes import find_holes
from tests.conftest import GUIDE_H100
from tests.fuzz import run_samples, watch_samples

_GPU = "H100"
_TEXT_EXPORTS = ("blis-v1", "blis-minimal", "aiconfigurator", "genz", "json")


@cache
def guide() -> Hardware:
    """The guide's H100."""
    return load_hardware({_GPU: GUIDE_H100}, _GPU)


def only(root: Path) -> Path:
    """The one file in a folder, or the folder where it holds more."""
    inside = [*root.iterdir()]
    return inside[0] if len(inside) == 1 and inside[0].is_file() else root


def _first(root: Path) -> Path:
    """Any file of a folder whose file may have been renamed, repeated or removed."""
    return next(iter(sorted(root.iterdir())), root / "missing.csv")


def tables(root: Path) -> None:
    """CSV, as every table is read first."""
    csv_header(_first(root))
    CsvRows(_first(root)).rows()


def columns(root: Path) -> None:
    """Parquet, likewise."""
    parquet_columns(_first(root))
    read_parquet_frame(_first(root))


def documents(root: Path) -> None:
    """JSON, TOML and YAML, likewise."""
    path = _first(root)
    if path.suffix == ".toml":
        read_toml(path)
    elif path.suffix == ".yaml":
        read_yaml(path)
    else:
        [*read_json_documents(path)]


def validate(root: Path) -> None:
    """``calibrate validate``."""
    check_peaks(guide())
    for campaign in load_campaigns(root, _GPU, hardware=guide()):
        problems = [
            *campaign.problems,
            *check_coverage(str(campaign.folder), campaign.table),
            *check_runs(str(campaign.folder), campaign.steps),
        ]
        printable("\n".join(map(str, problems))).encode()


def predict(root: Path) -> None:
    """``calibrate predict`` of a table of steps."""
    source = read_table(_first(root), STEPS_TO_PREDICT)
    rows, table, problems = read_steps(source, None)
    bad = [problem for problem in (*source.problems, *problems) if problem.severity == "error"]
    if bad:
        raise CampaignError(bad)
    predicted = latency_model("roofline-v1").predict_us(table, guide())
    rows.assign(predicted_us=predicted).to_csv(index=False)


def planned(root: Path) -> None:
    """The plan that ``calibrate bench`` is given."""
    read_points(_first(root), "bf16")


def imported(name: str, gpu: str, said: Mapping[str, object], root: Path) -> None:
    """``calibrate import``."""
    _write(read_source(name, str(only(root)), gpu, said), root)


def imported_dataset(said: Mapping[str, object], root: Path) -> None:
    """``calibrate import`` of a log that becomes a data set, whose file of facts must then be readable."""
    source = str(root)
    complete = partial(completed, source=source, needs=("model", "tp"), said=said)
    folder = root.with_name("written") / _GPU / "c"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as own:
        folder = Path(own) / "c"
        import_dataset(Request(source, _GPU, folder, "", {}, "", complete))
        tomllib.loads((folder / "campaign.toml").read_text())


def inferencemax_style(root: Path) -> None:
    """The same of rows in InferenceMAX's style, whose engine is named."""
    name = f"{only(root)}:vllm-0.11.0"
    _write(read_source("inferencemax-style", name, _GPU), root)


def server_log(root: Path) -> None:
    """``calibrate import --server-log``."""
    result, log = root / "result.json", root / "server.log"
    _write(read_source("vllm-bench", str(result), _GPU, {}, log), root)


def _write(imported: Imported, root: Path) -> None:
    """Write a campaign beside the source, whose file of facts must then be readable."""
    folder = root.with_name("written") / _GPU / "c"
    write_campaign(imported, folder)
    tomllib.loads((folder / "campaign.toml").read_text())
    for text in (*imported.left_out, *imported.warnings):
        printable(text).encode()


def configuration(root: Path) -> None:
    """A hardware configuration: read, merged into, predicted with, written for other tools."""
    path = _first(root)
    hardware = load_hardware(path, _GPU)
    merged_text(path, _GPU, {"mfuDecode": 0.2}).encode()
    llama = load_architecture("llama-3.1-8b")
    batch = Batch.from_requests(prefill=[(0, 64, 1)], decode=[(64, 2)])
    with contextlib.suppress(SimError):
        latency_model("roofline-v1").step_time_us(batch, llama, hardware, tp=2)


def drawn(root: Path) -> None:
    """What ``calibrate recommend --run`` draws of a run."""
    unknown = uncertainty_of(_GPU, read_run(root), 8, 0)
    unknown.draws(4, 0, 2)


def exports(root: Path) -> None:
    """``calibrate export`` of a configuration to the formats that are not fitted."""
    source = Source(load_hardware(_first(root), _GPU), root)
    for name in _TEXT_EXPORTS:
        str(export(name, source).text).encode()


def measured_exports(root: Path) -> None:
    """``calibrate export`` to the formats that campaigns are needed for."""
    for name in ("bench-data", "blis", "blis-trained-physics"):
        with contextlib.suppress(CalibrateError, SimError):
            export(name, Source(guide(), root))


def exported_texts(root: Path) -> None:
    """Other tools' files, read back."""
    path = _first(root)
    text = read_text(path)
    for module in (aiconfigurator, blis_trained_physics, genz, llm_optimizer, own_json):
        if path.stem == module.__name__.rpartition(".")[2]:
            module.read(text)


def description(root: Path) -> None:
    """``calibrate show model`` of a folder."""
    registry._load_named.cache_clear()  # it takes a path for what was there before
    architecture = load_architecture(root)
    describe(architecture)
    batch = Batch.from_requests(prefill=[(0, 64, 1)], decode=[(64, 2)])
    for name in ("roofline-v1", "roofline-v3"):
        with contextlib.suppress(SimError):
            latency_model(name).step_time_us(batch, architecture, guide(), tp=1)


def workload(root: Path) -> None:
    """``calibrate simulate --workload``."""
    read_workload(_first(root))


def database(root: Path) -> None:
    """``--bench-data-path``."""
    table = load_mfu_table(root, "x100")
    find_holes(table, run_samples.steps())


def run(root: Path) -> None:
    """``calibrate report`` before it draws, and what a run's folder is read for besides."""
    found = read_run(root)
    complete_rows(found.predictions)
    dump_json(found.to_dict()).encode()


def compared(root: Path) -> None:
    """``calibrate compare`` of a run with itself as it was."""
    compare(root, run_samples.folder()).to_dict()


def priors(root: Path) -> None:
    """``calibrate fit --prior`` of a run, and ``calibrate export --run``."""
    result = read_result(root)
    hardware = Hardware(result.gpu, {**result.peaks, **result.values}, str(root))
    export("json", Source(hardware, root, (), result))
    read_priors(str(root), 1.0, ("mfuPrefill", "BwEffConstant"))


def watched(root: Path) -> None:
    """``calibrate watch`` of logs and tables, once."""
    session = watch_samples.session_of(root, None)
    session.take_all()
    _say(session)


def watched_again(root: Path) -> None:
    """``calibrate watch`` that goes on from a state."""
    with contextlib.chdir(root):
        session = watch_samples.session_of(Path("log.jsonl"), Path("state.npz"))
        session.resume()
        session.take_all()
        _say(session)


def _say(session: Session) -> None:
    dump_json(as_plain(session.found))
    session.close()


def profiled(root: Path) -> None:
    """A profile, as ``watch``, ``compare`` and ``fit`` read it."""
    read_calibrated(root, _GPU)
    compare(root, root, _GPU)
    read_priors(str(root), 1.0, ("mfuPrefill", "BwEffConstant"))


def benched(root: Path) -> None:
    """A folder that ``calibrate bench`` goes on with."""
    folder = root / "H100/c"
    begin_campaign(folder, {"device": "cpu", "torch": "2.6", "threads": 1})
    for table in ("gemm", "steps"):
        open_record(folder, table)
    rows_of(folder, [*TABLES])
    widened({"TFlopsPeak": 1.0, "BwPeakTBs": 0.1}, folder, _GPU)


def checkpoint(root: Path) -> None:
    """Work that was interrupted."""
    Checkpoint(_first(root), "key").resume()
