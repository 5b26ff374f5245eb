"""``systems/silicon_sample.csv`` of the package aiconfigurator-core: measured load points of servers, from many hands.

Each row is a time to first token and a time per output token at a concurrency. Who measured it is told from
``silicon_data_source``; the importers of :mod:`~calibrate.importers.inferencemax` and
:mod:`~calibrate.importers.inferencemax_style` choose theirs by it. Dense models are taken, or with ``models`` those of
2026 too, which a campaign then marks as meant for roofline-v4.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from calibrate.importers.aiconfigurator import SYSTEMS
from calibrate.importers.model_names import is_known
from calibrate.importers.silicon_package import package_version, systems_folder
from calibrate.importers.silicon_served import (
    has_known_type,
    with_parallelism,
    with_weight_types,
)
from calibrate.records.errors import ImportFormatError
from calibrate.records.schema import Column
from calibrate.records.tables import read_whole_table
from sim.architecture_files import canonical_model, load_architecture
from sim.errors import ArchitectureError, nearest
from sim.hardware import canonical_gpu
from sim.models.registry import latency_model

_FILE = "silicon_sample.csv"
_COLUMNS = (
    *(
        Column(name, "text", required=True)
        for name in ("id", "silicon_data_source", "backend", "model_path", "system")
    ),
    Column("mode", "text", required=True),
    *(
        Column(name, "text", required=True, may_be_empty=True)
        for name in ("backend_version", "precision", "gemm_quant_mode")
    ),
    *(Column(name, "count", required=True, largest=1e7) for name in ("isl", "osl")),
    *(
        Column(name, "count", required=True, largest=4096, may_be_empty=True)
        for name in ("tp_size", "pp_size", "attention_dp_size")
    ),
    *(Column(name, "count", largest=4096) for name in ("moe_tp_size", "moe_ep_size")),
    *(Column(name, "positive", required=True) for name in ("silicon_ttft_ms", "silicon_tpot_ms")),
)
_OF_INFERENCEMAX = r"(?:db-dump/|source_file=)\d{4}-\d\d-\d\d"  # a dump of its data base, by day
_OF_DATABASE = "db-dump/"
_CONCURRENCY = r"silicon_concurrency=(\d+)"
_ENGINES = {"trtllm": "tensorrt-llm"}
# Quantised; the row's precision says how. DeepSeek-V3.1 has V3's sizes
_COPIES = {
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b",
    "nvidia/Qwen3-32B-NVFP4": "qwen3-32b",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-r1",
    "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-v3",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    "zhipuai/GLM-5": "glm-5",
}
_DEEPSEEK = {"deepseek-v3": "deepseek-r1"}  # what InferenceMAX ran, by its own ids (dsr1)
OF_2026 = "roofline-v4"
"""The latency model that computes what ``--models`` adds."""
_GPUS_OF_A_SERVER = 8

Reason = tuple[str, Callable[[pd.DataFrame], "pd.Series[bool]"]]
"""Words for rows that are left out, and which rows of a table they are true of."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The rows of one GPU (``gpu``, as the registry spells it) in a file, which ``origin`` names in words."""

    path: Path
    gpu: str
    origin: str
    rows: pd.DataFrame


def read_sample(source: str, gpu: str) -> Sample:
    """The rows of ``gpu``; ``source`` is ``package`` or a ``silicon_sample.csv``.

    To the file's columns are added ``line``, ``model``, ``engine``, ``tp``, ``ep``, ``dp``, ``dtype`` and ``moe_dtype``
    as campaigns spell them, ``concurrency``, NaN where a row states none, and ``is_copy``. Raises ImportFormatError if
    the package, a column or the GPU is missing, or a cell is bad.
    """
    name = canonical_gpu(gpu)
    path = systems_folder() / _FILE if source == "package" else Path(source)
    table = read_whole_table(path, _COLUMNS)
    rows = table.frame.assign(line=table.lines)
    here = rows[rows["system"] == SYSTEMS.get(name, name.lower())]
    if here.empty:
        known = ", ".join(sorted(rows["system"].unique()))
        raise ImportFormatError(f"{path}: no row for GPU {gpu!r} (its systems: {known})")
    served = with_weight_types(with_parallelism(_named(here)))
    package = (
        f"Python package aiconfigurator-core {package_version(source)} (NVIDIA), systems/{_FILE}"
    )
    return Sample(path, name, package, served.assign(is_copy=_is_copy(served)))


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    models = rows["model_path"].replace(_COPIES).map(canonical_model)
    engines = rows["backend"].replace(_ENGINES) + " " + rows["backend_version"]
    return rows.assign(
        model=models.where(~of_inferencemax(rows), models.replace(_DEEPSEEK)),
        engine=engines.str.strip(),
        concurrency=rows["silicon_data_source"].str.extract(_CONCURRENCY)[0].astype(float),
    )


def kept(sample: Sample, reasons: Sequence[Reason]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that can be used, and in words how many each reason leaves out, one after the other.

    Raises ImportFormatError if no row is left.
    """
    rows, left_out = sample.rows, []
    for words, unusable in reasons:
        out = unusable(rows)
        if out.any():
            models = ", ".join(sorted(set(rows["model_path"][out])))
            left_out.append(f"{int(out.sum())} rows {words} ({models})")
        rows = rows[~out]
    if rows.empty:
        raise ImportFormatError(
            f"{sample.path}: no row for GPU {sample.gpu!r} can be used: {'; '.join(left_out)}"
        )
    return rows, tuple(left_out)


def of_database(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows come from the dump that tells configurations apart; others do not say who speculates."""
    return rows["silicon_data_source"].str.startswith(_OF_DATABASE)


def of_inferencemax(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows come from a dump of InferenceMAX's data base."""
    return rows["silicon_data_source"].str.match(_OF_INFERENCEMAX)


def _is_copy(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows are a measurement that another row has too: in the dump that says most, or rounded to 0.01 ms."""
    told = ["mode", "backend", "model", "dtype", "isl", "osl", "concurrency", "tp", "ep", "dp"]
    figures = rows[["silicon_ttft_ms", "silicon_tpot_ms"]].round(2)
    best_first = (~of_database(rows)).sort_values(kind="stable").index
    return pd.concat([rows[told], figures], axis="columns").loc[best_first].duplicated()


def _is_dense(model: str) -> bool:
    if not is_known(model):
        return False
    arch = load_architecture(model)
    return arch.experts is None and not (arch.not_modelled or arch.windows)


def _is_computed(model: str) -> bool:
    try:
        latency_model(OF_2026).limits(load_architecture(model))
    except ArchitectureError:
        return False
    return True


def _none_where(
    is_meant: Callable[[str], bool],
) -> Callable[[pd.DataFrame], "pd.Series[bool]"]:
    return lambda rows: (
        ~rows["model"].map({m: is_meant(m) for m in set(rows["model"])}).astype(bool)
    )


_NOT_DENSE: Reason = ("of models with experts or not in the registry", _none_where(_is_dense))
_NOT_COMPUTED: Reason = (
    f"of models that {OF_2026} has no term for, or not in the registry",
    _none_where(_is_computed),
)
_DENSE: Reason = (
    "of dense models, which the import without --models takes",
    _none_where(lambda model: not _is_dense(model)),
)
_OTHER_MODELS = {"": (_NOT_DENSE,), "2026": (_NOT_COMPUTED, _DENSE), "all": (_NOT_COMPUTED,)}


def unusable(models: str) -> tuple[Reason, ...]:
    """Why a row cannot be a load point of one server, whoever measured it.

    ``models`` is empty for dense ones, ``2026`` for those beside them that roofline-v4 computes, or ``all`` for both.
    Raises ImportFormatError for another word.
    """
    if models not in _OTHER_MODELS:
        raise ImportFormatError(
            f"--models {models!r} is not known here: say 2026, for models with experts, latent or windowed attention, "
            f"or all, for dense ones too{nearest(models, _OTHER_MODELS)}"
        )
    return (
        ("of disaggregated servers", lambda rows: rows["mode"] != "agg"),
        *_OTHER_MODELS[models],
        ("of weight types not known", lambda rows: ~has_known_type(rows)),
        (
            "of pipeline or data parallelism",
            lambda rows: (rows["pp_size"].fillna(1) > 1) | (rows["dp"] > 1),
        ),
        (
            "of more GPUs than a server has: the sum over those of a disaggregated one",
            lambda rows: rows["tp"] > _GPUS_OF_A_SERVER,
        ),
        ("that stand there twice", lambda rows: rows["is_copy"]),
    )


def load_points(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """What every row says of itself, as columns of ``serving``; lengths are left to the importer.

    Raises ImportFormatError, with the line, for a row without concurrency or degree.
    """
    _refuse(rows, rows["concurrency"].isna(), "silicon_data_source", "silicon_concurrency=16", path)
    _refuse(rows, rows["tp_size"].isna(), "tp_size", "1", path)
    told = pd.DataFrame(
        {
            "model": rows["model"],
            "tp": rows["tp"],
            "dtype": rows["dtype"],
            "moe_dtype": rows["moe_dtype"],
            "ep": rows["ep"],
            "engine": rows["engine"],
            "load": "closed",
            "concurrency": rows["concurrency"],
            "ttft_ms_mean": rows["silicon_ttft_ms"].round(4),
            "itl_ms_mean": rows["silicon_tpot_ms"].round(5),
            "run_id": rows["id"],
        }
    )
    usual = {"ep": 1, "moe_dtype": ""}
    return told.drop(columns=[name for name, value in usual.items() if (told[name] == value).all()])


def meant_for(models: str, info: Mapping[str, object]) -> dict[str, object]:
    """What ``campaign.toml`` says, and where ``models`` asks for more than dense ones, for which latency model."""
    return {**info, "latency_models": [OF_2026]} if models else dict(info)


def in_order(serving: pd.DataFrame) -> pd.DataFrame:
    """The load points by engine, model, weight type, degree, lengths and concurrency."""
    lengths = ["input_tokens_mean", "output_tokens_mean"]
    shared = ["ep"] if "ep" in serving else []
    return serving.sort_values(["engine", "model", "dtype", "tp", *shared, *lengths, "concurrency"])


def _refuse(
    rows: pd.DataFrame, bad: "pd.Series[bool]", column: str, example: str, path: Path
) -> None:
    for line, cell in zip(rows["line"][bad], rows[column][bad], strict=True):
        said = "" if pd.isna(cell) else str(cell)[:80]
        raise ImportFormatError(
            f"{path}:{line}: {column} = {said!r} must say a number, as {example} does"
        )
