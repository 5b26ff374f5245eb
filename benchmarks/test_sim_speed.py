"""Speed of the simulation core on one core, as rows a second and as a ratio to a plain pass over the same memory.

`make bench` runs these; each asserts its target, so a slowdown is seen.
"""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from sim import Hardware, MfuTable, StepTable, latency_model, load_hardware, load_mfu_table
from sim.models.roofline_v1.model import RooflineV1
from sim.models.roofline_v3.model import RooflineV3
from sim.models.roofline_v4.model import RooflineV4
from tests.conftest import DATA, GUIDE_H100

ROWS = 1_000_000
PREDICT_ROWS_PER_S = 15e6
PREDICT_V4_ROWS_PER_S = 10e6
JACOBIAN_ROWS_PER_S = 4e6
BUILD_ROWS_PER_S = 2e6
DATABASE_ROWS_PER_S = 0.5e6  # look-ups included: a table that no model has seen


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    """A million prefill, decode and mixed steps of four models on four TP degrees."""
    rng = np.random.default_rng(0)
    prefill = rng.integers(1, 8, ROWS) * (rng.random(ROWS) < 0.6)
    decode = rng.integers(1, 256, ROWS) * ((rng.random(ROWS) < 0.6) | (prefill == 0))
    return {
        "model": rng.choice(
            ["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "llama-2-13b"], ROWS
        ).astype(object),
        "tp": rng.choice([1, 2, 4, 8], ROWS),
        "num_prefill_requests": prefill,
        "sum_prefill_tokens": prefill * rng.integers(1, 4096, ROWS),
        "num_decode_requests": decode,
        "sum_decode_kv_tokens": decode * rng.integers(1, 4096, ROWS),
    }


@pytest.fixture(scope="module")
def hardware() -> Hardware:
    """The guide's H100."""
    return load_hardware({"H100": GUIDE_H100})


@pytest.fixture(scope="module")
def mfu_table() -> MfuTable:
    """The tests' database, with holes in its grids and zeros among its MFUs."""
    return load_mfu_table(DATA / "mfu_database", gpu="x100")


@pytest.fixture(autouse=True, scope="module")
def _one_core():
    with threadpool_limits(1):
        yield


def _rows_per_s(benchmark, target: float) -> None:
    rate = ROWS / benchmark.stats.stats.median
    benchmark.extra_info["million_rows_per_s"] = round(rate / 1e6, 1)
    print(f"\n{benchmark.name}: {rate / 1e6:.1f} million rows a second (target {target / 1e6:g})")
    assert rate >= target


def test_predict(benchmark, columns, hardware):
    table = StepTable.from_columns(columns)
    model = RooflineV1()
    model.predict_us(table, hardware)
    benchmark.pedantic(model.predict_us, (table, hardware), rounds=15, warmup_rounds=2)
    _rows_per_s(benchmark, PREDICT_ROWS_PER_S)


def test_predict_with_jacobian(benchmark, columns, hardware):
    table = StepTable.from_columns(columns)
    model = RooflineV1()
    arguments = (table, hardware, RooflineV1.parameter_names)
    benchmark.pedantic(model.predict_with_jacobian_us, arguments, rounds=9, warmup_rounds=1)
    _rows_per_s(benchmark, JACOBIAN_ROWS_PER_S)


def test_predict_v3(benchmark, columns, hardware):
    table = StepTable.from_columns(columns)
    model = RooflineV3()
    model.predict_us(table, hardware)
    benchmark.pedantic(model.predict_us, (table, hardware), rounds=15, warmup_rounds=2)
    _rows_per_s(benchmark, PREDICT_ROWS_PER_S)


def test_predict_v3_with_jacobian(benchmark, columns, hardware):
    table = StepTable.from_columns(columns)
    model = RooflineV3()
    arguments = (table, hardware, RooflineV3.parameter_names)
    benchmark.pedantic(model.predict_with_jacobian_us, arguments, rounds=9, warmup_rounds=1)
    _rows_per_s(benchmark, JACOBIAN_ROWS_PER_S)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-235b-a22b", "gpt-oss-120b"])
def test_predict_v4(benchmark, columns, hardware, name):
    table = StepTable.from_columns({**columns, "model": np.full(ROWS, name, dtype=object)})
    model = RooflineV4()
    model.predict_us(table, hardware)
    benchmark.pedantic(model.predict_us, (table, hardware), rounds=15, warmup_rounds=2)
    _rows_per_s(benchmark, PREDICT_V4_ROWS_PER_S)


def test_build_table(benchmark, columns):
    benchmark.pedantic(StepTable.from_columns, (columns,), rounds=9, warmup_rounds=1)
    _rows_per_s(benchmark, BUILD_ROWS_PER_S)


@pytest.mark.parametrize("name", ["roofline-v2", "roofline-v2-interp"])
def test_predict_with_look_ups(benchmark, columns, hardware, mfu_table, name):
    table = StepTable.from_columns(columns)
    model = latency_model(name, mfu_table=mfu_table)
    everything = np.arange(len(table))

    def unseen_table():
        return (table.take(everything), hardware), {}

    benchmark.pedantic(model.predict_us, setup=unseen_table, rounds=5, warmup_rounds=1)
    _rows_per_s(benchmark, DATABASE_ROWS_PER_S)
