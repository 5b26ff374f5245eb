"""``calibrate watch``: whether the steps of a fleet still take what its calibration predicts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from calibrate.cli.choices import LATENCY_MODELS, complete_latency_model, listed
from calibrate.cli.console import GpuOption, JsonOption, print_json, split_names
from calibrate.cli.output import check_output, words_beside

if TYPE_CHECKING:
    from calibrate.watch.calibrated import Calibrated
    from calibrate.watch.session import Session

_EXIT_DRIFT = 3
_BY = "node,engine,model"

_Source = Annotated[
    str,
    typer.Argument(
        metavar="LOG_OR_DATASET",
        help="A log of Forward Pass Metrics, a table of steps (CSV, Parquet), or a folder of them, also by "
        "node=…/engine=…/ keys; or the URL of one (s3://…).",
        show_default=False,
    ),
]
_Against = Annotated[
    Path,
    typer.Option(
        "--against",
        metavar="FILE|RUN",
        help="What steps are held against: a configuration, the folder of a run, or a profile.",
        show_default=False,
    ),
]
_Window = Annotated[
    int, typer.Option("--window", min=100, max=1_000_000, help="Steps of a window.")
]
_ByOption = Annotated[
    str, typer.Option("--by", metavar="LABELS", help="What divides steps: node, engine, model, tp.")
]
_Reference = Annotated[
    Literal["log", "run"],
    typer.Option(
        help="What is usual: each slice's first ten windows, or the run's own residuals on its steps."
    ),
]
_Follow = Annotated[bool, typer.Option("--follow", help="Go on as the log grows, until Ctrl-C.")]
_Idle = Annotated[
    float | None,
    typer.Option("--idle", min=0, help="With --follow: end when nothing came for so many seconds."),
]
_State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="FILE",
        help="Where to go on from and to keep what is known; watch-GPU.npz with --follow.",
    ),
]
_FalseAlarms = Annotated[
    float,
    typer.Option(
        "--false-alarms", help="Chance of any false alarm in a day, of 10,000,000 steps a slice."
    ),
]
_ExitOn = Annotated[
    Literal["drift"] | None,
    typer.Option("--exit-on", help="drift: exit with 3 if there is an alarm; with --follow, then."),
]
_Model = Annotated[str | None, typer.Option("--model", help="Model, where the log does not say.")]
_Tp = Annotated[int | None, typer.Option("--tp", min=1, max=4096, help="TP degree, likewise.")]
_Dtype = Annotated[str | None, typer.Option("--dtype", help="Weight type, likewise.")]
_Engine = Annotated[str | None, typer.Option("--engine", help="Engine's name, likewise.")]
_LatencyModel = Annotated[
    str | None,
    typer.Option(
        "--latency-model",
        help=f"Latency model of a configuration file: {listed(LATENCY_MODELS[:3])}; roofline-v1 without it.",
        metavar="NAME",
        autocompletion=complete_latency_model,
    ),
]
_Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a page to this file.")
]
_Publish = Annotated[
    Path | None,
    typer.Option(
        "--publish", metavar="DIR", help="Keep dated profiles here, <GPU>/<engine>/<date>/."
    ),
]


def command(
    source: _Source,
    gpu: GpuOption,
    against: _Against,
    window: _Window = 1000,
    by: _ByOption = _BY,
    reference: _Reference = "log",
    follow: _Follow = False,
    idle: _Idle = None,
    state: _State = None,
    false_alarms: _FalseAlarms = 0.01,
    exit_on: _ExitOn = None,
    model: _Model = None,
    tp: _Tp = None,
    dtype: _Dtype = None,
    engine: _Engine = None,
    latency_model: _LatencyModel = None,
    html: _Html = None,
    publish: _Publish = None,
    json: JsonOption = False,
) -> None:
    """Watch measured steps against a calibration: drift by node, engine, model and phase, and what moved."""
    labels = _labels(by)
    if not 0 < false_alarms < 1:
        raise typer.BadParameter(
            f"{false_alarms:g}: give a chance between 0 and 1, such as 0.01",
            param_hint="--false-alarms",
        )
    from calibrate.records.reading.places import is_url
    from calibrate.watch.calibrated import read_calibrated
    from calibrate.watch.labels import Said
    from calibrate.watch.remote import RemoteStream
    from calibrate.watch.session import Session
    from calibrate.watch.slices import Settings
    from calibrate.watch.stream import Stream
    from calibrate.watch.watch import Watch
    from sim.models.registry import latency_model as find_model

    if html is not None:
        check_output(html, json=json)
    calibrated = read_calibrated(against, gpu)
    chosen = find_model(_model_of(calibrated, latency_model))
    watch = Watch(chosen, calibrated.hardware, labels, Settings(window, false_alarms))
    if reference == "run":
        watch.given = calibrated.references(watch.served)
    said = Said(model, tp, dtype, engine)
    stream = (
        RemoteStream(source, said, follow=follow)
        if is_url(source)
        else Stream(Path(source), said, follow=follow)
    )
    if state is None and follow:
        state = Path(f"watch-{calibrated.hardware.gpu}.npz")
    session = Session(watch, stream, calibrated, state, publish)
    session.resume()
    try:
        if follow:
            _follow(session, idle, json=json, until_drift=exit_on is not None)
        else:
            session.take_all()
    finally:
        session.close()
    _tell(session, html, json=json, follow=follow)
    if exit_on is not None and session.found.has_drifted:
        raise typer.Exit(_EXIT_DRIFT)


def _labels(by: str) -> tuple[str, ...]:
    from calibrate.watch.rows import LABELS

    labels = tuple(dict.fromkeys(split_names([by])))
    unknown = [name for name in labels if name not in LABELS]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r}: steps are divided by {', '.join(LABELS)}, and always by phase",
            param_hint="--by",
        )
    return labels


def _model_of(calibrated: "Calibrated", given: str | None) -> str:
    """The calibration's latency model; the given one for a file, which does not say."""
    from calibrate.records.errors import CalibrateError

    own = calibrated.latency_model
    if own is not None and given is not None and given != own:
        raise CalibrateError(
            f"--against {calibrated.name}: was fitted with {own}; leave --latency-model out"
        )
    return own or given or "roofline-v1"


def _follow(session: "Session", idle: float | None, *, json: bool, until_drift: bool) -> None:
    """Tell each alarm as it comes, until Ctrl-C, a first alarm that is settled, or nothing new for long enough."""
    from calibrate.cli.watched import alarm_line, show_alarm

    try:
        for change in session.follow(idle):
            if json:
                print(alarm_line(change), flush=True)
            else:
                show_alarm(words_beside(), change)
            if until_drift:
                return
    except KeyboardInterrupt:
        return


def _tell(session: "Session", html: Path | None, *, json: bool, follow: bool) -> None:
    from calibrate.cli.watched import last_line, show_watched

    found = session.found
    if html is not None:
        from calibrate.report import draw_watched

        draw_watched(found, html)
    if json and follow:
        print(last_line(found, session.published), flush=True)
    elif json:
        from calibrate.watch.as_plain import as_plain

        print_json({**as_plain(found), "published": session.published})
    else:
        show_watched(words_beside(html), found, session.published)
