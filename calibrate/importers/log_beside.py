"""The log of a vLLM server that lies beside a client's result: which file it is, and what it fills of the row."""

import re
from pathlib import Path

from calibrate.importers.run_folder import SERVER_LOG, WARNING, Row
from calibrate.importers.server import read_log
from sim.units import DTYPE_BYTES

_OF_THE_CLIENT = re.compile(r"[-_.](?:results?|benchmarks?|bench|client)$")
_OF_THE_SERVER = ("{}", *(f"{{}}{mark}{who}" for who in ("server", "vllm") for mark in "-_."))
_OF_THE_FOLDER = ("vllm.log", "server.log")


def log_beside(result: Path) -> Path | None:
    """The log of a result's name (``a.log``, ``a-server.log`` of ``a.json``, ``a-result.json``), or of its folder."""
    stems = dict.fromkeys([result.stem, _OF_THE_CLIENT.sub("", result.stem)])
    names = [f"{form.format(stem)}.log" for stem in stems for form in _OF_THE_SERVER]
    logs = [result.parent / name for name in (*names, *_OF_THE_FOLDER)]
    return next((log for log in logs if log != result and log.is_file()), None)


def with_server_log(row: Row, result: Path) -> Row:
    """The row with what the log beside its result says in the columns that it leaves open.

    A log that says otherwise of the row is passed over with a warning: it may be another run's. Raises
    ImportFormatError if the log cannot be read, or says that the server was no single engine.
    """
    log = log_beside(result)
    said = read_log(log) if log else {}
    if log is None or "engine" not in said:
        return row
    said.pop("prefix_hit_rate", None)
    other = [name for name, value in said.items() if not _takes(row, name, value)]
    if other:
        columns = ", ".join(f"{name} {said[name]} (here {row[name]})" for name in other)
        text = f"{log.name} beside it says {columns}: it is passed over; remove it, or correct the result"
        return {**row, WARNING: "; ".join(filter(None, [str(row.get(WARNING, "")), text]))}
    return {**row, **said, SERVER_LOG: log.name}


def _takes(row: Row, column: str, value: object) -> bool:
    """Whether the row leaves the column open for ``value``, or holds it."""
    own = row.get(column)
    if own in (None, "", value):
        return True
    if column == "dtype":  # a scheme of quantization leaves the type open
        return own not in DTYPE_BYTES
    return column == "engine" and str(value).startswith(f"{own} ")
