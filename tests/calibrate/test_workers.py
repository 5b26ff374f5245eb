"""Work in parts: on joblib or on Dask the same numbers, a worker killed or not, and words where Dask is gone."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from calibrate.campaign import dataset
from calibrate.campaign.campaign import load_campaign
from calibrate.fitting.exact import minimise_sums
from calibrate.fitting.partitioned import partitioned
from calibrate.fitting.sums import Terms
from calibrate.job.calibration import fit
from calibrate.records import workers as where
from calibrate.records.errors import CalibrateError
from calibrate.records.workers import in_parts, workers
from sim import latency_model, load_hardware
from tests.conftest import GUIDE_H100
from tests.datasets import write_dataset
from tests.synthetic import synthetic_steps

TRUTH = load_hardware({"H100": {**GUIDE_H100, "mfuPrefill": 0.5, "BwEffConstant": 0.65}})
START = load_hardware({"H100": GUIDE_H100})
MODEL = latency_model("roofline-v1")
FIRST = {"BwEffConstant": 0.72, "mfuPrefill": 0.65, "mfuDecode": 0.12, "tpScalingExponent": 0.8}


def halved(number):
    return number / 2, os.getpid()


@pytest.fixture
def distributed(monkeypatch):
    """Dask, whose workers import these tests."""
    library = pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return library


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "IN_MEMORY_ROWS", 100)
    steps = synthetic_steps(TRUTH, 600, noise=0.04)
    folder = write_dataset(tmp_path / "H100" / "fleet", steps, files=12)
    return load_campaign(folder, "H100", START)


@pytest.mark.parametrize("jobs", [1, 2])
def test_parts_come_in_their_order_on_this_machine(jobs):
    with workers(jobs):
        found = [*in_parts(halved, ((number,) for number in range(6)))]
    assert [value for value, _ in found] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert (os.getpid() in {process for _, process in found}) == (jobs == 1)


@pytest.mark.parametrize("scheduler", ["local", "threads"])
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.slow
def test_dask_does_the_parts_in_their_order(distributed, scheduler, jobs):
    with workers(jobs, scheduler):
        found = [*in_parts(halved, ((number,) for number in range(20)))]
    assert [value for value, _ in found] == [number / 2 for number in range(20)]
    is_here = scheduler == "threads"
    assert all((process == os.getpid()) == is_here for _, process in found)


@pytest.mark.slow
def test_a_fit_gives_the_same_numbers_on_dask(distributed, campaign):
    asked = {"starts": 2, "fix": {"mfuDecode": None, "TOverheadMicros": None}}
    alone = fit([campaign], START, **asked)
    spread = fit([campaign], START, **asked, scheduler="threads", jobs=2)
    assert spread.values == alone.values
    assert spread.metrics == alone.metrics


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_no_number(distributed, campaign):
    data = partitioned([campaign], MODEL, START)
    terms, weight = Terms(MODEL, START, "soft_l1", 0.05), data.balanced()
    expected = minimise_sums(lambda values: data.sums(terms, [(values, weight)])[0], FIRST)
    victims = []

    with workers(2, "local"):
        client = where._WORKERS.get().client
        before = client.run(os.getpid)
        victim = sorted(before.values())[0]

        def sums_at(values):
            if not victims:
                victims.append(victim)
                threading.Thread(target=kill_soon, args=(victim,)).start()
            return data.sums(terms, [(values, weight)])[0]

        found = minimise_sums(sums_at, FIRST)
        while victim in (after := client.run(os.getpid)).values():
            time.sleep(0.1)
    assert victims == [victim]
    assert victim not in after.values()
    assert found.values == expected.values
    assert found.cost == expected.cost


def kill_soon(process):
    time.sleep(0.5)
    os.kill(process, signal.SIGKILL)


def test_a_scheduler_that_does_not_answer_is_one_line(distributed, monkeypatch):
    monkeypatch.setattr(where, "_CONNECT_S", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(CalibrateError, match=rf"--scheduler {address}: no Dask scheduler answers"),
        workers(1, address),
    ):
        pass


def test_what_is_no_address_is_refused(distributed, monkeypatch):
    monkeypatch.setattr(where, "_CONNECT_S", 1)
    with (
        pytest.raises(CalibrateError, match="--scheduler nowhere: no Dask scheduler answers"),
        workers(1, "nowhere"),
    ):
        pass


CLUSTER = """
from distributed import LocalCluster
cluster = LocalCluster(
    n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
    host="127.0.0.1", protocol="tcp",
)
print(cluster.scheduler_address, flush=True)
input()
"""


def test_a_scheduler_that_dies_meanwhile_is_one_line(distributed, monkeypatch):
    monkeypatch.setattr(where, "_CONNECT_S", 2)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=pipe, stdout=pipe, text=True
    ) as one:
        address = one.stdout.readline().strip()
        threading.Thread(target=kill_soon, args=(one.pid,)).start()
        with (
            pytest.raises(CalibrateError, match="the scheduler or its workers are gone"),
            workers(1, address),
        ):
            list(in_parts(waited, ((0.2,) for _ in range(100))))


def waited(seconds):
    time.sleep(seconds)


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask.distributed", None)
    with (
        pytest.raises(CalibrateError, match=r"extra dask: pip install 'llm-calibrate\[dask\]'"),
        workers(1, "local"),
    ):
        pass
