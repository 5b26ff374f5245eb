"""What one GPU's fitted values are worth on another, without a fit there."""

import dataclasses
from collections.abc import Sequence

from benchmarks.accuracy.evaluation import Evaluation, SliceErrors, guide_hardware, predict_errors
from sim.models.registry import PARAMETERS

DIMENSIONLESS = "–"
"""The unit of a share or an exponent: what might be alike on GPUs of other peaks."""


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Errors on ``target`` with all fitted values of ``source``, and with its shares and exponents only."""

    source: Evaluation
    target: Evaluation
    everything: SliceErrors
    shares: SliceErrors


def transfers(
    evaluations: Sequence[Evaluation], source: str, models: Sequence[str]
) -> list[Transfer]:
    """From the data set ``source`` to every other, for each of the models fitted to both."""
    fitted = [
        one for one in evaluations if one.result is not None and one.contender.label in models
    ]
    sources = {one.contender.label: one for one in fitted if one.data.name == source}
    targets = [one for one in fitted if one.data.name != source and one.contender.label in sources]
    return [_transfer(sources[target.contender.label], target) for target in targets]


def _transfer(source: Evaluation, target: Evaluation) -> Transfer:
    assert source.result is not None
    values = source.result.values
    start = guide_hardware(target.data.gpu, target.contender.model)
    shares = {
        name: value for name, value in values.items() if PARAMETERS[name].unit == DIMENSIONLESS
    }
    campaign = target.data.load(start)
    everything, some = (
        predict_errors(campaign, target.contender, start.with_values(carried))
        for carried in (values, shares)
    )
    return Transfer(source, target, everything, some)
