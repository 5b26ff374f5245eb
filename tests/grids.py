"""Full factorial campaigns as people write them, to hold planned ones against, and how well a campaign does."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from calibrate.campaign.campaign import Campaign, CampaignInfo
from calibrate.fitting.identifiability import choose_free, sensitivity
from calibrate.fitting.objective import MODEL_FLOOR, Dataset, build_dataset
from calibrate.fitting.problem import Problem
from calibrate.fitting.search import fit_staged
from sim import Hardware, StepTable
from sim.models.registry import PARAMETERS
from sim.models.roofline_v1.model import RooflineV1
from tests.conftest import ROOT

MODELS = ("llama-3.1-8b", "llama-2-13b")
MOST_TOKENS = 16384

_MODEL = RooflineV1()
FREE = tuple(
    name
    for name, p in PARAMETERS.items()
    if name in _MODEL.parameter_names and p.tied_to is None and name != "perLayerOverhead"
)
_COUNTS = (
    "num_prefill_requests",
    "sum_prefill_tokens",
    "num_decode_requests",
    "sum_decode_kv_tokens",
)
_DECODES, _CONTEXT = 32, 1024  # beside the prompts of mixed steps


def factorial(
    models: Sequence[str],
    tps: Sequence[int],
    prefill: Iterable[tuple[int, int]],
    decode: Iterable[tuple[int, int]],
    mixed: Iterable[tuple[int, int]],
) -> pd.DataFrame:
    """Every model at every tp, with prefill and mixed steps of (prompts, length) and decode of (batch, context)."""
    steps = [(n, n * length, 0, 0) for n, length in prefill]
    steps += [(0, 0, n, n * context) for n, context in decode]
    steps += [(n, n * length, _DECODES, _DECODES * _CONTEXT) for n, length in mixed]
    rows = [(model, tp, *step) for model in models for tp in tps for step in steps]
    return pd.DataFrame(rows, columns=["model", "tp", *_COUNTS])


HAND_MADE = {
    "2 models × 4 tp × 3 phases": factorial(
        MODELS, (1, 2, 4, 8), [(4, 1024)], [(64, 1024)], [(4, 512)]
    ),
    "2 models × 2 tp × 3 phases × 2 batches": factorial(
        MODELS, (1, 8), [(1, 1024), (16, 1024)], [(8, 1024), (256, 1024)], [(1, 512), (8, 512)]
    ),
    "2 models × 2 tp × 3 phases × 2 lengths": factorial(
        MODELS, (1, 8), [(4, 128), (4, 4096)], [(256, 256), (256, 4096)], [(4, 128), (4, 2048)]
    ),
    "1 model × 2 tp × 3 phases × 2 batches × 2 lengths": factorial(
        MODELS[:1],
        (1, 8),
        itertools.product((1, 16), (128, 1024)),
        itertools.product((8, 256), (256, 4096)),
        itertools.product((1, 8), (128, 1024)),
    ),
    "1 model × 4 tp × 3 phases × 2 extremes": factorial(
        MODELS[:1],
        (1, 2, 4, 8),
        [(1, 8192), (16, 128)],
        [(8, 1024), (256, 1024)],
        [(1, 512), (8, 512)],
    ),
}
"""Grids of 24 points, by someone who knows that large decode batches and several TP degrees matter."""


def random_factorial(seed: int) -> pd.DataFrame:
    """2 models × 2 tp × 3 phases × 2 batches × 2 lengths: 48 points, levels drawn from the shipped campaigns'."""
    rng = np.random.default_rng(seed)

    def two(levels: Sequence[int]) -> list[int]:
        return sorted(rng.choice(levels, 2, replace=False).tolist())

    def prompts() -> list[tuple[int, int]]:
        while True:
            batches = two((1, 2, 4, 8, 16))
            lengths = two((128, 256, 512, 1024, 2048, 4096, 8192))
            if batches[1] * lengths[1] <= MOST_TOKENS:
                return list(itertools.product(batches, lengths))

    decode = itertools.product(
        two((1, 2, 4, 8, 16, 32, 64, 128, 256)), two((256, 512, 1024, 2048, 4096, 8192))
    )
    return factorial(MODELS, two((1, 2, 4, 8)), prompts(), decode, prompts())


def joint_half_width(steps: pd.DataFrame, truth: Hardware) -> float:
    """det(covariance of ln θ)^(1/2p), to first order at the truth, for independent errors of the model floor.

    A normal prior, 90% of it between a third and five times the guide's range, stands for what no row sees.
    """
    table = StepTable.from_columns(steps)
    ones = np.ones(len(table))
    seen = sensitivity(_MODEL, truth, Dataset(table, ones, ones, ones, steps))
    slopes = seen.matrix[:, [seen.names.index(name) for name in FREE]] / MODEL_FLOOR
    low = np.array([max(PARAMETERS[name].guide[0] / 3, PARAMETERS[name].lower) for name in FREE])
    high = np.array([min(PARAMETERS[name].guide[1] * 5, PARAMETERS[name].upper) for name in FREE])
    precision = slopes.T @ slopes + np.diag((2 * 1.645 / np.log(high / low)) ** 2)
    return float(np.exp(-np.linalg.slogdet(precision)[1] / (2 * len(FREE))))


def fit_errors(
    steps: pd.DataFrame,
    start: Hardware,
    truth: Hardware,
    noise: float,
    seed: int,
    shared: float = 0.0,
) -> np.ndarray:
    """ln(fitted/true) of every parameter after fitting noisy latencies; what stayed put counts as it stands.

    All rows of a phase, model and tp err together by ``shared``, each alone by ``noise``. A value fitted to nothing
    counts as a twentieth of the truth.
    """
    table = StepTable.from_columns(steps)
    rng = np.random.default_rng(seed)
    slice_of = pd.factorize(pd.Series(table.phases) + steps["model"] + steps["tp"].astype(str))[0]
    error = (
        noise * rng.standard_normal(len(table)) + shared * rng.standard_normal(len(table))[slice_of]
    )
    latency = _MODEL.predict_us(table, truth) * np.exp(error)
    numbers = np.arange(len(table))
    frame = steps.assign(latency_us=latency, run_id=numbers.astype(str), line=numbers + 2)
    data = build_dataset([Campaign("fit", truth.gpu, ROOT, CampaignInfo(), frame, table, (), ())])
    free = choose_free(sensitivity(_MODEL, start, data), _MODEL.parameters(start), [], []).free
    values = {
        **_MODEL.parameters(start),
        **fit_staged(Problem(_MODEL, start, data, free, "linear")).values,
    }
    return np.array([np.log(max(values[name] / truth.values[name], 0.05)) for name in FREE])


def error_ratio(worse: np.ndarray, better: np.ndarray) -> float:
    """Geometric mean over parameters of the ratio of root mean square errors; each (truths, parameters)."""
    rms = [np.sqrt((errors**2).mean(axis=0)) for errors in (worse, better)]
    return float(np.exp(np.log(rms[0] / rms[1]).mean()))
