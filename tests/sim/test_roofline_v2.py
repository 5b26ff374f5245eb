"""Both database models against the reference implementation's vectors, sums by hand, and finite differences."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest

from sim import (
    Architecture,
    ArchitectureError,
    Batch,
    HardwareError,
    SimError,
    StepTable,
    latency_model,
    load_architecture,
    load_hardware,
    load_mfu_table,
)
from sim.models.roofline_v2.model import RooflineV2
from sim.models.roofline_v2_interp.model import RooflineV2Interp
from tests.conftest import DATA, GUIDE_H100, ROOT
from tests.sim.test_roofline_v1 import architecture_of, batch_of

GOLDEN = ROOT.parent / "shared" / "golden"
FILES = {
    "v2_cases": ("roofline-v2", 300),
    "v2b_cases": ("roofline-v2", 100),
    "v2final_cases": ("roofline-v2-interp", 300),
}
NAMES = ("roofline-v2", "roofline-v2-interp")
MADE_UP = load_mfu_table(DATA / "mfu_database", "x100")
SIX_KEYS = load_hardware(
    {
        "TFlopsPeak": 989.5,
        "BwPeakTBs": 3.35,
        "TOverheadMicros": 50.0,
        "PrefillOverheadMicros": 100.0,
        "MixedPrefillOverheadMicros": 50.0,
        "AllReduceLatency": 20.0,
    }
)
golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the benchmark database of the golden vectors may not be committed"
)


def model_of(name):
    return latency_model(name, mfu_table=MADE_UP)


@golden
@pytest.mark.parametrize("file", FILES)
def test_every_golden_vector_by_request_lists_and_by_one_mixed_table(file):
    name, size = FILES[file]
    cases = json.loads((GOLDEN / f"{file}.json").read_text())
    model = latency_model(name, mfu_table=load_mfu_table(GOLDEN / "bench_data", "H100"))
    expected = [case["expected_us"] for case in cases]
    hardware = [load_hardware(case["hardware"]) for case in cases]
    batches = [batch_of(c) for c in cases]
    architectures = [architecture_of(c) for c in cases]
    one_by_one = [
        model.step_time_us(batch, arch, block, tp=case["tp"])
        for batch, arch, block, case in zip(batches, architectures, hardware, cases, strict=True)
    ]
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-9)
    table = StepTable.from_batches(batches, architectures, [c["tp"] for c in cases])
    together = [model.predict_us(table, block)[row] for row, block in enumerate(hardware)]
    np.testing.assert_allclose(together, expected, rtol=1e-9)
    assert len(cases) == size


def rows_of(path):
    with (DATA / "mfu_database" / path).open() as file:
        return [
            {k: float(v) for k, v in row.items() if k not in ("dtype", "kv_dtype")}
            for row in csv.DictReader(file)
        ]


class ByHand:
    """Both models as their description reads, one request and one look-up after the other, straight from the files."""

    def __init__(self, arch, hardware, tp):
        self.a, self.tp, self.hd = arch, tp, arch.hidden_size // arch.num_heads
        self.flops = hardware.values["TFlopsPeak"] * 1e12
        self.bandwidth = (
            hardware.values["BwPeakTBs"] * 1e12 * (hardware.values.get("bwEfficiencyFactor") or 1)
        )
        self.value = lambda key: hardware.values.get(key, 0.0)
        configs = ["28-4-128", "32-32-128", "64-8-128"]
        wanted = (arch.num_heads, arch.kv_heads, self.hd)
        self.config = min(configs, key=lambda c: math.dist(wanted, [int(x) for x in c.split("-")]))

    def usable(self, rows, mfu, distance):
        return (
            mfu if mfu >= 1e-4 else min((r for r in rows if r["mfu"] >= 1e-4), key=distance)["mfu"]
        )

    def along(self, rows, key, x, interpolate):
        rows = sorted(rows, key=lambda r: r[key])
        if interpolate:
            mfu = np.interp(x, [r[key] for r in rows], [r["mfu"] for r in rows])
        else:
            mfu = ([r for r in rows if r[key] <= x] or rows[:1])[-1]["mfu"]
        return self.usable(rows, mfu, lambda r: abs(r[key] - x))

    def gemm_mfu(self, m, k, n, interpolate):
        rows = rows_of("gemm/x100/data.csv")
        larger = [r for r in rows if r["k"] >= k and r["n"] >= n]
        best = (
            min(larger, key=lambda r: math.dist((r["k"], r["n"]), (k, n))) if larger else rows[-1]
        )
        shape = [r for r in rows if (r["k"], r["n"]) == (best["k"], best["n"])]
        return self.along(shape, "m", m, interpolate)

    def prefill_mfu(self, length, interpolate):
        return self.along(
            rows_of(f"mha/prefill/x100/{self.config}.csv"), "seq_len", length, interpolate
        )

    def decode_mfu(self, batch, context, interpolate):
        measured = {"28-4-128": (1, 4), "32-32-128": (1, 4), "64-8-128": (1, 2, 8)}[self.config]
        near = min(measured, key=lambda t: (abs(t - self.tp), t))
        tp = near if interpolate else self.tp if self.tp in measured else 1
        rows = rows_of(f"mha/decode/x100/{self.config}-tp{tp}.csv")
        at = {(r["batch_size"], r["kv_len"]): r["mfu"] for r in rows}

        def distance(r):
            return math.dist((r["batch_size"], r["kv_len"]), (batch, context))

        if not interpolate:
            below = [r for r in rows if r["batch_size"] <= batch and r["kv_len"] <= context]
            return self.usable(rows, min(below or rows, key=distance)["mfu"], distance)
        mfu = 0.0
        for b, weight in self.ends(sorted({r["batch_size"] for r in rows}), batch):
            for c, share in self.ends(sorted({r["kv_len"] for r in rows}), context):
                mfu += weight * share * at.get((b, c), 0.0)
        return self.usable(rows, mfu, distance)

    @staticmethod
    def ends(grid, x):
        x = min(max(x, grid[0]), grid[-1])
        low = max(g for g in grid if g <= x)
        high = min(g for g in grid if g >= x)
        return (
            [(low, 1.0)]
            if low == high
            else [(low, (high - x) / (high - low)), (high, (x - low) / (high - low))]
        )

    def gemm(self, m, interpolate):
        d = self.a.hidden_size
        ff = self.a.mlp_size
        kv = self.a.kv_heads * self.hd
        total = 0.0
        for k, n in ((d, d), (d, kv), (d, kv), (d, d), (d, ff), (d, ff), (ff, d)):
            time = 2 * m * k * n / (self.flops * self.gemm_mfu(m, k, n, interpolate))
            total += (
                max(time, k * n * self.a.bytes_per_param / self.bandwidth) if interpolate else time
            )
        return total * self.a.num_layers / self.tp

    def memory(self, requests):
        a, dh = self.a, self.a.hidden_size / self.a.num_heads
        layer = (
            2 * a.hidden_size**2
            + 2 * a.hidden_size * a.kv_heads * dh
            + 3 * a.hidden_size * a.mlp_size
        )
        moved = a.num_layers * a.bytes_per_param * layer
        for s, n in requests:
            c, activations = (0.80, 0.75) if n == 1 else (0.92, 0.85)
            moved += 2 * a.num_layers * a.kv_heads * dh * a.bytes_per_param * (n + c * s)
            moved += activations * a.num_layers * a.hidden_size * a.bytes_per_param * n
        return moved / self.tp / self.bandwidth

    @staticmethod
    def bucket(s, n):
        return next((b for b in (512, 1024, 2048, 4096, 8192, 16384, 32768) if b >= s + n), 65536)

    def prefill(self, requests, interpolate):
        compute = 0.0
        for q in {self.bucket(s, n) for s, n in requests}:
            mine = [(s, n) for s, n in requests if self.bucket(s, n) == q]
            scale = (
                self.a.num_layers
                * self.a.num_heads
                / 1.8
                / (self.flops * self.prefill_mfu(q, interpolate))
                / self.tp
            )
            if interpolate:
                compute += self.gemm(sum(n for _, n in mine), interpolate)
                compute += sum(4 * n * (s + n) * self.hd for s, n in mine) * scale
            else:
                compute += (
                    self.gemm(len(mine), interpolate) + len(mine) * q * (4 * self.hd + 4) * scale
                )
        return max(compute, self.memory(requests)) if requests else 0.0

    def decode(self, contexts, interpolate):
        if not contexts:
            return 0.0
        count = len(contexts)
        layers_heads = self.a.num_layers * self.a.num_heads
        if interpolate:
            work = [4 * layers_heads * s * self.hd for s in contexts]
            weighted = sum(
                w * self.decode_mfu(count, s, True) for w, s in zip(work, contexts, strict=True)
            )
            attention = sum(work) ** 2 / (self.flops * weighted) / self.tp if sum(work) else 0.0
        else:
            longest = max(contexts)
            mfu = self.decode_mfu(count, longest, False)
            attention = (
                layers_heads * count * longest * (4 * self.hd + 4) / (self.flops * mfu) / self.tp
            )
        return max(
            self.gemm(count, interpolate) + attention, self.memory([(s, 1) for s in contexts])
        )

    def nearest_us(self, prefill, decode):
        prefill_time = self.prefill(prefill, False)
        decode_time = self.decode(decode, False)
        tokens = sum(n for _, n in prefill)
        decodes = len(decode)
        requests = len(prefill) + len(decode)
        if prefill and decode:
            share = tokens / (tokens + decodes)
            if tokens > 4 * decodes and tokens > 100:
                share = 0.75
            elif decodes > 2 * tokens and decodes > 50:
                share = 0.35
            time = share * prefill_time + (1 - share) * decode_time
        else:
            time = prefill_time + decode_time
        step, pure, mixed = map(
            self.value, ("TOverheadMicros", "prefillOverheadMicros", "mixedPrefillOverheadMicros")
        )
        if self.value("perLayerOverhead") > 0:
            step = self.value("perLayerOverhead") * self.a.num_layers / self.tp
            pure, mixed = 5 * step, 2.5 * step
        if requests > 2:
            step *= 1 + 0.15 * math.log2(requests / 2) * (0.3 + 2 * decodes / requests)
        all_reduce = 2 * self.a.num_layers * self.value("allReduceLatency") if self.tp > 1 else 0.0
        return 1e6 * time + all_reduce + step + len(prefill) * (mixed if decode else pure)

    def interpolated_us(self, prefill, decode):
        time = max(self.prefill(prefill, True), self.decode(decode, True))
        return max(1.0, 1e6 * time + self.value("perLayerOverhead") * self.a.num_layers / self.tp)


def made_up_steps(size=120, seed=0):
    rng = np.random.default_rng(seed)
    names = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-7b", "llama-2-13b")
    # 1933 / 24 is no whole number
    odd = Architecture("odd", 3, 1933, 24, 5, 7000, bytes_per_param=1.0)
    architectures = [
        odd if rng.random() < 0.2 else load_architecture(rng.choice(names)) for _ in range(size)
    ]
    steps = []
    for _ in range(size):
        runs = rng.integers(0, 4, 2)
        longest = 10 ** rng.uniform(0, 4.9)
        prefill = [
            (int(rng.integers(0, longest)), int(rng.integers(1, 1 + longest)))
            for _ in range(runs[0])
        ]
        prefill += [(7, 1)] * int(rng.integers(0, 2))
        decode = [
            int(s)
            for s in rng.integers(0, longest + 1, runs[1])
            for _ in range(rng.choice([1, 3, 40]))
        ]
        steps.append((prefill, decode))
    return steps, architectures, [int(tp) for tp in rng.choice([1, 2, 3, 4, 6, 8], size)]


BLOCKS = (
    {},
    {"bwEfficiencyFactor": 0.8},
    {"perLayerOverhead": 3.0},
    {"perLayerOverhead": 3.0, "bwEfficiencyFactor": 0.05},
    {"TFlopsPeak": 30.0},
)


@pytest.mark.parametrize("changed", BLOCKS, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_a_mixed_table_is_the_sum_request_by_request(name, changed):
    steps, architectures, tps = made_up_steps(40)
    hardware = SIX_KEYS.with_values(changed)
    batches = [Batch.from_requests(prefill, [(s,) for s in decode]) for prefill, decode in steps]
    got = model_of(name).predict_us(StepTable.from_batches(batches, architectures, tps), hardware)
    for row, (prefill, decode) in enumerate(steps):
        by_hand = ByHand(architectures[row], hardware, tps[row])
        expected = (by_hand.nearest_us if name == "roofline-v2" else by_hand.interpolated_us)(
            prefill, decode
        )
        assert got[row] == pytest.approx(expected, rel=1e-12), (row, prefill, decode)


def mixed_table(size=300, seed=1):
    steps, architectures, tps = made_up_steps(size, seed)
    batches = [Batch.from_requests(prefill, [(s,) for s in decode]) for prefill, decode in steps]
    return StepTable.from_batches(batches, architectures, tps)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_and_the_neighbours_of_a_step_do_not_count(name):
    table, model = mixed_table(), model_of(name)
    whole = model.predict_us(table, SIX_KEYS)
    order = np.random.default_rng(3).permutation(len(table))
    np.testing.assert_allclose(
        model.predict_us(table.take(order), SIX_KEYS), whole[order], rtol=1e-13
    )
    joined = StepTable.concatenate([table.take(order[:100]), table.take(order[100:])])
    np.testing.assert_allclose(model.predict_us(joined, SIX_KEYS), whole[order], rtol=1e-13)
    mask = whole > np.median(whole)
    np.testing.assert_allclose(
        model.predict_us(table.take(mask), SIX_KEYS), whole[mask], rtol=1e-13
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_count_is_as_good_as_a_repetition_and_columns_are_requests_of_equal_length(name):
    arch = load_architecture("llama-3.1-8b")
    model = model_of(name)
    listed = Batch.from_requests([(100, 900)] * 3, [(700,)] * 20)
    counted = Batch.from_requests([(100, 900, 3), (5, 5, 0)], [(700, 20), (99999, 0)])
    columns = {
        "model": ["llama-3.1-8b"],
        "tp": [2],
        "num_prefill_requests": [3],
        "sum_prefill_tokens": [2700],
        "sum_prefill_kv_tokens": [300],
        "num_decode_requests": [20],
        "sum_decode_kv_tokens": [14000],
    }
    one = model.step_time_us(listed, arch, SIX_KEYS, tp=2)
    assert model.step_time_us(counted, arch, SIX_KEYS, tp=2) == pytest.approx(one, rel=1e-14)
    assert model.predict_us(StepTable.from_columns(columns), SIX_KEYS)[0] == pytest.approx(
        one, rel=1e-14
    )


def test_the_largest_context_and_each_prompts_length_count_where_sums_cannot_tell():
    arch = load_architecture("llama-3.1-8b")
    even = Batch.from_requests([(0, 1000, 2)], [(4000, 64)])
    uneven = Batch.from_requests([(0, 100), (0, 1900)], [(1000, 32), (7000, 32)])
    np.testing.assert_array_equal(even.moments[[0, 1, 2, 6, 7]], uneven.moments[[0, 1, 2, 6, 7]])
    hardware = SIX_KEYS.with_values({"TFlopsPeak": 30.0})
    for name in NAMES:
        times = [model_of(name).step_time_us(batch, arch, hardware) for batch in (even, uneven)]
        assert abs(math.log(times[1] / times[0])) > 0.005


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "changed", [*BLOCKS, {"bwEfficiencyFactor": 0.8, "BwPeakTBs": 0.3}], ids=str
)
def test_the_closed_form_jacobian_is_the_derivative(name, changed):
    table = mixed_table()
    model = model_of(name)
    hardware = SIX_KEYS.with_values(changed)
    names = model.parameter_names
    value, jacobian = model.predict_with_jacobian_us(table, hardware, names)
    np.testing.assert_array_equal(value, model.predict_us(table, hardware))
    here = model.parameters(hardware)
    off = {
        key
        for key in ("bwEfficiencyFactor", "perLayerOverhead")
        if name == "roofline-v2" and here[key] == 0
    }
    off |= {"bwEfficiencyFactor"} if here["bwEfficiencyFactor"] == 0 else set()
    for column, key in zip(jacobian.T, names, strict=True):
        if key in off:
            assert not column.any()
            continue
        step = 1e-6 * here[key] if here[key] else 1e-4
        up = model.predict_us(table, hardware.with_values({key: here[key] + step}))
        down = model.predict_us(table, hardware.with_values({key: max(here[key] - step, 0.0)}))
        difference = (up - down) / (step + min(step, here[key]))
        np.testing.assert_allclose(column, difference, rtol=2e-5, atol=2e-6 * value.max())
    moved = {key for key, column in zip(names, jacobian.T, strict=True) if column.any()}
    replaced = {"TOverheadMicros", "prefillOverheadMicros", "mixedPrefillOverheadMicros"}
    layered = name == "roofline-v2" and here["perLayerOverhead"] > 0
    assert moved == set(names) - off - (replaced if layered else set())


def test_a_derivative_by_an_unknown_name_is_an_error_not_a_zero():
    for name in NAMES:
        with pytest.raises(KeyError):
            model_of(name).predict_with_jacobian_us(mixed_table(5), SIX_KEYS, ["mfuPrefill"])


def test_an_empty_step_and_an_empty_table():
    arch = load_architecture("llama-3.1-8b")
    hardware = SIX_KEYS.with_values({"perLayerOverhead": 2.0})
    assert model_of("roofline-v2").step_time_us(Batch.from_requests(), arch, SIX_KEYS) == 50.0
    assert model_of("roofline-v2-interp").step_time_us(Batch.from_requests(), arch, SIX_KEYS) == 1.0
    assert (
        model_of("roofline-v2-interp").step_time_us(Batch.from_requests(), arch, hardware, tp=4)
        == 16.0
    )
    unread = Batch.from_requests(decode=[(0, 3)])
    assert all(model_of(name).step_time_us(unread, arch, SIX_KEYS) > 50 for name in NAMES)
    for name in NAMES:
        for empty in (
            StepTable.from_batches([], [], []),
            StepTable.from_columns({"model": [], "tp": []}),
        ):
            value, jacobian = model_of(name).predict_with_jacobian_us(
                empty, SIX_KEYS, model_of(name).parameter_names
            )
            assert (value.shape, jacobian.shape) == ((0,), (0, len(model_of(name).parameter_names)))


@pytest.mark.parametrize("name", NAMES)
def test_regimes_name_the_largest_part(name):
    arch = load_architecture("llama-3.1-8b")
    model = model_of(name)
    batches = [Batch.from_requests(decode=[(100, 1)]), Batch.from_requests([(0, 8000)])]
    table = StepTable.from_batches(batches, [arch] * 2, [1, 1])
    fast = load_hardware({"TFlopsPeak": 1e6, "BwPeakTBs": 3.35})
    slow = load_hardware({"TFlopsPeak": 5, "BwPeakTBs": 3.35})
    late = load_hardware({"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, "perLayerOverhead": 1e5})
    found = [model.regimes(table, hardware).tolist() for hardware in (fast, slow, late)]
    assert found == [["memory"] * 2, ["compute"] * 2, ["host"] * 2]
    sent = StepTable.from_batches(batches[:1], [arch], [8])
    if name == "roofline-v2":
        assert model.regimes(sent, SIX_KEYS.with_values({"allReduceLatency": 1e4})).tolist() == [
            "communication"
        ]


@pytest.mark.parametrize("name", NAMES)
def test_only_the_two_peaks_are_required_and_the_rest_is_zero(name):
    two = {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}
    model = model_of(name)
    assert model.parameters(load_hardware(two)) == {
        **two,
        **dict.fromkeys(model.parameter_names, 0.0),
    }
    assert model.parameters(load_hardware({"H100": GUIDE_H100}))["perLayerOverhead"] == 5.0
    for key in two:
        for block in ({**two, key: 0}, {k: v for k, v in two.items() if k != key}):
            with pytest.raises(
                HardwareError, match=f"{key} must be a valid positive number, got 0.*H100"
            ):
                model.parameters(load_hardware({"H100": block}))
    with pytest.raises(
        HardwareError, match="bwEfficiencyFactor must be a valid positive number, got -1"
    ):
        model.parameters(SIX_KEYS.with_values({"bwEfficiencyFactor": -1.0}))
    with pytest.raises(HardwareError, match="BwEffConstant must be a valid positive number"):
        latency_model("roofline-v1").parameters(load_hardware(two))


def test_keys_match_without_regard_to_case():
    lower = load_hardware({key.lower(): value for key, value in SIX_KEYS.values.items()})
    assert model_of("roofline-v2").parameters(lower) == model_of("roofline-v2").parameters(SIX_KEYS)
    assert model_of("roofline-v2").parameters(lower)["mixedPrefillOverheadMicros"] == 50.0


def test_a_model_without_a_database_and_an_unknown_model_are_refused():
    for name in NAMES:
        with pytest.raises(
            SimError,
            match=f"{name} looks MFUs up in a benchmark database.*mfu_table=load_mfu_table",
        ):
            latency_model(name)
    with pytest.raises(
        SimError,
        match=r"known: roofline-v1, roofline-v3, roofline-v4, roofline-v2, roofline-v2-interp\).*did you mean",
    ):
        latency_model("roofline-v22", mfu_table=MADE_UP)
    assert isinstance(model_of("roofline-v2"), RooflineV2)
    assert isinstance(model_of("roofline-v2-interp"), RooflineV2Interp)


@pytest.mark.parametrize("name", NAMES)
def test_limits_are_said_and_what_cannot_be_counted_is_an_error(name):
    model = model_of(name)
    assert model.limits(load_architecture("llama-2-7b")) == []
    nearest = model.limits(load_architecture("llama-3.1-8b"))
    assert nearest == [
        f"{name} takes the attention of llama-3.1-8b (32-8-128) as 28-4-128, the nearest in the x100 benchmarks"
    ]
    assert "as 80" in model.limits(load_architecture("qwen3-32b"))[0]
    for unknown in ("mixtral-8x7b", "deepseek-v3"):
        with pytest.raises(ArchitectureError, match=f"{name} cannot compute {unknown}"):
            model.step_time_us(
                Batch.from_requests(decode=[(100, 4)]), load_architecture(unknown), SIX_KEYS
            )


def test_two_databases_on_one_table_do_not_share_what_they_looked_up():
    table = mixed_table(30)
    faster = dataclasses.replace(
        MADE_UP,
        prefill={h: dataclasses.replace(c, mfu=c.mfu * 0.5) for h, c in MADE_UP.prefill.items()},
    )
    hardware = SIX_KEYS.with_values({"TFlopsPeak": 5.0})
    for name in NAMES:
        first, second = (
            latency_model(name, mfu_table=t).predict_us(table, hardware) for t in (MADE_UP, faster)
        )
        assert (second > first).any()
        assert (second >= first).all()
