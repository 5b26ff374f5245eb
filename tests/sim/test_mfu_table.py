"""The look-ups point by point, each fallback and tie; what a bad database is told; what one lacks."""

import json
import pickle
import shutil

import numpy as np
import pytest

from sim import HardwareError, MfuTable, MfuTableError, StepTable, load_mfu_table
from sim.database.curves import Curve, Surface
from sim.database.table import Heads, Shape
from sim.models.mfu_holes import find_holes
from tests.conftest import DATA, ROOT

MADE_UP = DATA / "mfu_database"
GOLDEN = ROOT.parent / "shared" / "golden"


def floats(*values):
    return np.array(values, dtype=np.float64)


def curve(*points):
    return Curve.from_points(*np.array(points, dtype=np.float64).T)


def surface(*points):
    return Surface.from_points(*np.array(points, dtype=np.float64).T)


def table(gemm=None, prefill=None, decode=None):
    gemm = gemm or {Shape(8, 8): curve((1, 0.5))}
    prefill = prefill or {Heads(8, 8, 64): curve((512, 0.5))}
    decode = decode or {heads: {1: surface((1, 1, 0.5))} for heads in prefill}
    return MfuTable("x", "there", gemm, list(gemm)[-1], prefill, decode)


@pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the benchmark database of the golden vectors may not be committed"
)
def test_every_golden_look_up():
    database = load_mfu_table(GOLDEN / "bench_data", "h100")
    counts = {"gemm": 0, "prefill": 0, "decode": 0}
    for case in json.loads((GOLDEN / "v2_lookups.json").read_text()):
        heads = Heads(case["num_attention_heads"], case["num_key_value_heads"], 0)
        heads = heads._replace(head_dim=case["hidden_size"] // heads.num_heads)
        assert str(database.attention_config(heads)) == case["attention_config"]
        first, second, third = case["args"]
        for key, interpolate in (("mfu_nearest", False), ("mfu_interp", True)):
            if case["kind"] == "gemm":
                got = database.gemm_mfu(
                    floats(first), Shape(second, third), interpolate=interpolate
                )
            elif case["kind"] == "prefill":
                got = database.prefill_mfu(heads, floats(first), interpolate=interpolate)
            else:
                got = database.decode_mfu(
                    heads, floats(first), floats(second), third, interpolate=interpolate
                )
            np.testing.assert_allclose(got, case[key], rtol=1e-9, err_msg=str(case))
        counts[case["kind"]] += 1
    assert counts == {"gemm": 120, "prefill": 84, "decode": 240}


def test_a_curve_takes_the_largest_size_not_above_else_the_smallest():
    got = curve((4096, 0.6), (1024, 0.2), (8192, 0.7)).nearest(
        floats(1, 512, 1023, 1024, 4095, 4096, 1e9)
    )
    assert got.tolist() == [0.2, 0.2, 0.2, 0.2, 0.2, 0.6, 0.7]


def test_a_curve_interpolates_and_is_constant_beyond_its_ends():
    got = curve((4096, 0.6), (1024, 0.2)).interpolated(floats(1, 1024, 2560, 4096, 9999))
    np.testing.assert_allclose(got, [0.2, 0.2, 0.4, 0.6, 0.6], rtol=1e-15)


def test_an_mfu_of_zero_gives_way_to_the_nearest_that_is_not_and_the_first_of_two():
    zeros = curve((3000, 0.7), (2000, 0.00009), (1000, 0.3), (10, 0.0))
    assert zeros.nearest(floats(2000, 2001, 2999, 10, 999)).tolist() == [0.7, 0.7, 0.7, 0.3, 0.3]
    assert curve((1000, 0.3), (2000, 0.0), (3000, 0.7)).nearest(floats(2000)).tolist() == [0.3]
    assert curve((10, 0.0), (20, 0.0001)).nearest(floats(10)).tolist() == [0.0001]
    assert curve((10, 0.0), (20, 0.0), (99, 0.4)).interpolated(floats(15, 20, 99)).tolist() == [
        0.4,
        0.4,
        0.4,
    ]


RAGGED = surface(
    (1, 100, 0.1),
    (1, 200, 0.2),
    (1, 300, 0.3),
    (10, 100, 0.4),
    (10, 300, 0.5),
    (50, 100, 0.6),
    (50, 200, 0.0),
)


@pytest.mark.parametrize(
    ("batch", "context", "mfu"),
    [
        (1, 100, 0.1),
        (9.9, 299, 0.2),  # the corner below is there
        (10, 299, 0.2),  # it is not: (1, 200) is nearer than (10, 100)
        (0, 0, 0.1),  # none below: the nearest of all
        (0, 251, 0.3),
        (51, 201, 0.2),  # (50, 200) is below and 0; the nearest that is not is (1, 200) at 50
        (55, 290, 0.5),  # likewise 0, and (10, 300) is the nearest although above
    ],
)
def test_a_surface_takes_the_nearest_point_not_above(batch, context, mfu):
    assert RAGGED.nearest(floats(batch), floats(context)).tolist() == [mfu]


def test_ties_on_a_surface_go_to_the_first_in_the_file():
    first, second = (1, 3, 0.1), (3, 1, 0.2)
    assert surface(first, second).nearest(floats(3, 0), floats(3, 0)).tolist() == [0.1, 0.1]
    assert surface(second, first).nearest(floats(3, 0), floats(3, 0)).tolist() == [0.2, 0.2]
    usable = [(2, 1, 0.1), (2, 3, 0.2)]
    assert surface((2, 2, 0.0), *usable).nearest(floats(2), floats(2)).tolist() == [0.1]
    assert surface((2, 2, 0.0), *usable[::-1]).nearest(floats(2), floats(2)).tolist() == [0.2]


def test_a_surface_is_the_same_as_looking_at_every_point():
    rng = np.random.default_rng(0)
    sizes = rng.permutation([(b, k) for b in (1, 4, 16, 64) for k in (128, 256, 1024, 4096)])[
        :11
    ].astype(float)
    mfu = rng.choice([0.0, 0.1, 0.2, 0.3], 11)
    wanted = np.stack([rng.integers(1, 90, 5000), rng.integers(1, 6000, 5000)]).astype(float)

    def by_hand(point):
        distance = ((sizes - point) ** 2).sum(axis=1)
        below = (sizes <= point).all(axis=1)
        chosen = np.where(below, distance, np.inf).argmin() if below.any() else distance.argmin()
        return mfu[chosen] or mfu[mfu > 0][distance[mfu > 0].argmin()]

    got = Surface.from_points(*sizes.T, mfu).nearest(*wanted)
    np.testing.assert_array_equal(got, [by_hand(point) for point in wanted.T])


def test_a_surface_interpolates_clamps_and_counts_a_missing_corner_as_zero():
    full = surface((1, 100, 0.1), (1, 200, 0.2), (3, 100, 0.3), (3, 200, 0.8))
    got = full.interpolated(floats(1, 2, 2, 3, 0, 9, 2), floats(100, 100, 150, 200, 0, 150, 999))
    np.testing.assert_allclose(got, [0.1, 0.2, 0.35, 0.8, 0.1, 0.55, 0.5], rtol=1e-14)
    ragged = surface((1, 100, 0.1), (1, 200, 0.2), (3, 100, 0.4))
    assert ragged.missing == 1
    got = ragged.interpolated(floats(2, 2.9, 3), floats(150, 190, 200))
    # At the missing corner: 0, so the nearest
    np.testing.assert_allclose(got, [0.175, 0.05 * 0.19 + 0.95 * 0.04, 0.2])


def test_a_surface_of_one_line_is_a_curve():
    line = surface((4, 100, 0.1), (4, 200, 0.3))
    np.testing.assert_allclose(
        line.interpolated(floats(1, 4, 9), floats(150, 150, 500)), [0.2, 0.2, 0.3]
    )
    assert surface((4, 100, 0.1)).interpolated(floats(1, 9), floats(1, 900)).tolist() == [0.1, 0.1]


def test_an_attention_that_was_not_measured_takes_the_nearest_configuration_first_of_equals():
    measured = table(
        prefill={Heads(32, 8, 128): curve((512, 0.5)), Heads(40, 8, 128): curve((512, 0.6))}
    )
    assert measured.attention_config(Heads(40, 8, 128)) == (40, 8, 128)
    assert measured.attention_config(Heads(36, 8, 128)) == (32, 8, 128)
    assert measured.attention_config(Heads(36, 9, 64)) == (32, 8, 128)
    assert measured.attention_config(Heads(37, 8, 128)) == (40, 8, 128)
    assert measured.prefill_mfu(Heads(37, 8, 128), floats(512)).tolist() == [0.6]


def test_a_matrix_that_was_not_measured_takes_the_nearest_larger_one_else_the_last():
    shapes = [Shape(110, 100), Shape(100, 110), Shape(400, 400), Shape(50, 50)]
    measured = table(gemm={shape: curve((1, 0.1 * (i + 1))) for i, shape in enumerate(shapes)})
    assert measured.gemm_shape(Shape(100, 110)) == (100, 110)
    assert measured.gemm_shape(Shape(100, 100)) == (110, 100)
    assert measured.gemm_shape(Shape(101, 101)) == (400, 400)
    assert measured.gemm_shape(Shape(401, 1)) == (50, 50)
    np.testing.assert_allclose(measured.gemm_mfu(floats(7), Shape(101, 101)), 0.3)


def test_a_degree_that_was_not_measured_takes_one_or_interpolating_the_nearest_the_lower_of_two():
    heads = Heads(8, 8, 64)
    measured = table(decode={heads: {tp: surface((1, 1, 0.01 * tp)) for tp in (1, 2, 4, 8)}})
    nearest = [measured.decode_tp(heads, tp, interpolate=False) for tp in (1, 2, 3, 6, 16)]
    interpolated = [measured.decode_tp(heads, tp, interpolate=True) for tp in (1, 2, 3, 6, 16)]
    assert (nearest, interpolated) == ([1, 2, 1, 1, 1], [1, 2, 2, 4, 8])
    assert measured.decode_mfu(heads, floats(1), floats(1), 6, interpolate=True).tolist() == [0.04]
    lacking = table(decode={heads: {4: surface((1, 1, 0.1))}})
    assert lacking.decode_tp(heads, 2, interpolate=True) == 4
    with pytest.raises(
        MfuTableError,
        match=r"there: decode attention 8-8-64 .* neither -tp2.csv nor -tp1.csv .*-tp4",
    ):
        lacking.decode_mfu(heads, floats(1), floats(1), 2)


def test_a_folder_is_found_by_a_gpus_name_in_any_case():
    database = load_mfu_table(MADE_UP, "X100")
    assert database.gpu == "x100"
    assert [str(heads) for heads in database.prefill] == ["28-4-128", "32-32-128", "64-8-128"]
    assert sorted(database.decode[Heads(64, 8, 128)]) == [1, 2, 8]
    assert database.last_shape == (8192, 28672)


GEMM, PREFILL = "gemm/x100/data.csv", "mha/prefill/x100/28-4-128.csv"
DECODE = "mha/decode/x100/28-4-128-tp1.csv"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (GEMM, None, r"data.csv: no such file. Put"),
        (GEMM, "", r"data.csv, line 1: column m is missing \(columns: none\)"),
        (
            GEMM,
            "m,k,n,latency_us\n8,1,1,3\n",
            r"data.csv, line 1: column mfu is missing \(columns: m, k, n, latency_us\)",
        ),
        (GEMM, "m,k,n,mfus\n8,1,1,3\n", r"column mfu is missing .*did you mean 'mfus'"),
        (GEMM, "m,k,n,mfu,k\n8,1,1,0.3,1\n", r"line 1: column k stands there twice"),
        (GEMM, "m,k,n,mfu\n", r"data.csv: has no row of measurements"),
        (
            GEMM,
            "m,k,n,mfu\n8,1,1,0.3\n\n16,1,1,much\n",
            r"data.csv, line 4, column mfu: 'much' is not a number",
        ),
        (
            GEMM,
            "m,k,n,mfu\n8,1,1,62\n",
            r"line 2, column mfu: must be from 0 to 1 .*percentage\), got 62",
        ),
        (GEMM, "m,k,n,mfu\n8,1,1,nan\n", r"line 2, column mfu: must be from 0 to 1"),
        (
            GEMM,
            "m,k,n,mfu\n8.5,1,1,0.3\n",
            r"line 2, column m: must be a whole number from 1, got 8.5",
        ),
        (GEMM, "m,k,n,mfu\n8,0,1,0.3\n", r"line 2, column k: must be a whole number"),
        (GEMM, "m,k,n,mfu\n8,1,inf,0.3\n", r"line 2, column n: must be a whole number"),
        (GEMM, "m,k,n,mfu\n8,1,1\n", r"line 2, column mfu: '' is not a number"),
        (
            GEMM,
            "m,k,n,mfu\n8,1,1,0.3\n9,1,1,0.3\n8,1,1,0.2\n",
            r"line 4: repeats m 8, k 1, n 1 of line 2. Keep one",
        ),
        (
            GEMM,
            "m,k,n,mfu\n8,1,1,0.3\n8,2,3,0\n9,2,3,0.00001\n",
            r"shape k 2, n 3: every mfu is below 0.0001",
        ),
        (GEMM, b"m,k,n,mfu\n8,1,1,\xff\n", r"data.csv: is not CSV text in UTF-8"),
        (GEMM, "m,k,n,mfu\n8,1,1," + "9" * 200_000 + "\n", r"data.csv: is not CSV text"),
        (PREFILL, "seq_len,mfu\n512,0\n", r"28-4-128.csv: every mfu is below"),
        (
            PREFILL.replace("28-4", "28x4"),
            "seq_len,mfu\n512,0.1\n",
            r"must be named <heads>-<kv heads>-<head dim>.csv",
        ),
        (
            PREFILL.replace("28-4", "28-0"),
            "seq_len,mfu\n512,0.1\n",
            r"must be named <heads>-<kv heads>-<head dim>.csv",
        ),
        (
            PREFILL.replace("28-4", "9-9"),
            "seq_len,mfu\n512,0.1\n",
            r"no decode benchmark of attention 9-9-128 .*28-4",
        ),
        (
            DECODE,
            "batch,kv_len,mfu\n1,1,0.1\n",
            r"column batch_size is missing .*did you mean 'batch'",
        ),
        (
            DECODE.replace("-tp1", "-tp"),
            "batch_size,kv_len,mfu\n1,1,0.1\n",
            r"must be named .*-tp<N>.csv",
        ),
        (
            DECODE.replace("-tp1", ""),
            "batch_size,kv_len,mfu\n1,1,0.1\n",
            r"28-4-128.csv: is of TP 1, as 28-4-128-tp1.csv is. Keep one|28-4-128-tp1.csv: is of TP 1",
        ),
    ],
)
def test_a_bad_file_is_named_with_line_column_and_fix(tmp_path, file, text, message):
    shutil.copytree(MADE_UP, tmp_path / "db")
    path = tmp_path / "db" / file
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MfuTableError, match=message) as error:
        load_mfu_table(tmp_path / "db", "x100")
    assert str(tmp_path) in str(error.value)


def test_a_decode_benchmark_without_a_degree_in_its_name_is_of_one_gpu(tmp_path):
    shutil.copytree(MADE_UP, tmp_path / "db")
    before = load_mfu_table(tmp_path / "db", "x100")
    decode = tmp_path / "db" / DECODE
    decode.rename(decode.with_name("28-4-128.csv"))
    after = load_mfu_table(tmp_path / "db", "x100")
    heads = next(heads for heads in before.decode if str(heads) == "28-4-128")
    assert set(after.decode[heads]) == set(before.decode[heads]) == {1, 4}


def test_a_byte_order_mark_spaces_and_other_columns_do_not_count(tmp_path):
    shutil.copytree(MADE_UP, tmp_path / "db")
    (tmp_path / "db" / PREFILL).write_text(
        "\ufeffnote, seq_len ,mfu\na,512, 0.25 \n\n,1024.0,0.5\n", encoding="utf-8"
    )
    (tmp_path / "db" / "mha/prefill/x100/README.md").write_text("not a benchmark")
    got = load_mfu_table(tmp_path / "db", "x100").prefill[Heads(28, 4, 128)]
    assert (got.size.tolist(), got.mfu.tolist()) == ([512, 1024], [0.25, 0.5])


def test_a_missing_folder_or_gpu_is_named_with_what_there_is(tmp_path):
    with pytest.raises(MfuTableError, match=r"gemm: no such folder.*mha/decode"):
        load_mfu_table(tmp_path, "x100")
    with pytest.raises(MfuTableError, match=r"no benchmarks of GPU 'x200' \(it has x100\)$"):
        load_mfu_table(MADE_UP, "x200")
    shutil.copytree(MADE_UP, tmp_path / "db")
    shutil.rmtree(tmp_path / "db/mha/decode/x100")
    with pytest.raises(MfuTableError, match=r"decode: no benchmarks of GPU 'x100' \(it has none\)"):
        load_mfu_table(tmp_path / "db", "x100")
    for file in (tmp_path / "db/mha/prefill/x100").iterdir():
        file.unlink()
    with pytest.raises(MfuTableError, match="holds no prefill benchmark"):
        load_mfu_table(tmp_path / "db", "x100")


@pytest.mark.parametrize("name", ["../x100", "/etc", "", "a/b", ".."])
def test_a_gpus_name_never_becomes_another_path(name):
    with pytest.raises(HardwareError, match="is not a GPU name"):
        load_mfu_table(MADE_UP, name)


def test_holes_name_what_the_steps_need_and_the_database_lacks():
    steps = StepTable.from_columns(
        {
            "model": ["llama-3.1-8b", "llama-3.1-8b", "llama-2-7b"],
            "tp": [2, 1, 1],
            "num_prefill_requests": [0, 1, 1],
            "sum_prefill_tokens": [0, 70000, 2000],
            "num_decode_requests": [300, 0, 2],
            "sum_decode_kv_tokens": [300 * 400, 0, 2000],
        }
    )
    lines = [str(hole) for hole in find_holes(load_mfu_table(MADE_UP, "x100"), steps)]
    assert [line for line in lines if line.startswith("llama-3.1-8b")] == [
        f"llama-3.1-8b: not measured: {hole}"
        for hole in (
            "attention 32-8-128; taken instead: attention 28-4-128",
            "prefill attention 28-4-128: seq_len up to 70000; taken instead: 32768",
            "GEMM k 4096, n 4096: m up to 70000; taken instead: 65536",
            "GEMM k 4096, n 1024; taken instead: k 4096, n 4096",
            "GEMM k 4096, n 14336: m up to 70000; taken instead: 65536",
            "GEMM k 14336, n 4096: m up to 70000; taken instead: 65536",
            "decode attention 28-4-128 at tp 2; taken instead: tp 1 in roofline-v2, tp 1 in roofline-v2-interp",
            "decode attention 28-4-128-tp1: batch_size up to 300; taken instead: 256",
            "decode attention 28-4-128-tp1: kv_len down to 400; taken instead: 512",
            "decode attention 28-4-128-tp1: 2 of its grid points; taken instead: the nearest (0 in roofline-v2-interp)",
        )
    ]
    assert not any("attention 32-32-128;" in line for line in lines)
    assert "llama-2-7b: not measured: GEMM k 4096, n 11008; taken instead: k 4096, n 14336" in lines


def test_a_table_that_travelled_is_known_again_and_another_is_not():
    here = table()
    digest = here.digest
    assert pickle.loads(pickle.dumps(here)).digest == digest
    assert table(gemm={Shape(8, 8): curve((1, 0.6))}).digest != digest
