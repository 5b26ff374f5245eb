"""Nothing is half written: what a kill, a full disk or another process in between leaves is old or new, and whole.

``make faults`` does the same to whole commands, hundreds of times.
"""

import os
import re
import signal
import threading
import time

import pytest

from calibrate.bench.record import begin_campaign, open_record, write_campaign_toml
from calibrate.campaign.campaign import load_campaign, load_campaigns
from calibrate.campaign.info import read_info
from calibrate.exporters import write_exported
from calibrate.exporters.exported import Exported
from calibrate.importers import write_campaign
from calibrate.importers.imported import Imported
from calibrate.job import publish as publishing
from calibrate.records.errors import CalibrateError
from calibrate.records.files import replace_text
from calibrate.records.folders import filled_folder, put_back_folders, replaced_folder
from calibrate.records.schema import TABLES
from calibrate.records.tables import read_table
from calibrate.records.workshop import abandoned_workshop, workshop
from tests.faults import full_disk, place
from tests.faults.children import finish, kill_before_change, run, start
from tests.faults.kills import kill_at_changes
from tests.faults.scenarios import FitScenario, FolderScenario
from tests.synthetic import synthetic_steps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads


@pytest.fixture
def imported(h100):
    def of(rows):
        return Imported({"steps": synthetic_steps(h100, rows)}, {"title": "synthetic"})

    return of


@pytest.fixture
def scenario(tmp_path, imported):
    """An import over a campaign of six rows, of one with seven; every fourth time there is none before."""
    root = tmp_path / "place"
    folder = root / "H100/campaign"
    first, second = (lambda rows=rows: write_campaign(imported(rows), folder) for rows in (6, 7))
    return FolderScenario(root, folder, first, second)


@pytest.mark.slow
def test_an_import_killed_before_any_change_leaves_the_old_campaign_or_the_new(scenario):
    figures = kill_at_changes("import", scenario)
    assert figures.broken == []
    assert figures.found["killed"] == figures.rounds - 1 > 15
    assert figures.found["new"] > 0


@pytest.mark.slow
def test_a_fit_killed_before_any_change_leaves_configuration_and_report_old_or_new(
    tmp_path, plain, h100, monkeypatch
):
    root = tmp_path / "place"

    def draw(result, folder):
        (folder / "report.html").write_text("the page")

    monkeypatch.setattr(publishing, "draw_report", draw)

    def publish():
        config = root / "hardware_config.json"
        publishing.publish(plain, h100, config, root / "reports", force=True, dry_run=False)

    figures = kill_at_changes("fit", FitScenario(root, work=publish))
    assert figures.broken == []
    assert figures.found["killed"] == figures.rounds - 1 > 15
    assert figures.found["parted"] > 0  # made up for by the next fit: counted as broken if not


def test_a_disk_that_fills_up_leaves_the_old_campaign_and_names_the_file(scenario, tmp_path):
    figures = full_disk.limit_files("import", CommandLine(scenario))
    assert figures.broken == []
    assert figures.found["refused"] > 2


class CommandLine:
    """A scenario whose errors are told as the command line tells them."""

    def __init__(self, scenario):
        self.scenario = scenario

    def __getattr__(self, name):
        return getattr(self.scenario, name)

    def work(self):
        try:
            self.scenario.work()
        except CalibrateError as error:
            print(error)
            raise SystemExit(1) from None


def test_a_full_disk_under_an_import_is_told_with_the_files_name(tmp_path, imported, monkeypatch):
    folder = tmp_path / "H100/campaign"
    write_campaign(imported(6), folder)
    before = place.digest(folder)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CalibrateError) as told:
        write_campaign(imported(7), folder)
    assert str(told.value) == (
        f"{folder}/steps.csv: cannot be written: No space left on device; {folder} is as it was"
    )
    assert place.digest(folder) == before
    assert place.hidden(tmp_path) == []


def test_a_campaign_that_does_not_read_back_is_not_put_in_its_place(
    tmp_path, imported, monkeypatch
):
    folder = tmp_path / "H100/campaign"
    write_campaign(imported(6), folder)
    monkeypatch.setattr("calibrate.importers._table_bytes", lambda *_: b"model,tp\n")
    with pytest.raises(CalibrateError, match=r"steps: 7 rows were written and 0 read back"):
        write_campaign(imported(7), folder)
    assert len(load_campaign(folder, "H100").steps) == 6


def test_an_import_keeps_the_files_that_it_does_not_write(tmp_path, imported):
    folder = tmp_path / "H100/campaign"
    write_campaign(imported(6), folder)
    (folder / "models").mkdir()
    (folder / "models/mine.json").write_text("{}")
    (folder / "steps.csv").rename(folder / "steps.csv.gz")
    folder.chmod(0o750)
    write_campaign(imported(7), folder)
    assert {path.name for path in folder.iterdir()} == {"campaign.toml", "models", "steps.csv"}
    assert (folder / "models/mine.json").read_text() == "{}"
    assert folder.stat().st_mode & 0o777 == 0o750


def test_without_force_a_campaign_that_came_meanwhile_stays(tmp_path, imported):
    folder = tmp_path / "H100/campaign"
    write_campaign(imported(6), folder, force=False)
    with pytest.raises(CalibrateError, match="is there already"):
        write_campaign(imported(7), folder, force=False)
    assert len(load_campaign(folder, "H100").steps) == 6


def aside(folder):
    """The state of a swap that was killed between its two renames."""
    shop = folder.with_name(f".{folder.name}.swap")
    shop.mkdir()
    folder.rename(shop / "old")
    (shop / "new").mkdir()
    return shop


def test_a_fit_finds_the_campaign_that_a_killed_import_set_aside(tmp_path, imported):
    folder = tmp_path / "H100/campaign"
    write_campaign(imported(6), folder)
    shop = aside(folder)
    (campaign,) = load_campaigns(tmp_path, "H100")
    assert campaign.name == "campaign"
    assert len(campaign.steps) == 6
    assert not shop.exists()


def test_a_campaign_set_aside_that_cannot_be_put_back_is_named(tmp_path, imported, monkeypatch):
    folder = tmp_path / "H100/campaign"
    write_campaign(imported(6), folder)
    shop = aside(folder)
    monkeypatch.setattr("calibrate.records.folders._INSTANTS", 2)
    with workshop(shop), pytest.raises(CalibrateError, match=f"Rename it to {folder}"):
        put_back_folders(folder.parent)


def test_what_a_living_process_makes_is_left_alone(tmp_path):
    shop = tmp_path / ".run-1"
    with workshop(shop), abandoned_workshop(shop) as is_ours:
        assert not is_ours
        assert shop.exists()
    assert not shop.exists()


def test_what_a_killed_process_made_is_cleared_away(tmp_path):
    shop = tmp_path / ".run-1"

    def die():
        with workshop(shop):
            (shop / "page").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    assert finish(start(die, tmp_path / "said")) == -signal.SIGKILL
    assert (shop / "page").exists()
    with abandoned_workshop(shop) as is_ours:
        assert is_ours
    assert not shop.exists()


def test_the_file_beside_a_killed_write_goes_with_the_next(tmp_path):
    file = tmp_path / "h.json"
    file.write_text("old")
    write = lambda: replace_text(file, "new")  # noqa: E731
    number = 1
    while kill_before_change(write, number, tmp_path / "said"):
        assert file.read_text() in ("old", "new")
        number += 1
    assert number > 3
    assert place.hidden(tmp_path) == []


def test_two_at_once_replace_a_folder_one_after_the_other(tmp_path):
    folder = tmp_path / "folder"

    def add(name):
        with replaced_folder(folder) as new:
            present = [path.name for path in new.iterdir()]
            time.sleep(0.05)
            (new / name).write_text(" ".join(present))

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in folder.iterdir()} == set("abcd")
    assert place.hidden(tmp_path) == []


def test_the_working_folder_is_not_replaced_under_its_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(CalibrateError, match="is the working folder"),
        replaced_folder(tmp_path),
    ):
        pass


def test_an_error_while_a_folder_is_filled_changes_nothing(tmp_path):
    (tmp_path / "page").write_text("old")

    def fail():
        with filled_folder(tmp_path) as new:
            (new / "page").write_text("new")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own, from above
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert (tmp_path / "page").read_text() == "old"


def test_an_export_of_several_files_takes_the_place_of_the_one_before(tmp_path):
    folder = tmp_path / "database"
    write_exported(Exported({"gemm/a.csv": "1", "gemm/b.csv": "2"}), folder)
    write_exported(Exported({"gemm/a.csv": "3"}), folder, force=True)
    assert [path.name for path in (folder / "gemm").iterdir()] == ["a.csv"]
    (folder / "mine.txt").touch()
    with pytest.raises(CalibrateError, match=r"holds other things \(mine.txt\)"):
        write_exported(Exported({"gemm/a.csv": "4"}), folder, force=True)
    assert (folder / "gemm/a.csv").read_text() == "3"


def test_a_campaign_replaced_while_it_is_read_is_read_again(tmp_path, imported, monkeypatch):
    folder = tmp_path / "H100/campaign"
    write_campaign(imported(6), folder)
    turns = iter([lambda: write_campaign(imported(7), folder)])

    def meanwhile(*arguments, **options):
        next(turns, lambda: None)()
        return read_table(*arguments, **options)

    monkeypatch.setattr("calibrate.campaign.campaign.read_table", meanwhile)
    assert len(load_campaign(folder, "H100").steps) == 7


MEMORY_ROW = {"op": "copy", "latency_us": "1.5", "latency_std_us": "0.01", "replicates": 5}
COMMAS = len(TABLES["memory"]) - 1
BENCHED = {"title": "a bench", "kind": "measured", "machine": {"device": "cpu"}}


def bench(folder, rows=60):
    """What a bench writes: the facts, a row after another, and the facts again."""
    begin_campaign(folder, BENCHED["machine"])
    write_campaign_toml(folder, BENCHED)
    record = open_record(folder, "memory")
    for number in range(rows):
        row = {**MEMORY_ROW, "bytes": 1024 * (number + 1)}
        if not record.holds(row):
            record.add(row)
    write_campaign_toml(folder, {**BENCHED, "notes": "done"})


def told_bench(folder):
    """The same with its errors as the command line tells them."""

    def work():
        try:
            bench(folder)
        except (CalibrateError, OSError) as error:
            print(error)
            raise SystemExit(1) from None

    return work


@pytest.mark.parametrize("size", [0, 20, 60, 100, 150, 400, 777, 1000])
def test_a_bench_on_a_disk_that_fills_up_keeps_whole_rows_names_the_file_and_goes_on(
    tmp_path, size
):
    folder, said = tmp_path / "H100/bench", tmp_path / "said"
    code = run(full_disk.limited(told_bench(folder), size), said)
    assert code == 1
    assert re.search(rf"{folder}/(campaign.toml|memory.csv)", said.read_text())
    assert "Traceback" not in said.read_text()
    assert place.hidden(tmp_path) == []
    if size <= 60:  # the facts do not fit
        assert not folder.exists()
    else:
        rows = (folder / "memory.csv").read_text() if (folder / "memory.csv").exists() else ""
        assert all(line.count(",") == COMMAS for line in rows.splitlines())
        assert rows.endswith("\n") or not rows
        assert read_info(folder / "campaign.toml")[0].title == "a bench"
    assert run(told_bench(folder), said) == 0
    (campaign,) = load_campaigns(tmp_path, "H100")
    assert [problem for problem in campaign.problems if problem.severity == "error"] == []
    assert len(campaign.kernels["memory"]) == 60


def test_a_row_that_does_not_fit_on_the_disk_is_told_with_the_files_name(tmp_path):
    with full_disk.small_disk(tmp_path / "disk") as mounted:
        if not mounted:
            pytest.skip("mounting a small tmpfs needs root and CAP_SYS_ADMIN")
        folder = tmp_path / "disk/H100/bench"
        bench(folder, rows=1)
        whole = (folder / "memory.csv").read_bytes()
        record = open_record(folder, "memory")
        many = (record.add({**MEMORY_ROW, "bytes": size}) for size in range(1, 1000))
        with (
            full_disk.filled(tmp_path / "disk", 0),
            pytest.raises(CalibrateError, match=r"memory.csv: cannot be written: No space left"),
        ):
            list(many)
        now = (folder / "memory.csv").read_text()
        assert now.encode().startswith(whole)
        assert all(line.count(",") == COMMAS for line in now.splitlines())
        assert now.endswith("\n")
