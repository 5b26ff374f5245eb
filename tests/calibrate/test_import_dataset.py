"""A log becomes a data set: the steps that memory gives, ranks in files of their own, on from where it was killed."""

import functools
import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import completed, forward_pass_dataset, forward_pass_stages, read_source
from calibrate.importers.forward_pass_dataset import Request, import_dataset
from calibrate.records.errors import ImportFormatError, UnreadableError
from calibrate.records.partitions import find_parts
from calibrate.records.reading import json_lines
from tests.conftest import zstd

SAID = {"model": "llama-3.1-8b", "tp": 2}
MIDNIGHT_MS = 1_785_542_400_000  # 2026-08-01


def record(step, rank=0, worker="w-1", **batch):
    prompts = [64 + step, 8] if step % 3 == 0 else []
    decodes = 1 + step % 4
    return {
        "observed_at_unix_ms": MIDNIGHT_MS + 1000 * step,
        "fpm": {
            "worker_id": worker,
            "dp_rank": rank,
            "counter_id": step,
            "wall_time": 0.01 + 1e-4 * (step % 7) + 1e-5 * rank,
            "scheduled_requests": {
                "num_prefill_requests": len(prompts),
                "sum_prefill_tokens": sum(prompts),
                "sum_prefill_kv_tokens": 0,
                "num_decode_requests": decodes,
                "sum_decode_kv_tokens": 100 * decodes,
                "extend_lengths": [*prompts, *[1] * decodes],
                "past_kv_lengths": [*[0] * len(prompts), *[100] * decodes],
                **batch,
            },
        },
    }


def lines(records):
    return "".join(json.dumps(one) + "\n" for one in records).encode()


@pytest.fixture
def imported(tmp_path):
    """Imports a log into a data set; returns what was written and its steps."""

    def run(source, place="", keys=None):
        complete = functools.partial(
            completed, source=str(source), needs=("model", "tp"), said=SAID
        )
        folder = tmp_path / "gt" / "H100" / "log"
        folder.parent.mkdir(parents=True, exist_ok=True)
        said = Request(str(source), "H100", folder, place, keys or {}, "", complete)
        return import_dataset(said), folder

    return run


def steps_in(place):
    parts, problems = find_parts(str(place))
    assert not problems
    frames = [pq.ParquetFile(part.place).read().to_pandas() for part in parts]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def small_parts(monkeypatch):
    """Logs are read, and written, some records at a time."""
    monkeypatch.setattr(json_lines, "_PART_BYTES", 4096)
    monkeypatch.setattr(forward_pass_stages, "_BATCH_ROWS", 7)
    monkeypatch.setattr(forward_pass_dataset, "_GROUP_ROWS", 20)


@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
@pytest.mark.usefixtures("small_parts")
def test_every_form_of_log_gives_the_steps_that_memory_gives(tmp_path, imported, end):
    records = [record(step) for step in range(100)]
    path = tmp_path / f"log{end}"
    content = lines(records)
    if end == ".parquet":
        pd.DataFrame(records).to_parquet(path)
    else:
        pack = {".gz": gzip.compress, ".zst": zstd}.get(path.suffix, bytes)
        path.write_bytes(pack(content))
    written, folder = imported(path)
    whole = read_source("forward-pass-metrics", str(path), "H100", SAID).tables["steps"]
    steps = steps_in(folder / "steps")
    assert written.rows == len(steps) == 100
    shared = [name for name in whole if name in steps and name != "run_id"]
    assert set(whole) - {"step_id"} <= set(steps)
    pd.testing.assert_frame_equal(
        steps[shared].astype(float, errors="ignore"),
        whole[shared].astype(float, errors="ignore"),
        check_dtype=False,
    )


@pytest.mark.usefixtures("small_parts")
def test_lengths_of_requests_become_their_query_key_pairs(tmp_path, imported):
    (tmp_path / "log.jsonl").write_bytes(lines(record(step) for step in range(3)))
    _, folder = imported(tmp_path / "log.jsonl")
    pairs = steps_in(folder / "steps")["sum_prefill_qk_pairs"]
    assert pairs[0] == 64 * 63 / 2 + 8 * 7 / 2
    assert pairs[1:].isna().all()


@pytest.mark.usefixtures("small_parts")
def test_the_slowest_of_ranks_in_files_of_their_own_makes_the_step(tmp_path, imported, monkeypatch):
    monkeypatch.setattr(forward_pass_stages, "_BUCKET_ROWS", 5)
    for rank in range(3):
        content = lines(record(step, rank, f"w-{step % 2}") for step in range(60))
        (tmp_path / f"rank{rank}.jsonl").write_bytes(content)
    written, folder = imported(tmp_path)
    steps = steps_in(folder / "steps")
    assert len(steps) == written.rows == 60
    expected = sorted((0.01 + 1e-4 * (step % 7) + 2e-5) * 1e6 for step in range(60))
    assert sorted(steps["latency_us"]) == pytest.approx(expected)
    assert written.left_out == (
        "120 records of ranks that were faster than the slowest of their step",
    )


def test_folders_and_times_of_a_log_become_keys(tmp_path, imported):
    for node in ("7", "a/b"):
        folder = tmp_path / f"node={node.replace('/', '%2F')}"
        folder.mkdir()
        records = [record(step * 50_000, worker=node) for step in range(3)]
        (folder / "log.jsonl").write_bytes(lines(records))
    _, folder = imported(tmp_path, keys={"engine": "vllm 0.11"})
    parts, _ = find_parts(str(folder / "steps"))
    assert {part.keys for part in parts} == {
        (("date", f"2026-08-0{day}"), ("engine", "vllm 0.11"), ("node", node))
        for node in ("7", "a/b")
        for day in (1, 2)
    }
    steps = load_campaign(folder, "H100").steps
    assert sorted(set(steps["node"])) == ["7", "a/b"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("killed_after", [1, 3, 6, 12])
def test_a_killed_import_goes_on_where_it_was(tmp_path, imported, monkeypatch, killed_after):
    (tmp_path / "log.jsonl").write_bytes(lines(record(step) for step in range(100)))
    written = []
    replace = forward_pass_stages.replace_bytes

    def counted(path, content):
        if len(written) == killed_after:
            raise KeyboardInterrupt
        written.append(path)
        replace(path, content)

    for module in (forward_pass_stages, forward_pass_dataset):
        monkeypatch.setattr(module, "replace_bytes", counted)
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path / "log.jsonl")
    before = set(written)
    written.clear()
    killed_after = -1
    found, folder = imported(tmp_path / "log.jsonl")
    assert before.isdisjoint(written), "what was there was made again"
    assert found.rows == len(steps_in(folder / "steps")) == 100
    assert [path.name for path in folder.parent.iterdir()] == ["log"]


def test_another_log_of_that_name_is_begun_anew(tmp_path, imported):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines(record(step) for step in range(10)))
    shop = tmp_path / "gt" / "H100" / ".log.import"
    (shop / "stages").mkdir(parents=True)
    (shop / "key").write_text("another")
    (shop / "stages" / "00000.json").write_text('["gone.parquet"]')
    assert imported(path)[0].rows == 10


def test_a_record_that_is_cut_off_is_left_out_and_said(tmp_path, imported):
    content = lines(record(step) for step in range(5))
    (tmp_path / "log.jsonl").write_bytes(content[:-20])
    written, _ = imported(tmp_path / "log.jsonl")
    assert written.rows == 4
    assert written.left_out[0].endswith("log.jsonl: the last record is cut off: left out")


@pytest.mark.usefixtures("small_parts")
def test_a_bad_record_far_down_is_named_by_its_line(tmp_path, imported):
    records = [record(step) for step in range(50)]
    records[40]["fpm"]["scheduled_requests"]["sum_prefill_tokens"] = "many"
    (tmp_path / "log.jsonl").write_bytes(lines(records))
    with pytest.raises(UnreadableError, match=r"log.jsonl:\d+: a record is not as the first one"):
        imported(tmp_path / "log.jsonl")


@pytest.mark.parametrize("observed", [1e30, float("inf"), float("nan")])
def test_a_time_that_is_no_day_is_refused(tmp_path, imported, observed):
    records = [record(0), {**record(1), "observed_at_unix_ms": observed}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "log.parquet")
    with pytest.raises(ImportFormatError, match="observed_at_unix_ms must be milliseconds"):
        imported(tmp_path / "log.parquet")


def test_what_pandas_noted_beside_a_table_is_passed_over(tmp_path, imported):
    (tmp_path / "log.jsonl").write_bytes(lines(record(step) for step in range(10)))
    _, folder = imported(tmp_path / "log.jsonl")
    [part] = folder.rglob("*.parquet")
    table = pq.ParquetFile(part).read()
    pq.write_table(table.replace_schema_metadata({"pandas": "damaged"}), part)
    assert len(load_campaign(folder, "H100").steps) == 10


def test_a_log_without_steps_leaves_nothing_behind(tmp_path, imported):
    idle = record(0, num_prefill_requests=0, num_decode_requests=0)
    (tmp_path / "log.jsonl").write_bytes(lines([idle]))
    with pytest.raises(ImportFormatError, match="no record of it is an engine step"):
        imported(tmp_path / "log.jsonl")
    assert not list((tmp_path / "gt" / "H100").iterdir())


def test_a_data_set_may_lie_at_a_url(tmp_path, imported):
    pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    (tmp_path / "log.jsonl").write_bytes(lines(record(step) for step in range(10)))
    _, folder = imported(tmp_path / "log.jsonl", place="memory://fleet/steps")
    campaign = load_campaign(folder, "H100")
    assert len(campaign.steps) == 10
    assert campaign.info.dataset == "memory://fleet/steps"
    assert np.isfinite(campaign.steps["latency_us"]).all()
