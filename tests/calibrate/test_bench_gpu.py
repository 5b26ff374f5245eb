"""The path of a GPU without one: events, streams, graphs, clocks and throttling are those of a stand-in.

Where PyTorch is installed the whole command runs: what is to lie on the GPU lies on the processor.
"""

import contextlib
import csv
import dataclasses
import io
import json
import sys
import tomllib
from types import SimpleNamespace

import pytest

from calibrate.bench import benchmark
from calibrate.bench import device as devices
from calibrate.bench.device import CudaDevice
from calibrate.bench.monitor import BlindMonitor
from calibrate.bench.retry import RESTS_S
from calibrate.bench.sizes import small_sizes
from calibrate.bench.steps import captured
from calibrate.campaign.campaign import load_campaigns
from calibrate.cli import main
from tests.calibrate.fake_gpu import POWER_CAP, FakeCuda, fake_nvml


def test_on_a_gpu_each_run_stands_between_events_behind_a_flush():
    cuda = FakeCuda()
    scratch = SimpleNamespace(zero_=lambda: cuda.calls.append("flush"))
    device = CudaDevice(SimpleNamespace(cuda=cuda), scratch, BlindMonitor("test"))
    assert device.times_us(lambda: cuda.calls.append("run"), 2, "device") == [250.0, 250.0]
    assert cuda.calls[4:] == [
        "flush",
        "event0",
        "run",
        "event1",
        "flush",
        "event2",
        "run",
        "event3",
        "synchronize",
    ]
    cuda.calls.clear()
    [time_us] = device.times_us(lambda: cuda.calls.append("run"), 1, "host")
    assert time_us > 0
    assert cuda.calls == ["flush", "synchronize", "run", "synchronize"]


def test_a_graph_is_captured_on_the_stream_that_warmed_up():
    cuda = FakeCuda()
    replay = captured(SimpleNamespace(cuda=cuda), lambda: cuda.calls.append("run"))
    warm = [
        "side waits for current",
        "on side",
        "run",
        "run",
        "run",
        "end on side",
        "current waits for side",
    ]
    assert cuda.calls == [*warm, "capture on side", "run", "end capture on side"]
    replay()
    assert cuda.calls[-1] == "replay"


def test_a_batch_stands_between_two_events_with_no_flush():
    cuda = FakeCuda()
    scratch = SimpleNamespace(zero_=lambda: cuda.calls.append("flush"))
    device = CudaDevice(SimpleNamespace(cuda=cuda), scratch, BlindMonitor("test"))
    assert device.batch_us(lambda: cuda.calls.append("run"), 5) == 50.0
    assert cuda.calls[2:] == ["event0", *["run"] * 5, "event1", "synchronize"]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip(
        "torch", reason="needs the extra: pip install 'llm-calibrate[bench]'"
    )


def on_processor(torch):
    """A mode in which tensors that are to lie on the GPU lie on the processor."""

    class OnProcessor(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), named=None):
            named = dict(named or {})
            if named.get("device") == "cuda":
                named["device"] = "cpu"
            return function(*arguments, **named)

    return OnProcessor


@pytest.fixture(scope="module")
def ran(torch, tmp_path_factory):
    """``calibrate bench all`` on an H200 that caps its power at the first two points."""
    cuda, folder = FakeCuda(), tmp_path_factory.mktemp("bench") / "H200/run"
    options = ("--gpu", "H200", "--small", "--min-samples", "3", "--out", str(folder), "--json")
    with pytest.MonkeyPatch.context() as patch, on_processor(torch)():
        rests = put_in(torch, cuda, patch)
        patch.setattr(benchmark, "small_sizes", tiny)
        patch.setattr(sys, "argv", ["calibrate", "bench", "all", *options])
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            main()
    said = json.loads(out.getvalue())
    return SimpleNamespace(cuda=cuda, rests=rests, folder=folder, said=said)


def put_in(torch, cuda, patch):
    """Put the stand-in where the GPU would be; the rests that are taken, none of which is waited for."""
    public = [name for name in dir(cuda) if name[0] != "_" and hasattr(torch.cuda, name)]
    for name in public:
        patch.setattr(torch.cuda, name, getattr(cuda, name))
    patch.setattr(torch.version, "cuda", "13.0")
    nvml = fake_nvml([POWER_CAP, 0, POWER_CAP, POWER_CAP, POWER_CAP])
    patch.setitem(sys.modules, "pynvml", nvml)
    patch.setattr(devices, "_GPU_FLUSH_BYTES", 64)
    rests = []
    patch.setattr(devices.time, "sleep", rests.append)
    return rests


def tiny():
    """Sizes of a benchmark of seconds."""
    sizes = small_sizes()
    return dataclasses.replace(
        sizes,
        models=sizes.models[:1],
        buffer_mib=(1,),
        gemm_tokens=(4,),
        gemm_squares=(64,),
        attention_shapes=sizes.attention_shapes[:1],
        attention_prefill=((1, 32),),
        attention_decode=((2, 32),),
        moe_tokens=(8,),
        prompts=((1, 16, 0), (1, 8, 8)),
        decodes=((2, 16),),
        kernel_s=0.0,
        step_s=0.0,
    )


def test_the_whole_command_runs_on_the_stand_in(ran):
    tables = {"memory", "gemm", "attention_prefill", "attention_decode", "moe"}
    assert ran.said["rows"].keys() == tables | {"mla_prefill", "mla_decode", "steps"}
    assert ran.said["machine"]["power_limit_w"] == 700.0
    few = "collectives were not measured: they take two GPUs, this machine has 1"
    assert few in ran.said["notes"]


def test_throttled_points_are_measured_again_and_the_one_that_stays_so_is_noted(ran):
    assert ran.rests == [RESTS_S[0], *RESTS_S]
    assert "3 measurements were repeated after a rest" in " ".join(ran.said["notes"])
    info = tomllib.loads((ran.folder / "campaign.toml").read_text())
    assert info["disturbances"] == ["1 point measured while the GPU slowed itself down: power cap"]


def test_kernels_take_the_time_of_events_at_the_clock_of_nvml(ran):
    kernels = rows(ran.folder / "gemm.csv")
    assert {row["latency_us"] for row in kernels} == {"250.000"}
    assert {row["sm_clock_mhz"] for row in kernels} == {"1755"}


def test_decodes_alone_are_replayed_as_graphs(ran):
    steps = rows(ran.folder / "steps.csv")
    assert sorted(row["execution"] for row in steps) == ["eager", "eager", "eager", "graph"]
    (graph,) = [row for row in steps if row["execution"] == "graph"]
    assert int(graph["num_decode_requests"]) == 2
    assert ran.cuda.calls.count("capture on side") == 1
    assert ran.cuda.calls.count("replay") > int(graph["replicates"])


def test_what_was_measured_loads(ran):
    [campaign] = load_campaigns(ran.folder.parent.parent, "H200")
    assert [str(p) for p in campaign.problems if p.severity == "error"] == []


def rows(file):
    with file.open() as table:
        return list(csv.DictReader(table))
