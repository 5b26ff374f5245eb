"""roofline-v1 against the reference implementation's vectors and against its own finite differences."""

import json

import numpy as np
import pytest

from sim import (
    Architecture,
    ArchitectureError,
    Batch,
    HardwareError,
    StepTable,
    latency_model,
    load_architecture,
    load_hardware,
)
from sim.models.roofline_v1.model import RooflineV1
from tests.conftest import DATA, GUIDE_H100

CASES = json.loads((DATA / "roofline_v1_golden.json").read_text())


def architecture_of(case):
    model = case["model"]
    return Architecture(
        name=case["model_name"],
        num_layers=model["num_hidden_layers"],
        hidden_size=model["hidden_size"],
        num_heads=model["num_attention_heads"],
        num_kv_heads=model["num_key_value_heads"],
        intermediate_size=model["intermediate_size"],
        vocab_size=model["vocab_size"],
        bytes_per_param=model["bytes_per_param"],
    )


def batch_of(case):
    return Batch.from_requests(
        prefill=[(r["context"], r["new_tokens"], r.get("count", 1)) for r in case["prefill"]],
        decode=[(r["context"], r.get("count", 1)) for r in case["decode"]],
    )


def test_every_golden_vector_by_request_lists():
    model = latency_model("roofline-v1")
    got = [
        model.step_time_us(
            batch_of(c), architecture_of(c), load_hardware(c["hardware"]), tp=c["tp"]
        )
        for c in CASES
    ]
    np.testing.assert_allclose(got, [c["expected_us"] for c in CASES], rtol=1e-9)


def test_every_golden_vector_by_one_mixed_table():
    table = StepTable.from_batches(
        [batch_of(c) for c in CASES], [architecture_of(c) for c in CASES], [c["tp"] for c in CASES]
    )
    model, checked = RooflineV1(), 0
    for hardware in {json.dumps(c["hardware"]) for c in CASES}:
        rows = [i for i, c in enumerate(CASES) if json.dumps(c["hardware"]) == hardware]
        got = model.predict_us(table, load_hardware(json.loads(hardware)))[rows]
        np.testing.assert_allclose(got, [CASES[i]["expected_us"] for i in rows], rtol=1e-9)
        checked += len(rows)
    assert checked == len(CASES) == 500


def mixed_table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    prefill = rng.integers(0, 6, rows)
    decode = rng.integers(0, 300, rows)
    return StepTable.from_columns(
        {
            "model": rng.choice(["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"], rows),
            "tp": rng.choice([1, 2, 4, 8], rows),
            "num_prefill_requests": prefill,
            "sum_prefill_tokens": prefill * rng.integers(1, 4000, rows),
            "sum_prefill_kv_tokens": prefill * rng.integers(0, 900, rows),
            "num_decode_requests": decode * rng.integers(0, 2, rows),
            "sum_decode_kv_tokens": decode * rng.integers(1, 4000, rows),
        }
    )


@pytest.mark.parametrize("per_layer", [False, True])
def test_the_closed_form_jacobian_is_the_derivative(h100, per_layer):
    table = mixed_table()
    model = RooflineV1(per_layer_overhead=per_layer)
    hardware = h100.with_values(
        {"prefillBwFactor": 0.9, "decodeBwFactor": 0.85, "mfuDecodeMultiplier": 1.1}
    )
    names = RooflineV1.parameter_names
    value, jacobian = model.predict_with_jacobian_us(table, hardware, names)
    np.testing.assert_allclose(value, model.predict_us(table, hardware), rtol=1e-12)
    here = model.parameters(hardware)
    for column, name in zip(jacobian.T, names, strict=True):
        step = 1e-6 * here[name]
        up = model.predict_us(table, hardware.with_values({name: here[name] + step}))
        down = model.predict_us(table, hardware.with_values({name: here[name] - step}))
        np.testing.assert_allclose(
            column, (up - down) / (2 * step), rtol=2e-5, atol=1e-5 * value.max()
        )
    moved = set(np.array(names)[np.abs(jacobian).max(axis=0) > 0])
    assert moved == set(names) - (set() if per_layer else {"perLayerOverhead"})


def test_what_one_model_on_one_gpu_can_show(h100):
    """One model, TP 1, decode batch up to 32 shows 7 of the 15 parameters; TP 1/2/4 and batch 256 shows 11."""

    def rank(tps, batches):
        prefill = [(tp, n, q, 0, 0) for tp in tps for n in (1, 2, 4) for q in (64, 512, 2048, 8192)]
        decode = [(tp, 0, 0, n, s) for tp in tps for n in batches for s in (128, 1024, 8192)]
        mixed = [
            (tp, n, q, 40 * n, s)
            for tp in tps
            for n in (1, 2)
            for q in (64, 900)
            for s in (128, 4096)
        ]
        tp, count, tokens, decodes, context = np.array(prefill + decode + mixed).T
        table = StepTable.from_columns(
            {
                "model": ["llama-3.1-8b"] * len(tp),
                "tp": tp,
                "num_prefill_requests": count,
                "sum_prefill_tokens": count * tokens,
                "num_decode_requests": np.minimum(decodes, max(batches)),
                "sum_decode_kv_tokens": np.minimum(decodes, max(batches)) * context,
            }
        )
        value, jacobian = RooflineV1().predict_with_jacobian_us(
            table, h100, RooflineV1.parameter_names
        )
        start = np.array([RooflineV1().parameters(h100)[n] for n in RooflineV1.parameter_names])
        return np.linalg.matrix_rank(jacobian * start / value[:, None], tol=1e-8)

    assert rank([1], [1, 4, 16, 32]) == 7
    assert rank([1, 2, 4], [1, 4, 16, 64, 256]) == 11


def test_a_model_it_cannot_count_is_an_error_not_a_number(h100):
    batch = Batch.from_requests(decode=[(100, 4)])
    for name in ("mixtral-8x7b", "deepseek-v3"):
        with pytest.raises(ArchitectureError, match=f"roofline-v1 cannot compute {name}"):
            RooflineV1().step_time_us(batch, load_architecture(name), h100)


def test_its_limits_are_said_in_words():
    assert "80" in RooflineV1().limits(load_architecture("qwen3-32b"))[0]
    assert "MLP matrices" in RooflineV1().limits(load_architecture("bloom-176b"))[0]
    assert RooflineV1().limits(load_architecture("llama-3.1-8b")) == []


@pytest.mark.parametrize(
    "key", ["TFlopsPeak", "BwPeakTBs", "BwEffConstant", "mfuPrefill", "mfuDecode"]
)
def test_a_missing_or_zero_required_key_has_the_guides_message(key):
    for block in ({**GUIDE_H100, key: 0}, {k: v for k, v in GUIDE_H100.items() if k != key}):
        with pytest.raises(
            HardwareError, match=f"{key} must be a valid positive number, got 0.*H100"
        ):
            RooflineV1().parameters(load_hardware({"H100": block}))


def test_missing_optional_keys_take_the_guides_defaults(h100):
    required = {
        k: GUIDE_H100[k]
        for k in ("TFlopsPeak", "BwPeakTBs", "BwEffConstant", "mfuPrefill", "mfuDecode")
    }
    assert RooflineV1().parameters(load_hardware({"H100": required})) == RooflineV1().parameters(
        h100
    )


def test_an_empty_step_costs_the_overheads_only(h100):
    arch = load_architecture("llama-3.1-8b")
    assert RooflineV1().step_time_us(Batch.from_requests(), arch, h100) == 50.0
    assert RooflineV1().step_time_us(Batch.from_requests(), arch, h100, tp=2) == 50.0 + 2 * 32 * 20


def test_regimes_name_what_bounds_a_step(h100):
    arch = load_architecture("llama-3.1-8b")
    batches = [
        Batch.from_requests(prefill=[(0, 8192)]),
        Batch.from_requests(decode=[(2000, 1)]),
        Batch.from_requests(),
    ]
    table = StepTable.from_batches(batches, [arch] * 3, [1, 1, 1])
    assert RooflineV1().regimes(table, h100).tolist() == ["compute", "memory", "host"]
    slow = StepTable.from_batches(batches[1:2], [arch], [8])
    assert RooflineV1().regimes(slow, h100.with_values({"allReduceLatency": 90})).tolist() == [
        "communication"
    ]
