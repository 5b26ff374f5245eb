"""Steps in an S3 store, that of moto's server: imported there, fitted and watched from there as from a folder."""

import json

import numpy as np
import pytest

from calibrate.campaign import dataset
from calibrate.campaign.campaign import load_campaign
from calibrate.job.calibration import fit
from calibrate.job.options import Options
from tests.watched import MODEL, records, traffic

SAID = ("--gpu", "H100", "--model", MODEL, "--tp", "1")
NEEDS = "s3fs and moto[server] are not installed: pip install s3fs 'moto[server]'"


@pytest.fixture
def store(monkeypatch):
    """A bucket in a store of this process."""
    s3fs = pytest.importorskip("s3fs", reason=NEEDS)
    moto = pytest.importorskip("moto.server", reason=NEEDS)
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    if not files.exists("bucket"):  # what moto stores outlives its server
        files.mkdir("bucket")
    yield files
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def logs(tmp_path, h100, monkeypatch):
    """Logs of two nodes in the folder where commands run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs"
    folder.mkdir()
    for node in range(2):
        noise = 0.02 * np.random.default_rng(node).standard_normal(600)
        text = records(traffic(600, seed=node), h100, log_extra=noise, node=f"n{node}")
        (folder / f"{node}.jsonl").write_text(text)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_store_gives_the_numbers_of_a_folder(store, logs, h100, calibrate, monkeypatch, tmp_path):
    there = ("--campaign", "there", "--dataset", "s3://bucket/steps")
    for options in (there, ("--campaign", "here", "--partitioned")):
        assert calibrate("import", "forward-pass-metrics", logs, *SAID, *options)[0] == 0
    assert any(name.endswith(".parquet") for name in store.find("bucket/steps"))
    monkeypatch.setattr(dataset, "IN_MEMORY_ROWS", 100)
    folders = [tmp_path / "ground_truth" / "H100" / name for name in ("there", "here")]
    campaigns = [load_campaign(folder, "H100", h100) for folder in folders]
    assert all(campaign.dataset is not None for campaign in campaigns)
    # A few of these made-up steps are faster than physics allows
    asked = Options(starts=2, cv=["2"], skip_bad_rows=True)
    ours, theirs = (fit([one], h100, asked) for one in campaigns)
    assert ours.values == theirs.values
    assert ours.metrics.after["all"] == theirs.metrics.after["all"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_store_is_watched_as_a_folder_is(store, logs, h100, calibrate, tmp_path):
    store.put(str(logs), "bucket/logs", recursive=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"H100": h100.values}))
    ours, theirs = (
        json.loads(calibrate("watch", source, *SAID, "--against", config, "--json")[1])
        for source in ("s3://bucket/logs", logs)
    )
    assert ours["steps"] == theirs["steps"] == 1200
    assert ours["slices"] == theirs["slices"]
