"""Publishes what a watch confirms or finds as versioned profiles, one for each engine."""

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calibrate.outcome.profiles import (
    SCHEMA_VERSION,
    Found,
    Profile,
    ProfiledParameter,
    latest_profile,
    update_profile,
    write_profile,
)
from calibrate.outcome.result import FitResult
from calibrate.records.distribution import VERSION
from calibrate.watch.refit import Moved
from calibrate.watch.verdicts import EARLIEST_DATE, kind_of
from calibrate.watch.watched import Change, Watched
from sim.hardware import Hardware

_SAME = 1e-6
_UNCHANGED = "The calibration, which these steps agree with."
_PARTLY = "The calibration; what changed on a part of the fleet, or is over, is not in it."


@dataclasses.dataclass(frozen=True)
class Sources:
    """What a profile says of where it comes from: the log, the calibration, and its run where there is one."""

    source: str
    hardware: Hardware
    run: FitResult | None


def publish(found: Watched, sources: Sources, root: Path) -> list[str]:
    """Write or confirm the profile of every engine; what was done, in words.

    An engine on which a change reached all nodes gets a new profile with the refitted values. A change of some nodes
    is theirs and gives none. Where nothing changed the present profile is confirmed, or the calibration is the first.
    """
    return [_publish_engine(found, sources, root, engine) for engine in _engines(found)]


def _publish_engine(found: Watched, sources: Sources, root: Path, engine: str) -> str:
    change = _change_of(found, engine)
    latest = latest_profile(root, sources.hardware.gpu, engine)
    moved = {one.name: one for one in change.refit.moved} if change and change.refit else {}
    values = {**sources.hardware.values, **{name: one.now for name, one in moved.items()}}
    if latest is not None and _is_same(latest, values):
        return _confirmed(latest, found)
    begins = change.episode.since if change else found.begins
    profile = _profile(found, sources, engine, change, moved)
    profile = dataclasses.replace(profile, parent=str(latest.folder) if latest else found.against)
    folder = write_profile(root, profile, values, _date(begins))
    if latest is not None and latest.folder != folder and not latest.profile.valid_until:
        ended = dataclasses.replace(latest.profile, valid_until=_iso(begins))
        update_profile(latest.folder, ended)
    return f"profile {folder} is new: {profile.why}"


def _confirmed(latest: Found, found: Watched) -> str:
    until = _iso(found.ends)
    update_profile(latest.folder, dataclasses.replace(latest.profile, confirmed_until=until))
    return f"profile {latest.folder} holds: confirmed until {until}"


def _engines(found: Watched) -> list[str]:
    """The engines of judged slices; one without a name where they are not told apart."""
    if "engine" not in found.dimensions:
        return [""]
    place = found.dimensions.index("engine")
    judged = [one for one in found.slices if one.stage != "learning"]
    return list(dict.fromkeys(one.key[place] for one in judged))


def _change_of(found: Watched, engine: str) -> Change | None:
    """The last change that all nodes of an engine share and a parameter explains."""
    shared = [
        change
        for change in found.changes
        if change.refit is not None
        and not change.episode.is_over
        and kind_of(change.episode) != "node"
        and ("engine" not in found.dimensions or engine in change.episode.reached("engine"))
    ]
    return shared[-1] if shared else None


def _profile(
    found: Watched,
    sources: Sources,
    engine: str,
    change: Change | None,
    moved: Mapping[str, Moved],
) -> Profile:
    why = change.verdict.sentence if change else _UNCHANGED
    if change is None and found.changes:
        why = _PARTLY
    begins = change.episode.since if change else found.begins
    return Profile(
        schema_version=SCHEMA_VERSION,
        gpu=sources.hardware.gpu,
        engine=engine,
        latency_model=found.latency_model,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        calibrate=VERSION,
        source=sources.source,
        parent=found.against,
        why=why,
        valid_from=_iso(begins),
        valid_until="",
        confirmed_until=_iso(found.ends),
        steps=found.steps,
        parameters=_parameters(sources, moved),
        covariance=_covariance(sources, change),
    )


def _parameters(sources: Sources, moved: Mapping[str, Moved]) -> tuple[ProfiledParameter, ...]:
    """Those of the calibration, with the run's intervals, and those that moved with the refit's."""
    known = {one.name: one for one in sources.run.parameters} if sources.run else {}
    parameters = []
    for name, value in sources.hardware.values.items():
        if name in moved:
            one = moved[name]
            parameters.append(ProfiledParameter(name, one.now, one.stderr, one.ci90))
        elif name in known:
            fitted = known[name]
            parameters.append(ProfiledParameter(name, value, fitted.stderr, fitted.ci90))
        else:
            parameters.append(ProfiledParameter(name, value))
    return tuple(parameters)


def _covariance(sources: Sources, change: Change | None) -> dict[str, dict[str, float]]:
    """The run's, in which what moved has the refit's own and no share in the others'."""
    own = change.refit.covariance if change and change.refit else {}
    known = sources.run.fit.covariance if sources.run else {}
    kept = {
        name: {other: value for other, value in row.items() if other not in own}
        for name, row in known.items()
        if name not in own
    }
    return {**kept, **own}


def _is_same(latest: Found, values: Mapping[str, float]) -> bool:
    """Whether a profile holds these values, as far as a fit tells them apart."""
    known = {one.name: one for one in latest.profile.parameters}
    return known.keys() == values.keys() and all(
        abs(known[name].value - value) <= max(_SAME * abs(value), known[name].stderr or 0.0)
        for name, value in values.items()
    )


def _iso(at: float) -> str:
    if not np.isfinite(at):
        return ""
    if at < EARLIEST_DATE:
        return f"step {at:.0f}"
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")


def _date(at: float) -> str:
    """The name of a profile's folder: when it begins to hold, or now where the log has no times."""
    moment = datetime.datetime.now(datetime.UTC)
    if np.isfinite(at) and at >= EARLIEST_DATE:
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return moment.strftime("%Y-%m-%d-%H%M%S")
