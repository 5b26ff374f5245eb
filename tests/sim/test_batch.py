"""Batches and step tables: the moments against a sum written out request by request."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import ArchitectureError, Batch, StepError, StepTable, load_architecture
from sim.steps.batch import COUNT_COLUMNS, MOMENTS

LLAMA = load_architecture("llama-3.1-8b")
LENGTH, COUNT = st.integers(0, 20_000), st.integers(1, 300)
PREFILL = st.lists(st.tuples(LENGTH, st.integers(1, 9000), COUNT), max_size=6)
DECODE = st.lists(st.tuples(LENGTH, COUNT), max_size=6)


def moments_by_hand(prefill, decode):
    """One request after the other and one query after the other, in whole numbers."""
    total = dict.fromkeys(MOMENTS, 0)
    for context, new, count in prefill:
        total["num_prefill"] += count
        total["qk_pairs"] += count * (new * context + new * (new - 1) // 2)
        if new == 1:
            total["num_single"] += count
            total["single_context_tokens"] += count * context
        else:
            total["new_tokens"] += count * new
            total["context_tokens"] += count * context
    for context, count in decode:
        total["num_decode"] += count
        total["decode_context_tokens"] += count * context
    return [total[name] for name in MOMENTS]


@settings(deadline=None)
@given(PREFILL, DECODE)
def test_moments_are_the_sums_over_requests(prefill, decode):
    assert Batch.from_requests(prefill, decode).moments.tolist() == moments_by_hand(prefill, decode)


def test_query_key_pairs_count_every_token_that_a_query_sees():
    context, new = 7, 5
    # Roofline-v1 leaves the query itself out: s + (n − 1)/2 on average
    seen = sum(context + i for i in range(new))
    assert Batch.from_requests([(context, new)]).moments[MOMENTS.index("qk_pairs")] == seen


def test_a_count_left_out_is_one_and_a_count_is_as_good_as_a_repetition():
    one_by_one = Batch.from_requests([(5, 9)] * 3 + [(8, 1)] * 2, [(100,)] * 4)
    counted = Batch.from_requests([(5, 9, 3), (8, 1, 2)], [(100, 4)])
    assert one_by_one.moments.tolist() == counted.moments.tolist()


def test_the_empty_batch_has_zero_moments():
    assert Batch.from_requests().moments.tolist() == [0.0] * 8


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
@pytest.mark.parametrize("place", range(3))
def test_a_bad_number_in_a_request_is_refused(value, place):
    prefill, decode = [10, 20, 1], [10, 1]
    prefill[place] = value
    with pytest.raises(StepError, match="prefill requests must be finite and not negative"):
        Batch.from_requests([prefill])
    decode[place % 2] = value
    with pytest.raises(StepError, match="decode requests must be finite and not negative"):
        Batch.from_requests(decode=[decode])


UNIFORM = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 9000), LENGTH, st.integers(0, 300), LENGTH),
    min_size=1,
    max_size=20,
)


def uniform_columns(steps):
    """``steps`` columns of steps whose requests are equal in length, and the same steps request by request."""
    prefills, new, context, decodes, kv = np.array(steps).T
    columns = {
        "model": ["llama-3.1-8b"] * len(steps),
        "tp": [1] * len(steps),
        "num_prefill_requests": prefills,
        "sum_prefill_tokens": prefills * new,
        "sum_prefill_kv_tokens": prefills * context,
        "num_decode_requests": decodes,
        "sum_decode_kv_tokens": decodes * kv,
    }
    batches = [
        Batch.from_requests([(s, n, p)] if p else [], [(k, d)] if d else [])
        for p, n, s, d, k in np.array(steps).tolist()
    ]
    return columns, StepTable.from_batches(batches, [LLAMA] * len(steps), [1] * len(steps))


@settings(deadline=None)
@given(UNIFORM)
def test_columns_of_equal_requests_give_the_moments_of_the_requests(steps):
    columns, by_request = uniform_columns(steps)
    np.testing.assert_allclose(
        StepTable.from_columns(columns).moments, by_request.moments, rtol=1e-12
    )


def listed(table):
    """The runs of every row, as lists."""
    requests = table.requests
    return [
        [runs.take([row]).values.T.tolist() for row in range(len(table))]
        for runs in (requests.prefill, requests.decode)
    ]


RAGGED = [
    ([(5, 9, 2), (0, 1, 1), (7, 70, 1)], [(100, 4)]),
    ([], []),
    ([], [(1, 1), (2, 3)]),
    ([(8, 8, 1)], []),
]


def ragged_table():
    return StepTable.from_batches(
        [Batch.from_requests(p, d) for p, d in RAGGED], [LLAMA] * 4, [1, 2, 4, 8]
    )


def test_a_table_from_batches_keeps_the_requests_through_take_and_concatenate():
    table = ragged_table()
    whole = [[[list(run) for run in step] for step in phase] for phase in zip(*RAGGED, strict=True)]
    assert listed(table) == whole
    assert listed(table.take([2, 0, 0])) == [[phase[i] for i in (2, 0, 0)] for phase in whole]
    assert listed(table.take(np.array([True, False, False, True]))) == [
        [phase[0], phase[3]] for phase in whole
    ]
    assert listed(StepTable.concatenate([table, table.take([1]), table.take([2])])) == [
        [*phase, phase[1], phase[2]] for phase in whole
    ]
    assert listed(table.take(np.empty(0, dtype=int))) == [[], []]


def test_a_table_from_columns_has_requests_of_equal_length_and_keeps_none():
    columns, by_request = uniform_columns(
        [(2, 30, 5, 3, 100), (4, 1, 7, 0, 0), (0, 1, 0, 0, 0), (1, 8, 0, 0, 9)]
    )
    table = StepTable.from_columns(columns)
    assert listed(table) == listed(by_request)
    assert table.listed is None
    assert table.take([0, 1]).listed is None
    assert StepTable.concatenate([table, table]).listed is None


def test_a_row_of_mixed_prompts_known_by_its_sums_splits_into_single_and_longer_ones():
    table = ragged_table()
    sums = StepTable(table.architectures, table.arch_index, table.tp, table.moments)
    assert listed(sums)[0][0] == [[17 / 3, 88 / 3, 3], [0, 1, 1]]


def test_tables_join_with_their_models_in_order_and_listed_requests_beside_equal_ones():
    other = load_architecture("llama-2-13b")
    columns, by_request = uniform_columns([(2, 30, 5, 3, 100)])
    batch = Batch.from_requests([(1, 2), (3, 4)])
    table = StepTable.concatenate(
        [
            StepTable.from_columns(columns),
            StepTable.from_batches([batch, batch], [other, LLAMA], [8, 1]),
        ]
    )
    assert [table.architectures[i].name for i in table.arch_index] == [
        "llama-3.1-8b",
        "llama-2-13b",
        "llama-3.1-8b",
    ]
    assert (table.architectures, table.tp.tolist()) == ((LLAMA, other), [1, 8, 1])
    np.testing.assert_array_equal(table.moments[:, 0], by_request.moments[:, 0])
    assert table.moments[:, 2].tolist() == batch.moments.tolist()
    assert listed(table)[0] == [[[5, 30, 2]], [[1, 2, 1], [3, 4, 1]], [[1, 2, 1], [3, 4, 1]]]


def test_a_run_of_no_request_is_left_out():
    table = StepTable.from_batches(
        [Batch.from_requests([(5, 9, 0)], [(7, 0), (8, 2)])], [LLAMA], [1]
    )
    assert listed(table) == [[[]], [[[8, 2]]]]


@settings(deadline=None)
@given(UNIFORM, st.sampled_from([1, 2, 4, 8]))
def test_a_table_through_csv_has_the_same_moments(steps, tp):
    _, table = uniform_columns(steps)
    table = StepTable(table.architectures, table.arch_index, np.full(len(table), tp), table.moments)
    text = pd.DataFrame(table.columns()).to_csv(index=False)
    back = StepTable.from_columns(pd.read_csv(pd.io.common.StringIO(text)))
    np.testing.assert_array_equal(back.moments, table.moments)
    assert back.tp.tolist() == table.tp.tolist()
    assert back.architectures == table.architectures


@settings(deadline=None)
@given(st.lists(st.tuples(LENGTH, st.integers(2, 9000), COUNT), min_size=1, max_size=6), DECODE)
def test_ragged_requests_survive_the_columns_thanks_to_their_query_key_pairs(prefill, decode):
    table = StepTable.from_batches([Batch.from_requests(prefill, decode)], [LLAMA], [2])
    np.testing.assert_array_equal(StepTable.from_columns(table.columns()).moments, table.moments)


def small_table():
    return StepTable.from_columns(
        {
            "model": ["llama-3.1-8b", "llama-2-13b", "llama-3.1-8b", "llama-2-13b"],
            "tp": [1, 2, 4, 8],
            "num_prefill_requests": [1, 0, 2, 0],
            "sum_prefill_tokens": [100, 0, 400, 0],
            "num_decode_requests": [0, 3, 5, 0],
            "sum_decode_kv_tokens": [0, 30, 50, 0],
        }
    )


@pytest.mark.parametrize(
    "rows", [[3, 0], np.array([True, False, False, True]), [], [2, 2, 2], slice(1, 3)]
)
def test_take_picks_rows_by_index_or_mask(rows):
    table = small_table()
    chosen = np.arange(4)[
        rows if isinstance(rows, slice) else np.asarray(rows, dtype=None if len(rows) else int)
    ]
    taken = table.take(chosen)
    assert len(taken) == len(chosen)
    assert taken.tp.tolist() == [[1, 2, 4, 8][i] for i in chosen]
    np.testing.assert_array_equal(taken.moments, table.moments[:, chosen])
    names = [taken.architectures[i].name for i in taken.arch_index]
    assert names == [table.architectures[table.arch_index[i]].name for i in chosen]


def test_take_accepts_a_boolean_mask():
    taken = small_table().take(np.array([False, True, False, True]))
    assert taken.tp.tolist() == [2, 8]
    assert taken.phases.tolist() == ["decode", "empty"]


def test_take_forgets_what_was_derived_from_the_whole_table():
    table = small_table()
    assert table.memo("length", len) == 4
    assert table.take([0]).memo("length", len) == 1


def test_memo_computes_once():
    table, calls = small_table(), []
    assert [table.memo("key", lambda _: calls.append(1) or 7) for _ in range(3)] == [7, 7, 7]
    assert calls == [1]


def test_phases_are_named_by_the_requests_present():
    assert small_table().phases.tolist() == ["prefill", "decode", "mixed", "empty"]


@pytest.mark.parametrize("column", COUNT_COLUMNS)
@pytest.mark.parametrize("value", [-1.0, -0.5, float("inf"), float("-inf")])
def test_a_negative_or_infinite_count_names_its_row_and_column(column, value):
    columns = {"model": ["llama-3.1-8b"] * 3, "tp": [1, 1, 1], column: [1.0, value, 1.0]}
    with pytest.raises(
        StepError, match=f"row 1: {column} must be finite and not negative, got {value:g}"
    ):
        StepTable.from_columns(columns)


@pytest.mark.parametrize("column", COUNT_COLUMNS)
def test_nan_is_a_count_left_out(column):
    base = {
        "model": ["llama-3.1-8b"],
        "tp": [1],
        "num_prefill_requests": [2],
        "sum_prefill_tokens": [64],
        "num_decode_requests": [3],
    }
    without = {name: values for name, values in base.items() if name != column}
    got = StepTable.from_columns({**base, column: [np.nan]}).moments
    np.testing.assert_array_equal(got, StepTable.from_columns(without).moments)


@pytest.mark.parametrize("tp", [0, -1, 1.5, float("nan"), float("inf"), 2.0**31])
def test_a_tp_that_is_no_degree_names_its_row(tp):
    with pytest.raises(StepError, match="row 1: tp must be a whole number ≥ 1"):
        StepTable.from_columns({"model": ["llama-3.1-8b"] * 3, "tp": [1, tp, 2]})


def test_a_column_of_another_length_is_refused():
    with pytest.raises(StepError, match="column num_decode_requests has 2 entries, expected 1"):
        StepTable.from_columns(
            {"model": ["llama-3.1-8b"], "tp": [1], "num_decode_requests": [1, 2]}
        )


def test_an_unknown_model_comes_with_the_nearest_name():
    with pytest.raises(ArchitectureError, match=r"did you mean 'llama-3\.1-8b'"):
        StepTable.from_columns({"model": ["lama-3.1-8b"], "tp": [1]})


@pytest.mark.parametrize(
    ("dtype", "size"), [("", 2.0), ("bf16", 2.0), ("fp8", 1.0), ("int4", 0.515625), ("fp32", 4.0)]
)
def test_the_dtype_column_changes_the_bytes_of_a_weight(dtype, size):
    table = StepTable.from_columns(
        {"model": ["llama-3.1-8b"] * 2, "tp": [1, 1], "dtype": ["", dtype]}
    )
    assert table.architectures[table.arch_index[1]].bytes_per_param == size
    assert table.architectures[table.arch_index[0]].bytes_per_param == 2.0
    assert len(table.architectures) == (1 if size == 2.0 else 2)


def test_an_unknown_dtype_comes_with_the_nearest_name():
    with pytest.raises(ArchitectureError, match=r"dtype 'fp9' is not known.*did you mean 'fp8'"):
        StepTable.from_columns({"model": ["llama-3.1-8b"], "tp": [1], "dtype": ["fp9"]})


def test_an_empty_table_has_no_rows_and_no_models():
    table = StepTable.from_columns({"model": [], "tp": []})
    assert (len(table), table.architectures, table.moments.shape) == (0, (), (8, 0))
    assert len(StepTable.from_batches([], [], [])) == 0


@pytest.mark.parametrize("tp", [0, -1, 1.5])
def test_a_tp_that_is_no_degree_is_refused(tp):
    with pytest.raises(StepError, match="tp must be a whole number"):
        StepTable.from_batches(
            [Batch.from_requests(decode=[(9, 1)])], [load_architecture("llama-3.1-8b")], [tp]
        )


def test_a_request_of_too_few_numbers_is_refused():
    with pytest.raises(StepError, match="a prefill request needs 2 numbers"):
        Batch.from_requests(prefill=[(0,)])
