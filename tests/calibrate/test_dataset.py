"""Steps in a data set: read and checked by partition, and what is wrong with one named by file, row, value and fix."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibrate.campaign import dataset
from calibrate.campaign.campaign import load_campaign
from calibrate.records import partitions
from calibrate.records.errors import CalibrateError, UnreadableError
from calibrate.records.partitions import blocks_of, find_parts
from calibrate.records.reading.places import files_in
from sim import load_hardware
from tests.conftest import GUIDE_H100
from tests.datasets import write_dataset
from tests.synthetic import synthetic_steps

HARDWARE = load_hardware({"H100": GUIDE_H100})
STEPS = synthetic_steps(HARDWARE, 200, noise=0.03)


@pytest.fixture
def folder(tmp_path):
    """A campaign whose 200 steps are in four files of two nodes."""
    return write_dataset(tmp_path / "gt" / "H100" / "fleet", STEPS)


@pytest.fixture
def beyond_memory(monkeypatch):
    """Every data set is taken for one that memory should not hold."""
    monkeypatch.setattr(dataset, "IN_MEMORY_ROWS", 50)
    monkeypatch.setattr(dataset, "SAMPLE_ROWS", 40)


def part(folder, number):
    return next(folder.rglob(f"part-{number:05}.parquet"))


def errors_of(folder):
    problems = load_campaign(folder, "H100", HARDWARE).problems
    return [str(problem) for problem in problems if problem.severity == "error"]


def rewritten(path, change):
    steps = pq.ParquetFile(path).read().to_pandas()
    change(steps)
    pq.write_table(pa.Table.from_pandas(steps, preserve_index=False), path)


def test_a_small_data_set_is_a_campaign_like_any_other(folder):
    campaign = load_campaign(folder, "H100", HARDWARE)
    assert campaign.dataset is None
    assert not campaign.problems
    assert sorted(campaign.steps["latency_us"]) == sorted(STEPS["latency_us"])
    assert set(campaign.steps["node"]) == {"0", "1"}
    (file,) = campaign.files
    assert (file.table, file.rows, file.used, file.dropped) == ("steps", 200, 200, 0)


@pytest.mark.usefixtures("beyond_memory")
def test_of_a_large_one_some_rows_of_every_slice_stand_for_all(folder):
    campaign = load_campaign(folder, "H100", HARDWARE)
    assert campaign.dataset is not None
    assert campaign.files[0].used == 200
    everything = set(zip(STEPS["model"], STEPS["tp"], strict=True))
    assert set(zip(campaign.steps["model"], campaign.steps["tp"], strict=True)) == everything


def test_row_groups_are_read_a_piece_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(partitions, "PIECE_ROWS", 16)
    folder = write_dataset(tmp_path / "gt" / "H100" / "c", STEPS, files=2, group_rows=30)
    parts, _ = find_parts(str(folder / "steps"))
    blocks = blocks_of(parts, most_rows=60)
    assert [block.rows for block in blocks] == [60, 40, 60, 40]
    assert [block.number for block in blocks] == [0, 60, 100, 160]
    lines = load_campaign(folder, "H100").steps["line"]
    assert sorted(lines) == list(range(2, 202))


def test_a_bad_row_is_named_by_its_file_row_value_and_fix(folder):
    rewritten(part(folder, 2), lambda steps: steps.__setitem__("latency_us", -1.0))
    (error,) = errors_of(folder)
    assert error.startswith(f"{part(folder, 2)}:2: latency_us = -1.0: must be a positive number")
    assert "true of 50 rows of this file" in error


def test_what_is_wrong_with_many_files_is_said_once(folder):
    for number in range(4):
        rewritten(part(folder, number), lambda steps: steps.__setitem__("tp", 0))
    (error,) = errors_of(folder)
    assert "tp = 0: must be 1 or more (true of 200 rows of 4 files)" in error


def test_rows_faster_than_physics_are_refused_in_any_partition(folder):
    rewritten(part(folder, 3), lambda steps: steps.__setitem__("latency_us", 1e-3))
    assert "faster than physics" in errors_of(folder)[0]


def test_a_row_without_a_run_is_of_the_run_of_its_partition(folder):
    for number in range(4):
        rewritten(part(folder, number), lambda steps: steps.pop("run_id"))
    assert set(load_campaign(folder, "H100").steps["run_id"]) == {"node=0", "node=1"}


def test_a_partition_with_other_columns_is_refused(folder):
    rewritten(part(folder, 1), lambda steps: steps.insert(0, "odd", 1))
    assert f"{part(folder, 1)}: has other columns than {part(folder, 0)}: has odd too" in str(
        errors_of(folder)
    )


def test_a_damaged_file_is_refused_and_the_others_are_read(folder):
    path = part(folder, 2)
    path.write_bytes(path.read_bytes()[:-100])
    (error,) = errors_of(folder)
    assert error.startswith(f"{path}: not a Parquet file, or a damaged one")
    assert len(load_campaign(folder, "H100").steps) == 150


def test_pages_that_are_damaged_are_named_too(folder):
    path = part(folder, 2)
    content = bytearray(path.read_bytes())
    content[100:900] = bytes(800)
    path.write_bytes(bytes(content))
    (error,) = errors_of(folder)
    assert error.startswith(f"{path}: not a Parquet file, or a damaged one")


def test_a_key_that_is_a_column_too_is_refused(folder):
    path = part(folder, 0)
    place = path.parent / "tp=2"
    place.mkdir()
    path.rename(place / path.name)
    (error, *_) = errors_of(folder)
    assert f"{place / path.name}: tp: is a column of the file and a key of its path" in error


def test_a_partition_of_other_keys_is_refused(folder):
    place = folder / "steps" / "date=2026-08-01"
    place.mkdir()
    part(folder, 3).rename(place / "part-00003.parquet")
    assert "its path has other keys than" in str(errors_of(folder))


def test_an_empty_folder_is_refused(folder):
    for number in range(4):
        part(folder, number).unlink()
    assert errors_of(folder) == [
        f"{folder / 'steps'}: holds no Parquet file. Put them there, in folders such as date=2026-08-01/, or "
        "remove the folder"
    ]


def test_a_table_beside_a_data_set_is_refused(folder):
    STEPS.to_csv(folder / "steps.csv", index=False)
    assert "its table steps stands beside the data set" in errors_of(folder)[0]


def test_a_url_without_its_library_names_the_extra(monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="the extra cloud is not installed")

    def absent(*_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(CalibrateError, match=r"s3:// needs the extra cloud: pip install 'llm-cal"):
        files_in("s3://bucket/steps", (".parquet",))


def test_an_unknown_kind_of_url_is_refused():
    pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    with pytest.raises(CalibrateError, match=r"foo:// is not known; give a folder, s3://"):
        files_in("foo://bucket/steps", (".parquet",))


def test_a_url_that_cannot_be_reached_is_one_line(monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    memory = fsspec.filesystem("memory")

    def unreachable(*_, **__):
        raise OSError("no route to host\nand a page of more")

    monkeypatch.setattr(type(memory), "find", unreachable)
    with pytest.raises(UnreadableError) as found:
        files_in("memory://steps", (".parquet",))
    assert str(found.value) == (
        "memory://steps: cannot be reached: no route to host. Check the URL, the network and its credentials"
    )


def test_a_campaign_may_name_a_folder_elsewhere(folder, tmp_path):
    (folder / "steps").rename(tmp_path / "elsewhere")
    (folder / "campaign.toml").write_text(f'dataset = "{tmp_path / "elsewhere"}"\n')
    assert len(load_campaign(folder, "H100").steps) == 200
    (folder / "campaign.toml").write_text(f'dataset = "file://{tmp_path / "elsewhere"}"\n')
    pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    assert len(load_campaign(folder, "H100").steps) == 200
