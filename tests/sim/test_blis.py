"""The two models of BLIS against its formulas, written out for one step at a time."""

import numpy as np
import pytest

from sim import Batch, StepTable, load_architecture
from sim.errors import ArchitectureError, HardwareError
from sim.hardware import Hardware
from sim.models.blis.roofline import BlisRoofline
from sim.models.blis.trained_physics import BETAS, basis_us, check_dense

LLAMA = load_architecture("llama-3.1-8b")
FP8 = LLAMA.with_dtype("fp8")
PEAKS = {"TFlopsPeak": 1000.0, "BwPeakTBs": 3.0, "TFlopsFP8": 2000.0}
HARDWARE = Hardware("X", {**PEAKS, "mfuPrefill": 0.5, "mfuDecode": 0.25})
STEPS = [
    (([(0, 2048, 1)], []), LLAMA, 1),
    (([(256, 512, 3), (0, 1, 2)], []), LLAMA, 2),
    (([], [(1024, 64)]), LLAMA, 4),
    (([(0, 300, 1), (100, 50, 2)], [(700, 8), (90, 1)]), LLAMA, 8),
    (([(0, 4096, 1)], [(4096, 128)]), FP8, 2),
]
TABLE = StepTable.from_batches(
    [Batch.from_requests(prefill, decode) for (prefill, decode), _, _ in STEPS],
    [arch for _, arch, _ in STEPS],
    [tp for _, _, tp in STEPS],
)


def expanded(runs, width):
    return [run[: width - 1] for run in runs for _ in range(run[width - 1])]


def roofline_us(prefill, decode, arch, tp):
    """One step, request by request: attention as 4·h·n·e·dh + 5·h·n·e, two MLP matrices, weights once."""
    layers = arch.num_layers
    d = arch.hidden_size
    h = arch.num_heads
    kv = arch.kv_heads
    ff = arch.mlp_size
    dh = d / h
    weights = d * (d + 2 * kv * dh) + d * d + 2 * d * ff
    peak = 1e12 * (PEAKS["TFlopsFP8"] if arch.bytes_per_param == 1 else PEAKS["TFlopsPeak"])
    requests = [(s, n, 0.5) for s, n in expanded(prefill, 3)] + [
        (s, 1, 0.25) for (s,) in expanded(decode, 2)
    ]
    seconds = 0.0
    moved = layers * weights * arch.bytes_per_param
    for s, n, mfu in requests:
        e = s + (n - 1) / 2 if n > 1 else s
        seconds += (
            layers
            * (2 * n * weights + 4 * h * n * e * dh + 5 * h * n * e + 2 * n * d)
            / tp
            / (peak * mfu)
        )
        moved += 2 * layers * kv * dh * 2 * (n + s) + layers * d * 2 * n
    return 1e6 * max(seconds, moved / tp / (PEAKS["BwPeakTBs"] * 1e12))


def test_the_roofline_is_that_of_the_simulator():
    expected = [roofline_us(prefill, decode, arch, tp) for (prefill, decode), arch, tp in STEPS]
    np.testing.assert_allclose(BlisRoofline().predict_us(TABLE, HARDWARE), expected, rtol=1e-12)
    assert set(BlisRoofline().regimes(TABLE, HARDWARE)) == {"compute", "memory"}


def test_the_jacobian_of_the_roofline_is_its_slope():
    model = BlisRoofline()
    predicted, jacobian = model.predict_with_jacobian_us(TABLE, HARDWARE, model.parameter_names)
    for column, name in enumerate(model.parameter_names):
        value = HARDWARE.values[name]
        ends = [
            model.predict_us(TABLE, HARDWARE.with_values({name: value * f}))
            for f in (1 + 1e-6, 1 - 1e-6)
        ]
        np.testing.assert_allclose(
            jacobian[:, column], (ends[0] - ends[1]) / (2e-6 * value), rtol=1e-6, atol=1e-3
        )
    np.testing.assert_array_equal(predicted, model.predict_us(TABLE, HARDWARE))


def test_the_roofline_says_what_it_cannot_count():
    assert "counts 2 MLP matrices" in " ".join(BlisRoofline().limits(LLAMA))
    with pytest.raises(ArchitectureError, match="mixture of experts"):
        BlisRoofline().limits(load_architecture("mixtral-8x7b"))
    with pytest.raises(HardwareError, match="mfuDecode"):
        BlisRoofline().predict_us(TABLE, Hardware("X", {**PEAKS, "mfuPrefill": 0.5}))


def basis_row(prefill, decode, arch, tp):
    """The ten terms of one step, in the order of the file, request by request."""
    layers = arch.num_layers
    d = arch.hidden_size
    h = arch.num_heads
    ff = arch.mlp_size
    dh, bandwidth = d // h, PEAKS["BwPeakTBs"] * 1e6
    dkv = arch.kv_heads * dh
    peak = 1e6 * (PEAKS["TFlopsFP8"] if arch.bytes_per_param == 1 else PEAKS["TFlopsPeak"])
    prompts = expanded(prefill, 3)
    contexts = [s for (s,) in expanded(decode, 2)]
    tokens, decodes = sum(n for _, n in prompts), len(contexts)
    attention = sum(4 * h / tp * n * (s + n + n / 2) * dh for s, n in prompts)
    dense = layers * (2 * d * (2 * d + 2 * dkv) + 6 * d * ff) / tp
    cache = layers * 2 * dkv / tp * 2 / bandwidth
    ring = 2 * layers * (tokens + decodes) * d * 2 * 2 * (tp - 1) / tp / bandwidth
    return [
        (dense * tokens + layers * attention) / peak,
        (dense * decodes + layers * 4 * h / tp * sum(contexts) * dh) / peak,
        layers * (d * (2 * d + 2 * dkv) + 3 * d * ff) * arch.bytes_per_param / tp / bandwidth,
        ring,
        layers,
        len(prompts) + decodes,
        1,
        0,
        cache * tokens,
        cache * (sum(contexts) + decodes),
    ]


def test_the_basis_is_that_of_the_simulator():
    expected = [basis_row(prefill, decode, arch, tp) for (prefill, decode), arch, tp in STEPS]
    basis = basis_us(TABLE, HARDWARE)
    assert basis.shape == (len(STEPS), len(BETAS))
    np.testing.assert_allclose(basis, expected, rtol=1e-12)


def test_trained_physics_refuses_what_the_simulator_refuses():
    check_dense(LLAMA, 8)
    with pytest.raises(ArchitectureError, match="multiples of tp 16"):
        check_dense(LLAMA, 16)
    with pytest.raises(ArchitectureError, match="mixture of experts"):
        check_dense(load_architecture("mixtral-8x7b"), 1)
