"""Loading campaigns: the same from CSV and Parquet, and every bad line named."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from calibrate.campaign.campaign import load_campaign, load_campaigns
from calibrate.campaign.folders import check_campaign_name
from calibrate.campaign.info import CampaignInfo
from calibrate.campaign.peaks import check_peaks
from calibrate.campaign.quality import check_coverage, check_runs
from calibrate.cli import main
from calibrate.parameters.start import starting_hardware
from calibrate.records.errors import CalibrateError
from sim import Batch, Hardware, HardwareError
from tests.conftest import GUIDE_H100
from tests.synthetic import synthetic_steps, write_campaign

HEADER = "model,tp,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens,latency_us"
GOOD = "llama-3.1-8b,1,0,0,4,4000,9000"


def campaign_of(tmp_path, text, **others):
    """Load a campaign whose steps.csv is ``text``; ``others`` are further tables."""
    folder = tmp_path / "H100" / "one"
    folder.mkdir(parents=True)
    (folder / "campaign.toml").write_text('title = "test"\n')
    for name, content in {"steps": text, **others}.items():
        (folder / f"{name}.csv").write_bytes(
            content.encode() if isinstance(content, str) else content
        )
    return load_campaign(folder, "H100")


def found(campaign, severity="error"):
    return [(p.lines, p.column, p.value) for p in campaign.problems if p.severity == severity]


def test_csv_and_parquet_give_the_same_campaign(tmp_path, h100):
    steps = synthetic_steps(h100, 30, noise=0.05).assign(step_id=[str(i) for i in range(30)])
    csv = load_campaign(write_campaign(tmp_path, "H100", steps, "csv"), "H100", h100)
    folder = tmp_path / "H100" / "parquet"
    folder.mkdir()
    steps.to_parquet(folder / "steps.parquet")
    parquet = load_campaign(folder, "H100", h100)
    pd.testing.assert_frame_equal(csv.steps, parquet.steps)
    np.testing.assert_array_equal(csv.table.moments, parquet.table.moments)
    assert csv.table.architectures == parquet.table.architectures
    assert csv.table.tp.tolist() == parquet.table.tp.tolist()
    assert (csv.files[0].rows, csv.files[0].used, csv.files[0].dropped) == (30, 30, 0)
    assert csv.problems == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"tp": "Int64"},
        {"num_decode_requests": "float32"},
        {"model": "category"},
        {"model": "string"},
    ],
)
def test_the_types_of_a_parquet_file_do_not_matter(tmp_path, h100, changes):
    steps = synthetic_steps(h100, 12)
    for name, kind in (("plain", {}), ("typed", changes)):
        (tmp_path / name).mkdir()
        steps.astype(kind).to_parquet(tmp_path / name / "steps.parquet")
    plain, typed = (load_campaign(tmp_path / name, "H100", h100) for name in ("plain", "typed"))
    np.testing.assert_array_equal(plain.table.moments, typed.table.moments)
    assert [p for p in typed.problems if p.severity == "error"] == []


@pytest.mark.parametrize("cells", [[[1]] * 3, [{"a": 1}] * 3, [b"\x00"] * 3])
def test_an_unknown_parquet_column_of_any_type_is_kept_with_a_warning(tmp_path, h100, cells):
    synthetic_steps(h100, 3).assign(extra=cells).to_parquet(tmp_path / "steps.parquet")
    campaign = load_campaign(tmp_path, "H100", h100)
    assert len(campaign.steps) == 3
    assert [p.column for p in campaign.problems if "unknown column" in p.message] == ["extra"]


@pytest.mark.parametrize("cells", [[[1]] * 3, [{"a": 1}] * 3, [b"\x00"] * 3])
@pytest.mark.parametrize("column", ["latency_us", "tp"])
def test_a_parquet_cell_that_is_no_number_is_an_error_with_its_line(tmp_path, h100, column, cells):
    synthetic_steps(h100, 3).assign(**{column: cells}).to_parquet(tmp_path / "steps.parquet")
    campaign = load_campaign(tmp_path, "H100", h100)
    assert [(p.column, p.lines) for p in campaign.problems if p.severity == "error"] == [
        (column, (2, 3, 4))
    ]


def test_column_order_spaces_and_a_byte_order_mark_do_not_count(tmp_path):
    names = HEADER.split(",")[::-1]
    text = "\ufeff" + " , ".join(names) + "\r\n" + " , ".join(GOOD.split(",")[::-1]) + "\r\n"
    campaign = campaign_of(tmp_path, text)
    assert campaign.problems == ()
    assert (
        campaign.table.moments[:, 0].tolist()
        == Batch.from_requests(decode=[(1000, 4)]).moments.tolist()
    )


def test_the_requests_table_gives_the_moments_of_the_requests(tmp_path):
    steps = (
        "step_id,model,tp,num_prefill_requests,num_decode_requests,latency_us\n"
        "a,llama-3.1-8b,1,,,900000\nb,llama-3.1-8b,1,,,900000\nc,llama-3.1-8b,1,0,1,900000\n"
    )
    steps = steps.replace("latency_us\n", "latency_us,sum_decode_kv_tokens\n").replace(
        "900000\n", "900000,\n"
    )
    steps = steps.replace("c,llama-3.1-8b,1,0,1,900000,", "c,llama-3.1-8b,1,0,1,900000,77")
    requests = (
        "step_id,phase,context_tokens,new_tokens,count\n"
        "a,prefill,100,700,1\nb,decode,5,,\na,prefill,0,1,3\na,prefill,40,1,\na,decode,900,,2\nb,decode,6,1,7\na,prefill,8,33,2\n"
    )
    campaign = campaign_of(tmp_path, steps, requests=requests)
    assert found(campaign) == []
    expected = [
        Batch.from_requests([(100, 700), (0, 1, 3), (40, 1), (8, 33, 2)], [(900, 2)]),
        Batch.from_requests(decode=[(5, 1), (6, 7)]),
        Batch.from_requests(decode=[(77, 1)]),
    ]
    assert campaign.table.moments.T.tolist() == [batch.moments.tolist() for batch in expected]
    prefill = campaign.table.requests.prefill
    assert prefill.take([0]).values.T.tolist() == [[100, 700, 1], [0, 1, 3], [40, 1, 1], [8, 33, 2]]
    assert campaign.table.requests.decode.take([2]).values.T.tolist() == [[77, 1]]
    assert [(f.table, f.rows, f.used) for f in campaign.files] == [
        ("steps", 3, 3),
        ("requests", 7, 7),
    ]


def test_bad_requests_are_named_with_their_lines(tmp_path):
    steps = f"step_id,{HEADER}\na,{GOOD}\n"
    requests = (
        "step_id,phase,context_tokens,new_tokens,count\n"
        "a,prefill,1,,1\na,warmup,1,1,1\nlost,decode,1,,1\na,decode,-1,,1\na,decode,5,,x\na,decode,10,,2\n"
    )
    campaign = campaign_of(tmp_path, steps, requests=requests)
    assert sorted(found(campaign)) == [
        ((2,), "new_tokens", "nan"),
        ((3,), "phase", "warmup"),
        ((4,), "step_id", "lost"),
        ((5,), "context_tokens", "-1"),
        ((6,), "count", "x"),
    ]
    assert (
        campaign.table.moments[:, 0].tolist()
        == Batch.from_requests(decode=[(10, 2)]).moments.tolist()
    )


def test_line_numbers_are_those_of_the_file(tmp_path):
    text = "\n".join(
        [
            "note," + HEADER,  # 1
            "," + GOOD,
            "",
            f'"a note\nof\nthree lines",{GOOD.replace("9000", "-5")}',  # 4 to 6
            "\u2028 and \x0c and \x85 end no line," + GOOD.replace("4000", "x"),  # 7
            f'"two\r\nlines",{GOOD}',  # 8 to 9
            "",
            "," + GOOD.replace("4,4000", "4,4000,1"),  # 11
            "   ",  # 12
            "," + GOOD.replace("9000", "0"),  # 13
        ]
    )
    campaign = campaign_of(tmp_path, text)
    assert sorted(found(campaign)) == [
        ((4, 13), "latency_us", "-5"),
        ((7,), "sum_decode_kv_tokens", "x"),
        ((11,), None, None),
    ]
    assert campaign.steps["line"].tolist() == [2, 8]


def test_every_bad_line_is_in_the_problem_and_the_first_is_shown(tmp_path):
    lines = [GOOD.replace("9000", "-1") if i % 3 == 0 else GOOD for i in range(60)]
    campaign = campaign_of(tmp_path, "\n".join([HEADER, *lines]))
    (problem,) = (p for p in campaign.problems if p.severity == "error")
    assert problem.lines == tuple(range(2, 62, 3))
    assert f"{campaign.folder / 'steps.csv'}:2: latency_us = -1: must be a positive number" in str(
        problem
    )
    assert "(also lines 5, 8, 11, 14, 17, 20, 23, 26 and 11 more)" in str(problem)
    assert campaign.files[0].dropped == 20


ROWS = {  # a row and the column and words of its error
    "llama-3.1-8b,0,0,0,4,4000,9000": ("tp", "must be 1 or more"),
    "llama-3.1-8b,1.5,0,0,4,4000,9000": ("tp", "must be a whole number"),
    "llama-3.1-8b,9999,0,0,4,4000,9000": ("tp", "larger than 4096"),
    ",1,0,0,4,4000,9000": ("model", "is empty"),
    "llama-3.1-8b,1,0,0,4,4000,": ("latency_us", "is empty"),
    "lama-3.1-8b,1,0,0,4,4000,9000": ("model", "did you mean 'llama-3.1-8b'"),
    "llama-3.1-8b,1,0,0,0,0,9000": ("num_prefill_requests", "without any request"),
    "llama-3.1-8b,1,,,,,9000": ("num_prefill_requests", "without any request"),
    "llama-3.1-8b,1,4,3,0,0,9000": ("sum_prefill_tokens", "fewer tokens than prefill requests"),
    "llama-3.1-8b,1,0,3,1,9,9000": (
        "sum_prefill_tokens",
        "prefill tokens without a prefill request",
    ),
    "llama-3.1-8b,1,0,0,4,3,9000": (
        "sum_decode_kv_tokens",
        "fewer context tokens than decode requests",
    ),
    "llama-3.1-8b,1,1,9,0,3,9000": (
        "sum_decode_kv_tokens",
        "decode context without a decode request",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_makes_no_sense_is_an_error_and_is_left_out(tmp_path, row):
    column, words = ROWS[row]
    campaign = campaign_of(tmp_path, f"{HEADER}\n{GOOD}\n{row}\n{GOOD.replace('4000', '4001')}\n")
    errors = [p for p in campaign.problems if p.severity == "error"]
    assert [(p.column, p.lines) for p in errors] == [(column, (3,))]
    assert words in str(errors[0])
    assert campaign.steps["line"].tolist() == [2, 4]
    assert len(campaign.table) == 2


def test_an_unknown_column_and_a_missing_one_are_named_with_the_nearest(tmp_path):
    campaign = campaign_of(
        tmp_path, f"{HEADER.replace('latency_us', 'latency')},colour\n{GOOD},red\n"
    )
    messages = {p.column: (p.severity, str(p)) for p in campaign.problems}
    assert set(messages) == {"latency", "latency_us", "colour"}
    assert messages["latency"][0] == "warning"
    assert "did you mean 'latency_us'" in messages["latency"][1]
    assert messages["latency_us"][0] == "error"
    assert "did you mean 'latency'" in messages["latency_us"][1]
    assert f"present: {HEADER.split(',')[0]}, " in messages["latency_us"][1]
    assert len(campaign.steps) == 0


def test_an_unknown_column_is_kept(tmp_path):
    campaign = campaign_of(tmp_path, f"{HEADER},colour\n{GOOD},red\n")
    assert campaign.steps["colour"].tolist() == ["red"]


def test_two_tables_of_one_name_are_an_error(tmp_path, h100):
    folder = write_campaign(tmp_path, "H100", synthetic_steps(h100, 6))
    synthetic_steps(h100, 6).to_parquet(folder / "steps.parquet")
    (problem,) = load_campaign(folder, "H100").problems
    assert (problem.severity, problem.message) == ("error", "stands beside steps.parquet")


def test_a_folder_without_tables_is_an_error(tmp_path):
    problems = load_campaign(tmp_path, "H100").problems
    assert [p.severity for p in problems if "holds no table" in p.message] == ["error"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "is not readable TOML"),
        ('title = "a"\ntitle = "b"', "is not readable TOML"),
        ('kind = "guessed"', "'measured', 'kernel-composed' or 'synthetic'"),
        ("title = 3", "title = 3"),
        ('collected = "yesterday"', "collected = yesterday"),
        (b"\xff\xfe\x00", "is not UTF-16 text (byte 2, 0x00"),
        ("a = " + "9" * 5000, "is not readable TOML"),
        ("a = " + "9" * 400, "a is too large: it has more than 300 digits"),
        ("a = " + "[" * 5000, "is not readable TOML"),
    ],
)
def test_a_malformed_campaign_file_is_an_error(tmp_path, h100, text, words):
    folder = write_campaign(tmp_path, "H100", synthetic_steps(h100, 6))
    (folder / "campaign.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    (problem,) = load_campaign(folder, "H100").problems
    assert problem.severity == "error"
    assert words in str(problem)
    assert problem.file == str(folder / "campaign.toml")


def test_a_missing_campaign_file_is_a_warning_only(tmp_path, h100):
    folder = write_campaign(tmp_path, "H100", synthetic_steps(h100, 6))
    (folder / "campaign.toml").unlink()
    campaign = load_campaign(folder, "H100")
    assert [p.severity for p in campaign.problems] == ["warning"]
    assert campaign.info == CampaignInfo()


def test_further_keys_of_a_campaign_file_are_kept(tmp_path, h100):
    folder = write_campaign(tmp_path, "H100", synthetic_steps(h100, 6), info={"driver": "570"})
    assert load_campaign(folder, "H100").info.driver == "570"


def test_a_row_to_the_letter_the_same_is_a_warning(tmp_path):
    campaign = campaign_of(
        tmp_path, f"{HEADER}\n{GOOD}\n{GOOD}\n{GOOD.replace('9000', '9001')}\n{GOOD}\n"
    )
    assert found(campaign, "warning") == [((3, 5), "latency_us", "9000")]
    assert len(campaign.steps) == 4


def test_replicates_that_spread_and_outliers_among_them_are_warnings(tmp_path):
    wide = [GOOD.replace("9000", str(v)) for v in (9000, 10500, 12000)]
    outlier = [GOOD.replace("4,4000,9000", f"8,8000,{v}") for v in (9000, 9001, 9002, 20000)]
    tight = [GOOD.replace("4,4000,9000", f"16,16000,{v}") for v in (9000, 9100, 9200)]
    campaign = campaign_of(tmp_path, "\n".join([HEADER, *wide, *outlier, *tight]))
    warnings = {p.message: p.lines for p in campaign.problems}
    spread, off = (
        "its replicates spread by more than 10%",
        "is 1.5 times off the median of its replicates",
    )
    assert set(warnings) == {spread, off}
    assert warnings[off] == (8,)
    assert {2, 3, 4} <= set(warnings[spread])
    assert not {8, 9, 10, 11} & set(warnings[spread])


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"tps": [2]}, "only tp 2"),
        ({"models": ["llama-3.1-8b"]}, "only the model llama-3.1-8b"),
        ({"phases": ["decode"]}, "no prefill steps"),
        ({"phases": ["prefill"]}, "no decode steps"),
    ],
)
def test_a_campaign_of_one_regime_is_warned_of(tmp_path, h100, limits, words):
    def messages(name, **kwargs):
        campaign = load_campaign(
            write_campaign(tmp_path, "H100", synthetic_steps(h100, 48, **kwargs), name), "H100"
        )
        problems = check_coverage("here", campaign.table)
        assert {p.severity for p in problems} <= {"warning"}
        return [p.message for p in problems]

    assert messages("all") == []
    assert words in messages("some", **limits)


def test_small_decode_batches_only_are_warned_of(tmp_path):
    assert "no decode above batch 4" in [
        p.message for p in check_coverage("here", campaign_of(tmp_path, f"{HEADER}\n{GOOD}").table)
    ]


def test_a_step_faster_than_physics_is_left_out_with_the_likely_cause(tmp_path, h100):
    steps = synthetic_steps(h100, 12)
    steps.loc[[3, 7], "latency_us"] /= 1000
    campaign = load_campaign(write_campaign(tmp_path, "H100", steps), "H100", h100)
    (problem,) = campaign.problems
    assert (problem.severity, problem.lines, problem.column) == ("error", (5, 9), "latency_us")
    assert "faster than physics: H100's peaks (989.5 dense TFLOP/s, 3.35 TB/s)" in problem.message
    assert (
        "milliseconds given as microseconds, or seconds as milliseconds: multiply by 1000"
        in problem.fix
    )
    assert campaign.steps["line"].tolist() == [2, 3, 4, 6, 7, 8, 10, 11, 12, 13]
    assert len(campaign.table) == 10


def test_a_model_folder_inside_the_ground_truth_is_found_and_one_outside_is_not(tmp_path):
    config = {"num_hidden_layers": 4, "hidden_size": 512, "num_attention_heads": 8}
    truth = tmp_path / "truth"
    for place in (truth / "H100" / "one" / "mine", tmp_path / "mine"):
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(config))
    folder = truth / "H100" / "one"
    row = GOOD.removeprefix("llama-3.1-8b")
    (folder / "steps.csv").write_text(f"{HEADER}\nmine{row}\n../../../mine{row}\n")
    campaign = load_campaign(folder, "H100")
    assert campaign.steps["model"].tolist() == ["mine"]
    assert campaign.table.architectures[0].num_layers == 4
    assert [p.lines for p in campaign.problems if p.severity == "error"] == [(3,)]


def test_campaigns_are_loaded_by_alias_sorted_and_by_name(tmp_path, h100):
    for name in ("b", "a", "c"):
        write_campaign(tmp_path, "A100-SXM", synthetic_steps(h100, 6), name)
    assert [c.name for c in load_campaigns(tmp_path, "A100-80")] == ["a", "b", "c"]
    assert [c.name for c in load_campaigns(tmp_path, "a100-sxm", ["c", "a"])] == ["c", "a"]
    with pytest.raises(CalibrateError, match=r"no campaign 'bb' \(it has a, b, c\).*'b'"):
        load_campaigns(tmp_path, "A100-SXM", ["bb"])
    with pytest.raises(CalibrateError, match=r"no campaigns for GPU 'H100' \(it has A100-SXM\)"):
        load_campaigns(tmp_path, "H100")
    with pytest.raises(HardwareError, match="is not a GPU name"):
        load_campaigns(tmp_path, "../A100-SXM")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/x", ".hidden", "a..b", "x" * 101, "a\n"]
)
def test_a_campaign_name_with_a_path_in_it_is_refused(name):
    with pytest.raises(CalibrateError, match="is not a campaign name"):
        check_campaign_name(name)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0, *capsys.readouterr()


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "hardware_config.json"
    path.write_text(json.dumps({"H100": GUIDE_H100}))
    return path


def test_validate_prints_one_json_document(tmp_path, h100, config, monkeypatch, capsys):
    steps = synthetic_steps(h100, 12)
    steps.loc[4, "latency_us"] = -1
    write_campaign(tmp_path / "truth", "H100", steps, "bad")
    write_campaign(tmp_path / "truth", "H100", synthetic_steps(h100, 12), "good")
    options = ["--ground-truth", tmp_path / "truth", "--hardware-config", config, "--json"]
    code, out, err = run(monkeypatch, capsys, "validate", *options)
    report = json.loads(out)
    assert (code, report["errors"], err) == (1, 1, "")
    bad, good = report["campaigns"]
    assert (bad["gpu"], bad["campaign"], good["campaign"]) == ("H100", "bad", "good")
    assert (bad["tables"][0]["rows"], bad["tables"][0]["used"]) == (12, 11)
    (error,) = (p for p in bad["problems"] if p["severity"] == "error")
    assert (error["lines"], error["column"], error["value"]) == ([6], "latency_us", "-1.0")
    code, out, _ = run(
        monkeypatch, capsys, "validate", *options, "--gpu", "h100", "--campaign", "good"
    )
    assert (code, json.loads(out)["errors"]) == (0, 0)


def test_validate_checks_physics_by_the_registry_where_the_configuration_lacks_the_gpu(
    tmp_path, h100, config, monkeypatch, capsys
):
    steps = synthetic_steps(h100, 12)
    write_campaign(tmp_path / "truth", "L40S", steps.assign(latency_us=steps["latency_us"] / 1000))
    options = ["--ground-truth", tmp_path / "truth", "--hardware-config", config]
    code, out, _ = run(monkeypatch, capsys, "validate", *options)
    assert code == 1
    assert "L40S's peaks" in " ".join(out.split())


def test_bad_rows_stop_a_fit_and_are_left_out_on_demand(
    tmp_path, h100, config, monkeypatch, capsys
):
    steps = synthetic_steps(h100, 48)
    steps.loc[[3, 30], "latency_us"] = -1
    write_campaign(tmp_path / "truth", "H100", steps)
    options = ["--gpu", "H100", "--ground-truth", tmp_path / "truth", "--hardware-config", config]
    options += ["--starts", "1", "--dry-run", "--json", "--out", tmp_path / "out"]
    code, out, err = run(monkeypatch, capsys, "fit", *options)
    assert (code, list(json.loads(out))) == (1, ["error"])
    assert "steps.csv:5: latency_us = -1.0: must be a positive number (also line 32)" in err
    code, out, _ = run(monkeypatch, capsys, "fit", *options, "--skip-bad-rows")
    result = json.loads(out)
    assert code == 0
    assert result["fit"]["n_rows"] == 46
    assert [(file["rows"], file["used"], file["dropped"]) for file in result["data"]] == [
        (48, 46, 2)
    ]
    assert any("steps.csv:5" in warning for warning in result["warnings"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("a,prefill,0,0,1", "new_tokens"),
        ("a,prefill,0,,1", "new_tokens"),
        ("a,decode,9,5,1", "new_tokens"),
        ("a,decode,9,,0", "count"),
        ("a,embed,9,1,1", "phase"),
        ("b,decode,9,,1", "step_id"),
    ],
)
def test_requests_that_make_no_sense_are_named(tmp_path, row, column):
    folder = tmp_path / "H100" / "c"
    folder.mkdir(parents=True)
    (folder / "steps.csv").write_text("model,tp,step_id,latency_us\nllama-3.1-8b,1,a,9000\n")
    header = "step_id,phase,context_tokens,new_tokens,count\n"
    (folder / "requests.csv").write_text(f"{header}a,decode,100,,4\n{row}\n")
    (campaign,) = load_campaigns(tmp_path, "H100")
    (problem,) = [p for p in campaign.problems if p.severity == "error"]
    assert (problem.column, problem.lines) == (column, (3,))


def test_steps_that_differ_in_their_requests_are_no_replicates(tmp_path):
    folder = tmp_path / "H100" / "c"
    folder.mkdir(parents=True)
    steps = "".join(f"llama-3.1-8b,1,{i},{9000 * 3**i}\n" for i in range(3))
    (folder / "steps.csv").write_text(f"model,tp,step_id,latency_us\n{steps}")
    requests = "".join(f"{i},decode,{100 + i},4\n" for i in range(3))
    (folder / "requests.csv").write_text(f"step_id,phase,context_tokens,count\n{requests}")
    (campaign,) = load_campaigns(tmp_path, "H100")
    assert [p.message for p in campaign.problems if "replicates" in p.message] == []


@pytest.mark.parametrize(
    ("pairs", "bad"),
    [("0", True), ("1e12", True), ("1048064", False), ("", False), ("2096128", False)],
)
def test_query_key_pairs_that_no_requests_have_are_refused(tmp_path, pairs, bad):
    folder = tmp_path / "H100" / "c"
    folder.mkdir(parents=True)
    header = "model,tp,num_prefill_requests,sum_prefill_tokens,sum_prefill_qk_pairs,latency_us"
    (folder / "steps.csv").write_text(f"{header}\nllama-3.1-8b,1,2,2048,{pairs},48000\n")
    (campaign,) = load_campaigns(tmp_path, "H100")
    assert any(p.column == "sum_prefill_qk_pairs" for p in campaign.problems) == bad


def test_a_peak_with_sparsity_is_noticed(tmp_path):
    config = tmp_path / "hardware_config.json"
    config.write_text('{"H100": {"TFlopsPeak": 1979, "BwPeakTBs": 3.35}}')
    hardware, _ = starting_hardware(config, "H100")
    (problem,) = check_peaks(hardware)
    assert (problem.file, problem.column, problem.value) == (str(config), "TFlopsPeak", "1979")
    assert "sparsity" in problem.message
    assert check_peaks(hardware.with_values({"TFlopsPeak": 989.5})) == []


@pytest.mark.parametrize(
    ("peaks", "fix"),
    [
        ({"BwPeakTBs": 3350.0}, "Probably GB/s: divide by 1000"),
        ({"BwPeakTBs": 3.35e6}, "Probably MB/s: divide by 1000000"),
        ({"BwPeakTBs": 3.35e12}, "Probably B/s: divide by 1000000000000"),
        ({"TFlopsPeak": 989500.0}, "Probably GFLOP/s: divide by 1000"),
        ({"TFlopsPeak": 0.9895}, "Probably PFLOP/s: multiply by 1000"),
    ],
)
def test_peaks_in_another_unit_are_named(peaks, fix):
    hardware = Hardware("MyGPU", {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35})
    assert check_peaks(hardware) == []
    (problem,) = check_peaks(hardware.with_values(peaks))
    assert (problem.severity, problem.column) == ("warning", next(iter(peaks)))
    assert fix in problem.fix


def test_validate_says_what_it_could_not_check_without_peaks(tmp_path, h100, monkeypatch, capsys):
    steps = synthetic_steps(h100, 24)
    steps["latency_us"] /= 1000
    write_campaign(tmp_path, "MyGPU", steps)
    code, out, _ = run(monkeypatch, capsys, "validate", "--ground-truth", tmp_path)
    assert code == 0
    said = " ".join(out.split())
    assert "no row was checked against physics" in said
    assert "--gpu MyGPU --spec TFlopsPeak=… --spec BwPeakTBs=…" in said
    peaks = ("--spec", "TFlopsPeak=989.5", "--spec", "BwPeakTBs=3.35")
    arguments = ("validate", "--ground-truth", tmp_path, *peaks)
    code, out, _ = run(monkeypatch, capsys, *arguments, "--gpu", "MyGPU")
    assert code == 1
    assert "faster than physics" in out
    assert run(monkeypatch, capsys, *arguments)[0] == 2, "of which GPU?"


BATCHES = (1, 4, 16, 64, 256)


def decodes_of(tmp_path, contexts):
    rows = [
        f"llama-3.1-8b,1,0,0,{n},{kv},{9000 + 9 * n + i}"
        for i, (n, kv) in enumerate(zip(BATCHES * (len(contexts) // 5), contexts, strict=True))
    ]
    return campaign_of(tmp_path, "\n".join([HEADER, *rows]))


@pytest.mark.parametrize(
    ("contexts", "flagged"),
    [
        ([1024] * 5, True),
        ([1000, 1100, 950, 1050, 1000] * 2, True),
        ([1024 * n for n in BATCHES], False),
        ([n * length for length in (512, 8192) for n in BATCHES], False),
        ([1024 * n for n in BATCHES[:3]] + [32768, 65536], False),
    ],
)
def test_a_mean_context_where_the_sum_belongs_is_a_warning(tmp_path, contexts, flagged):
    campaign = decodes_of(tmp_path, contexts)
    said = [p for p in campaign.problems if p.column == "sum_decode_kv_tokens"]
    assert [p.severity for p in said] == ["warning"] * flagged
    assert len(campaign.steps) == len(contexts)


def test_a_campaign_of_one_run_is_warned_of():
    steps = pd.DataFrame({"run_id": ["a", "a", "a"]})
    (problem,) = check_runs("H100/one", steps)
    assert (problem.severity, problem.column, problem.value) == ("warning", "run_id", "a")
    assert check_runs("H100/one", pd.DataFrame({"run_id": ["a", "b", "a"]})) == []
    assert check_runs("H100/one", pd.DataFrame({"tp": [1, 1, 1]})) == []
