"""Keys and values cached in another type than the weights."""

import numpy as np
import pandas as pd
import pytest

from sim import ArchitectureError, Hardware, StepTable, latency_model, load_architecture
from sim.serving.engine import kv_cache_tokens
from sim.steps.work import minimum_work

LLAMA = load_architecture("llama-3.1-8b")
CACHED_VALUES = 2 * 32 * 8 * 128  # keys and values of a token: layers, heads, head dimension
H100 = Hardware("H100", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, "MemoryGiB": 80})
ENGINE = {
    "gemmMfu": 0.8,
    "attentionMfu": 0.5,
    "weightBwFraction": 0.9,
    "kvBwFraction": 0.8,
    "allReduceBwGBps": 300.0,
}
GUIDE = {
    "BwEffConstant": 0.72,
    "TOverheadMicros": 50.0,
    "perLayerOverhead": 5.0,
    "mfuPrefill": 0.65,
    "mfuDecode": 0.12,
    "allReduceLatency": 20.0,
}


def decodes(**columns):
    batch = {"num_decode_requests": [64.0], "sum_decode_kv_tokens": [524288.0]}
    return StepTable.from_columns({"model": ["llama-3.1-8b"], "tp": [1.0], **batch, **columns})


@pytest.mark.parametrize(
    ("kv_dtype", "weights", "bytes_"),
    [
        ("", "bf16", 2.0),
        ("bf16", "bf16", 2.0),
        ("fp8", "bf16", 1.0),
        ("int8", "bf16", 1.0),
        ("fp16", "fp8", 2.0),
        ("", "fp8", 1.0),
    ],
)
def test_the_least_traffic_counts_the_cache_by_its_own_type(kv_dtype, weights, bytes_):
    work = minimum_work(decodes(dtype=[weights], kv_dtype=[kv_dtype]))
    read = LLAMA.with_dtype(weights).active_weight_bytes
    assert work.bytes == pytest.approx([read + bytes_ * CACHED_VALUES * 524288])


@pytest.mark.parametrize(("name", "values"), [("roofline-v1", GUIDE), ("roofline-v3", ENGINE)])
def test_latency_models_read_half_as_much_of_an_fp8_cache(name, values):
    model, hardware = latency_model(name), H100.with_values(values)
    plain, stated, halved = (
        model.predict_us(decodes(kv_dtype=[kv_dtype]), hardware) for kv_dtype in ("", "bf16", "fp8")
    )
    assert stated == pytest.approx(plain)
    half = model.predict_us(decodes(sum_decode_kv_tokens=[262144.0]), hardware)
    assert halved == pytest.approx(half, rel=0.02)  # but for the arithmetic of attention
    assert halved < 0.8 * plain


def test_rows_of_one_model_and_several_caches_stay_apart_and_come_back():
    frame = pd.DataFrame(
        {
            "model": ["llama-3.1-8b"] * 3,
            "tp": [1.0] * 3,
            "kv_dtype": ["", "fp8", "bf16"],
            "num_decode_requests": [8.0] * 3,
            "sum_decode_kv_tokens": [65536.0] * 3,
        }
    )
    table = StepTable.from_columns(frame)
    assert len(table.architectures) == 3
    columns = table.columns()
    assert columns["kv_dtype"] == ["", "fp8", "bf16"]
    again = StepTable.from_columns(columns)
    assert again.architectures == table.architectures
    np.testing.assert_array_equal(again.moments, table.moments)


def test_a_table_without_such_a_column_has_none():
    assert "kv_dtype" not in decodes().columns()


def test_twice_as_many_tokens_fit_into_an_fp8_cache():
    plain = kv_cache_tokens(LLAMA, H100, 1)
    assert kv_cache_tokens(LLAMA.with_kv_dtype("bf16"), H100, 1) == plain
    assert kv_cache_tokens(LLAMA.with_kv_dtype("fp8"), H100, 1) == pytest.approx(2 * plain, abs=1)


def test_an_unknown_type_is_named_with_the_nearest():
    with pytest.raises(ArchitectureError, match="kv_dtype 'fp9' is not known"):
        LLAMA.with_kv_dtype("fp9")
