"""Says in words what the data can see of each parameter, and what to measure where it sees nothing."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from calibrate.fitting.identifiability import Sensitivity, sensitivity
from calibrate.fitting.objective import Dataset
from calibrate.trust.thresholds import BARELY_VISIBLE, LEAST_SHARE, MOST_GROUPS, VISIBLE
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.models.parameter import Parameter
from sim.models.registry import parameter_in
from sim.steps.batch import Floats, StepTable

_BATCHES = tuple(2**k for k in range(11))
_LENGTHS = tuple(2**k for k in range(5, 17))
_CONTEXT = 512
_DEGREES = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Informant:
    """A group of ``n`` rows and its ``share`` of what the data knows of a parameter."""

    rows: str
    n: int
    share: float


def row_groups(model: LatencyModel, hardware: Hardware, data: Dataset) -> pd.Series:
    """The group of every row: its phase, its tp and the side of the roofline it is on, as ``decode tp 1, memory``."""
    regime = pd.Series(model.regimes(data.table, hardware))
    return data.frame["phase"].astype(str) + " tp " + data.frame["tp"].astype(str) + ", " + regime


def informants(
    seen: Sensitivity, groups: pd.Series, free: Sequence[str]
) -> dict[str, tuple[Informant, ...]]:
    """By free parameter, the row groups that determine it, the weightiest first."""
    sizes = {str(group): int(n) for group, n in groups.value_counts().items()}
    found = {}
    for name in free:
        share = (
            pd.Series(seen.information(name, free))
            .groupby(groups.to_numpy())
            .sum()
            .sort_values(ascending=False)
        )
        shares = {str(group): float(part) for group, part in share.iloc[:MOST_GROUPS].items()}
        found[name] = tuple(
            Informant(group, sizes[group], round(part, 4))
            for group, part in shares.items()
            if part >= LEAST_SHARE
        )
    return found


def why_fitted(found: Sequence[Informant]) -> str:
    """Which rows determine a parameter: ``62% from decode tp 1, memory (40 rows), …``."""
    return ", ".join(
        f"{one.share:.0%} from {one.rows} ({one.n} row{'s' if one.n > 1 else ''})" for one in found
    )


def why_inert(name: str, model: LatencyModel, hardware: Hardware, data: Dataset) -> str:
    """Why no row sees a parameter, and the cheapest step that would."""
    known = parameter_in(model, name)
    values = model.parameters(hardware)
    value = values[name]
    if known.zero == "off" and value == 0:
        return f"0 switches it off; to fit it, start above 0 (--spec {name}={known.guide[1]:g})"
    if known.replaced_by is not None and values[known.replaced_by] > 0:
        return f"{known.replaced_by} takes its place; it stays at {value:g}"
    point = _cheapest_point(name, model, hardware, data)
    if point is None:
        return f"{_seen_in(known)}; it stays at {value:g}"
    lacks = f"no row of this data is {_lacking(known, data)}" if known.lacking else _seen_in(known)
    return f"{lacks}; it stays at {value:g}. Measure {point} to see it"


def _seen_in(known: Parameter) -> str:
    return known.seen_in if known.tied_to else f"seen in {known.seen_in}"


def _lacking(known: Parameter, data: Dataset) -> str:
    moments = data.table.moments
    largest = {
        "largest batch": moments[6].max(),
        "most tokens in a step": (moments[1] + moments[3]).max(),
        "largest tp": data.table.tp.max(),
    }
    extreme = largest.get(known.extreme)
    return f"{known.lacking} ({known.extreme}: {extreme:,.0f})" if extreme else known.lacking


def _cheapest_point(
    name: str, model: LatencyModel, hardware: Hardware, data: Dataset
) -> str | None:
    """The plainest, then quickest, step of the data's first model that shows a parameter; of its degrees if any can."""
    candidates = _candidates()
    table = StepTable.from_columns(candidates, lambda _, __: data.table.architectures[0])
    within = ~model.beyond(table)
    candidates = candidates[within]
    table = table.take(within)
    trial = dataclasses.replace(data, table=table, weight=np.ones(len(table)))
    seen = sensitivity(model, hardware, trial)
    size: Floats = np.abs(seen.logs[:, seen.names.index(name)])
    visible = size >= max(min(VISIBLE, size.max() / 2), BARELY_VISIBLE)
    good = candidates[visible].assign(time_us=model.predict_us(table, hardware)[visible])
    if good.empty:
        return None
    good["elsewhere"] = ~good["tp"].isin(data.table.tp)
    best = good.sort_values(["elsewhere", "kind", "tp", "time_us"], kind="stable").iloc[0]
    return f"{best['words']} at tp {best['tp']}" if best["elsewhere"] else str(best["words"])


def _candidates() -> pd.DataFrame:
    """Steps of one model: decodes by batch, prompts by length, batches of short prompts, prompts beside decodes."""
    steps = [
        *((0, 0, 0, b, f"decode at batch {b:,} or more" if b > 1 else "decode") for b in _BATCHES),
        *((1, 1, n, 0, f"a prompt of {n:,} tokens or more") for n in _LENGTHS),
        *((2, b, 32, 0, f"{b:,} prompts of 32 tokens in a step, or more") for b in _BATCHES[1:]),
        *(
            (3, b, 64, 16, f"{b} prompt{'s' if b > 1 else ''} of 64 tokens beside 16 decodes")
            for b in (1, 4, 16)
        ),
    ]
    rows = [
        (kind, "any", tp, prompts, prompts * new, decodes, decodes * _CONTEXT, words)
        for kind, prompts, new, decodes, words in steps
        for tp in _DEGREES
    ]
    names = [
        "kind",
        "model",
        "tp",
        "num_prefill_requests",
        "sum_prefill_tokens",
        "num_decode_requests",
    ]
    return pd.DataFrame(rows, columns=[*names, "sum_decode_kv_tokens", "words"])
