"""A campaign to fill in: tables that have their header and no row, and a ``campaign.toml`` that explains each key."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from calibrate.campaign.folders import refuse_full_folder
from calibrate.campaign.info import CampaignInfo
from calibrate.records.files import replace_text
from calibrate.records.folders import replaced_folder
from calibrate.records.meanings import MEANINGS
from calibrate.records.schema import TABLES
from calibrate.records.toml_text import toml_text

TEMPLATE_COLUMNS = {
    "steps": (
        *("model", "tp", "dtype", "num_prefill_requests", "sum_prefill_tokens"),
        *("sum_prefill_kv_tokens", "num_decode_requests", "sum_decode_kv_tokens"),
        *("latency_us", "run_id"),
    ),
    "serving": (
        *("model", "tp", "dtype", "engine", "load", "concurrency", "request_rate", "num_requests"),
        *("failed_requests", "input_tokens_mean", "input_tokens_std", "output_tokens_mean"),
        *("output_tokens_std", "max_num_batched_tokens", "max_num_seqs", "kv_cache_tokens"),
        *("ttft_ms_mean", "itl_ms_mean", "e2e_ms_mean", "requests_per_s", "run_id"),
    ),
}
"""The columns that most campaigns have, by table; docs/campaigns.md has all of them."""

_ROW_IS = {"steps": "one measured engine step", "serving": "one load point of a server"}
_WIDTH = 100


def write_template(folder: Path, gpu: str) -> list[Path]:
    """Make the folder with a table to fill in for steps and for serving, and ``campaign.toml``; return their paths.

    Raises CalibrateError for a folder that holds something, and for what cannot be written.
    """
    texts = {
        "campaign.toml": info_template(folder.name, gpu),
        **{f"{table}.csv": table_template(table) for table in TEMPLATE_COLUMNS},
    }
    with replaced_folder(folder) as new:
        refuse_full_folder(folder)
        for name, text in texts.items():
            replace_text(new / name, text)
    return [folder / name for name in texts]


def table_template(table: str) -> str:
    """A table's header, below comments that explain its columns and name those that it could have besides."""
    columns = TEMPLATE_COLUMNS[table]
    others = [name for one in MEANINGS[table] for name in one.names if name not in columns]
    comments = [
        f"One row is {_ROW_IS[table]}. Add rows below the header; remove this file if there are none.",
        *_explained(table, columns),
        f"Columns that are not required may be left out; there are also {', '.join(others)}.",
    ]
    lines = [line for text in comments for line in _comment(text)]
    return "\n".join([*lines, ",".join(columns)]) + "\n"


def info_template(name: str, gpu: str) -> str:
    """A ``campaign.toml`` with every key explained; those that need a value of another kind are commented out."""
    values = {"title": name, "hardware": gpu}
    lines: list[str] = []
    for key, field in CampaignInfo.model_fields.items():
        value = values.get(key, field.default)
        is_open = value is None or isinstance(value, tuple)
        line = f"{key} = {field.examples[0] if field.examples else ''}"
        lines += _comment(str(field.description))
        lines += [f"# {line}" if is_open else toml_text({key: value}).rstrip(), ""]
    return "\n".join(lines)


def _explained(table: str, columns: Sequence[str]) -> Iterator[str]:
    """A line for each column, with its unit and what it means."""
    required = {column.name for column in TABLES[table] if column.required}
    for one in MEANINGS[table]:
        for name in (name for name in one.names if name in columns):
            about = [one.unit] if one.unit not in ("", "–") else []
            about += ["required"] if name in required else []
            note = f" ({', '.join(about)})" if about else ""
            yield f"{name}{note}: {one.text}"


def _comment(text: str) -> list[str]:
    """The text as comments of CSV and TOML."""
    plain = text.replace("`", "")
    return textwrap.wrap(plain, _WIDTH, initial_indent="# ", subsequent_indent="#   ")
