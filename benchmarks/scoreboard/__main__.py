"""Score every data set, write the page, its pictures and the figures."""

import argparse
import datetime
import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib

import benchmarks.scoreboard
from benchmarks.accuracy.datasets import ROOT
from benchmarks.scoreboard import aisimulate
from benchmarks.scoreboard.divergences import divergences
from benchmarks.scoreboard.page import page
from benchmarks.scoreboard.picture import draw
from benchmarks.scoreboard.servers import Server, shared_servers, shipped_servers
from benchmarks.scoreboard.treatments import (
    TUNED,
    UNTUNED,
    Measured,
    errors,
    errors_by_model,
    measure,
    terms_elsewhere,
    tuned_elsewhere,
)
from calibrate.records.distribution import DISTRIBUTION, VERSION
from sim.steps.batch import Floats


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.scoreboard", description=benchmarks.scoreboard.__doc__
    )
    options.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "ground_truth")
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "scoreboard.md")
    options.add_argument("--jobs", type=int, default=-1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        servers = [*shared_servers(given.shared, Path(folder)), *shipped_servers()]
    parallel = joblib.Parallel(n_jobs=given.jobs)
    measured = parallel(joblib.delayed(measure)(one) for one in servers)
    both = list(zip(servers, measured, strict=True))
    terms = [terms_elsewhere(one, both) for one in servers]
    elsewhere = parallel(map(joblib.delayed(tuned_elsewhere), servers, terms))
    board = as_board(servers, measured, elsewhere)
    write(board, given.out)


def as_board(
    servers: Sequence[Server], measured: Sequence[Measured], elsewhere: Sequence[Floats | None]
) -> dict[str, Any]:
    """All that the page says, as the JSON beside it has it."""
    figures = [
        {**own.figures, "tuned elsewhere": other, **_of_tool(one)}
        for one, own, other in zip(servers, measured, elsewhere, strict=True)
    ]
    treatments = (*UNTUNED, *TUNED)
    scored = list(zip(servers, figures, strict=True))
    held = [(one, own.held) for one, own in zip(servers, measured, strict=True)]
    return {
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "software": _software(),
        "rows": [
            as_row(one, of, own.terms) for (one, of), own in zip(scored, measured, strict=True)
        ],
        "models": {
            name: errors_by_model([(one, of[name]) for one, of in scored]) for name in treatments
        },
        "divergences": divergences(held),
    }


def as_row(
    one: Server, figures: Mapping[str, Floats | None], terms: Mapping[str, float]
) -> dict[str, Any]:
    """A row of the page's tables."""
    return {
        "gpu": one.gpu,
        "campaign": one.campaign,
        "engine": one.rows.engine,
        "aside": one.is_aside,
        "runs": len(one.rows.points),
        "of": one.rows.rows,
        "errors": {name: errors(one, of) for name, of in figures.items()},
        "terms": dict(terms),
    }


def write(board: Mapping[str, Any], file: Path) -> None:
    """The page, the JSON and the pictures beside it."""
    file.with_suffix(".json").write_text(json.dumps(board, indent=1) + "\n", encoding="utf-8")
    file.write_text("\n".join(page(board)) + "\n", encoding="utf-8")
    for name, treatments in (("untuned", UNTUNED), ("tuned", TUNED)):
        draw(board["rows"], treatments, file.with_name(f"{file.stem}-{name}.png"))


def _of_tool(one: Server) -> dict[str, Floats]:
    tool = aisimulate.command()
    return {"AISimulate": aisimulate.figures_ms(one, tool)} if tool else {}


def _software() -> dict[str, str]:
    names = ("numpy", "scipy", "numba", "lmfit")
    packages = {name: importlib.metadata.version(name) for name in names}
    return {DISTRIBUTION: VERSION, "Python": platform.python_version(), **packages}


if __name__ == "__main__":
    main()
