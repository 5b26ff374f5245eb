"""The benchmark of this machine: what it writes loads, goes on and fits; the decoder computes what a decoder must."""

import dataclasses
import gzip
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest

from calibrate.bench import benchmark
from calibrate.bench.benchmark import run_benchmark
from calibrate.bench.collectives import collective_rows, measure_collectives
from calibrate.bench.decoder import Requests, build_decoder, make_step, run_step, step_bytes
from calibrate.bench.device import open_device
from calibrate.bench.monitor import GpuMonitor
from calibrate.bench.planned import read_points
from calibrate.bench.point import Point, Prepared, Stage, scattered
from calibrate.bench.record import begin_campaign, open_record
from calibrate.bench.session import Findings, Limits, measure_stages
from calibrate.bench.sizes import small_sizes
from calibrate.bench.specs import check_gpu, widened
from calibrate.bench.stages import Asked
from calibrate.bench.steps import fit_models
from calibrate.campaign.campaign import load_campaign, load_campaigns
from calibrate.cli import main
from calibrate.job.calibration import fit
from calibrate.parameters.start import starting_hardware
from calibrate.records.errors import CalibrateError
from calibrate.records.schema import COLLECTIVES
from sim.architecture_files import load_architecture

ARCH = load_architecture(
    {
        "_name_or_path": "tiny",
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "vocab_size": 128,
    }
)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip(
        "torch", reason="needs the extra: pip install 'llm-calibrate[bench]'"
    )


@pytest.fixture
def cpu(torch):
    """A processor whose cache is not emptied: quick, and good enough where durations do not matter."""
    return dataclasses.replace(open_device("cpu", threads=1), scratch=torch.empty(1))


@pytest.fixture
def tiny(monkeypatch):
    """Sizes of a benchmark of seconds."""
    sizes = dataclasses.replace(
        small_sizes(),
        models=(ARCH, dataclasses.replace(ARCH, name="tinier", num_layers=2)),
        buffer_mib=(16,),
        peak_mib=16,
        peak_gemm=256,
        gemm_tokens=(1, 16),
        gemm_squares=(64,),
        attention_shapes=((4, 2, 16),),
        attention_prefill=((1, 32), (2, 16)),
        attention_decode=((1, 64), (4, 32)),
        moe_tokens=(1, 16),
        prompts=tuple((count, new, 0) for count in (1, 2) for new in (8, 32, 64)),
        decodes=tuple((count, context) for count in (1, 4, 16) for context in (16, 64)),
        kernel_s=0.0,
        step_s=0.0,
    )
    monkeypatch.setattr(benchmark, "small_sizes", lambda: sizes)


def run_cli(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, arguments)])
    main()


def test_a_benchmark_becomes_a_campaign_that_fits(cpu, tiny, tmp_path):
    asked = Asked("all", "CPU", tmp_path / "CPU" / "run", "fp32", small=True)
    outcome = run_benchmark(cpu, asked)
    assert outcome.rows == {
        "memory": 3,
        "gemm": 9,
        "attention_prefill": 2,
        "attention_decode": 2,
        "moe": 2,
        "mla_prefill": 2,
        "mla_decode": 2,
        "steps": 28,
    }
    assert outcome.measured == sum(outcome.rows.values())
    assert outcome.notes[0].startswith("collectives were not measured: they take two GPUs")
    start, _ = starting_hardware(asked.folder / "hardware_config.json", "CPU")
    [campaign] = load_campaigns(tmp_path, "CPU", hardware=start)
    assert [
        str(p) for p in campaign.problems if p.severity == "error" or "unknown column" in p.message
    ] == []
    assert set(campaign.steps["execution"]) == {"eager"}
    assert set(campaign.steps["backend"]) == {"flash"}
    assert (campaign.steps["replicates"] >= 10).all()
    result = fit([campaign], start, starts=2)
    assert result.metrics.after["all"].n == outcome.rows["steps"]
    before = {path.name: path.read_bytes() for path in asked.folder.glob("*.csv")}
    assert run_benchmark(cpu, asked).measured == 0
    assert {path.name: path.read_bytes() for path in asked.folder.glob("*.csv")} == before


def test_prefill_chunks_and_decodes_fill_the_cache_as_one_prefill_does(torch):
    with torch.inference_mode():
        decoder = build_decoder(ARCH, "cpu", "fp32")
        whole = make_step(decoder, Requests(2, 9, 0), Requests())
        chosen = run_step(torch, decoder, whole)
        ids = whole.ids.view(2, 9)
        done = [cache_of(whole, 0)[:, :, :, :0], cache_of(whole, 1)[:, :, :, :0]]
        for start, stop in ((0, 5), (5, 8), (8, 9)):  # a prompt, a chunk of one, a decoded token
            requests = Requests(2, stop - start, start)
            step = make_step(
                decoder, *((Requests(), requests) if stop - start == 1 else (requests, Requests()))
            )
            step.ids.copy_(ids[:, start:stop].reshape(-1))
            for which in (0, 1):
                cache_of(step, which)[:, :, :, :start] = done[which]
            last = run_step(torch, decoder, step)
            done = [cache_of(step, which).clone() for which in (0, 1)]
    for which in (0, 1):
        torch.testing.assert_close(done[which], cache_of(whole, which), atol=1e-5, rtol=1e-4)
    assert last.tolist() == chosen.tolist()


def cache_of(step, which):
    return (step.caches[0].keys, step.caches[0].values)[which]


def test_a_mixed_step_computes_what_its_two_parts_compute(torch):
    prefill, decode = Requests(2, 5, 3), Requests(3, 1, 7)
    with torch.inference_mode():
        decoder = build_decoder(ARCH, "cpu", "fp32")
        mixed = make_step(decoder, prefill, decode)
        parts = [make_step(decoder, prefill, Requests()), make_step(decoder, Requests(), decode)]
        for part, cache, ids in zip(parts, mixed.caches, mixed.ids.split([10, 3]), strict=True):
            part.ids.copy_(ids)
            part.caches[0].keys.copy_(cache.keys)
            part.caches[0].values.copy_(cache.values)
        together = run_step(torch, decoder, mixed)
        apart = torch.cat([run_step(torch, decoder, part) for part in parts])
    assert together.tolist() == apart.tolist()
    for part, cache in zip(parts, mixed.caches, strict=True):
        torch.testing.assert_close(part.caches[0].keys, cache.keys, atol=1e-5, rtol=1e-4)


def test_one_layer_is_what_the_formulas_say(torch):
    """Against float64 written out: RMSNorm, rotation of pairs by position, grouped heads, SwiGLU."""
    arch = dataclasses.replace(ARCH, num_layers=1, tied_embeddings=True)
    with torch.inference_mode():
        decoder = build_decoder(arch, "cpu", "fp32")
        step = make_step(decoder, Requests(1, 6, 0), Requests())
        chosen = run_step(torch, decoder, step)
    layer = decoder.layers[0]
    x = decoder.embedding[step.ids].double()

    def normed(x):
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    def rotated(x, position):
        angle = position * 500000.0 ** (-torch.arange(8, dtype=torch.float64) / 8)
        low, high = x[:8], x[8:]
        return torch.cat(
            [low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()]
        )

    qkv = normed(x) @ layer.qkv.double().T
    q = qkv[:, :64].view(6, 4, 16)
    k = qkv[:, 64:96].view(6, 2, 16)
    v = qkv[:, 96:].view(6, 2, 16)
    rows = []
    for t in range(6):
        heads = []
        for head in range(4):
            query = rotated(q[t, head], t)
            keys = torch.stack([rotated(k[s, head // 2], s) for s in range(t + 1)])
            weights = torch.softmax(keys @ query / 4.0, dim=0)
            heads.append(weights @ v[: t + 1, head // 2])
        rows.append(torch.cat(heads))
    x = x + torch.stack(rows) @ layer.output.double().T
    gate, up = (normed(x) @ layer.gate_up.double().T).chunk(2, dim=-1)
    x = x + (gate * torch.sigmoid(gate) * up) @ layer.down.double().T
    logits = normed(x[-1]) @ decoder.head.double().T
    assert chosen.tolist() == [int(logits.argmax())]


def test_the_estimated_memory_is_what_is_allocated(torch):
    decoder = build_decoder(ARCH, "cpu", "bf16")
    tensors = [decoder.embedding, decoder.norm, decoder.head]
    tensors += [
        getattr(layer, f.name) for layer in decoder.layers for f in dataclasses.fields(layer)
    ]
    assert ARCH.with_dtype("bf16").weight_bytes == pytest.approx(
        sum(t.nbytes for t in tensors), rel=0.02
    )
    prefill, decode = Requests(2, 8, 64), Requests(16, 1, 512)
    step = make_step(decoder, prefill, decode)
    cached = sum(cache.keys.nbytes + cache.values.nbytes for cache in step.caches)
    assert cached < step_bytes(ARCH, prefill, decode, "bf16") < 1.5 * cached


def test_a_model_too_large_is_measured_with_fewer_layers(tmp_path):
    large = load_architecture("llama-3.1-70b")
    [measured] = fit_models([large], 80 * 2**30, "bf16", tmp_path / "ground_truth" / "H100")
    assert measured.arch.num_layers == 29
    assert measured.arch.vocab_size == pytest.approx(large.vocab_size * 29 / 80, rel=1e-3)
    described = load_architecture(tmp_path / "ground_truth" / "H100" / measured.name)
    assert dataclasses.replace(described, name=measured.name) == measured.arch
    [whole] = fit_models([load_architecture("llama-3.1-8b")], 80 * 2**30, "bf16", tmp_path)
    assert whole.name == "llama-3.1-8b"
    with pytest.raises(CalibrateError, match="mixtral-8x7b has a mixture of experts"):
        fit_models([load_architecture("mixtral-8x7b")], 2**40, "bf16", tmp_path)


def test_points_that_do_not_fit_and_points_after_the_time_are_named(cpu, tmp_path):
    def point(size, needed):
        return Point({"op": "read", "bytes": size}, needed, lambda: Prepared(lambda: None))

    def measured(points, deadline_s):
        findings = Findings()
        stage = Stage("memory", points, 0.0, 1.0)
        measure_stages(cpu, [stage], tmp_path, Limits(2**20, deadline_s), findings, lambda *_: None)
        return findings

    findings = measured([point(1, 2**21), point(2, 10)], None)
    assert (
        findings.notes()[0]
        == "1 point left out: memory: needs more memory than the 0.000977 GiB that were free"
    )
    assert findings.measured == 1
    assert measured([point(3, 10)], time.monotonic() - 1).notes() == [
        "1 point left out: memory: the time was up"
    ]


def test_one_failing_point_is_named_and_five_in_a_row_stop(cpu, tmp_path):
    def fail():
        raise RuntimeError("no kernel image\nfurther lines")

    points = [Point({"op": "read", "bytes": size}, 1, fail) for size in range(1, 9)]
    with pytest.raises(
        CalibrateError, match=r"5 points in a row failed; .*: PyTorch said: no kernel image$"
    ):
        measure_stages(
            cpu,
            [Stage("memory", points, 0.0, 1.0)],
            tmp_path,
            Limits(2**20),
            Findings(),
            lambda *_: None,
        )


def test_a_table_cut_off_in_the_middle_of_a_row_goes_on(tmp_path):
    record = open_record(tmp_path, "memory")
    for size in (10, 20):
        record.add({"op": "copy", "bytes": size, "latency_us": "1.5", "replicates": 5})
    whole = record.file.read_text()
    record.file.write_text(whole + "copy,3")
    again = open_record(tmp_path, "memory")
    assert record.file.read_text() == whole
    assert again.holds({"op": "copy", "bytes": 20})
    assert not again.holds({"op": "copy", "bytes": 3})
    record.file.write_text("op,bytes\ncopy,10\n")
    with pytest.raises(
        CalibrateError, match=r"memory.csv:1: has not the columns that bench writes"
    ):
        open_record(tmp_path, "memory")


def test_a_table_that_cannot_be_added_to_is_refused_or_made_plain(tmp_path):
    record = open_record(tmp_path, "memory")
    record.add({"op": "copy", "bytes": 10, "latency_us": "1.5", "replicates": 5})
    whole = record.file.read_text()
    record.file.write_text(whole, encoding="utf-16")
    assert open_record(tmp_path, "memory").holds({"op": "copy", "bytes": 10})
    assert record.file.read_text(encoding="utf-8") == whole
    for content, words in {
        gzip.compress(whole.encode()): "is not UTF-8",
        b"\xff": "is not UTF-8",
    }.items():
        record.file.write_bytes(content)
        with pytest.raises(CalibrateError, match=words):
            open_record(tmp_path, "memory")
        assert record.file.read_bytes() == content
    record.file.write_text(whole + '"copy,3\n')
    with pytest.raises(CalibrateError, match="is not CSV"):
        open_record(tmp_path, "memory")


def test_measurements_of_two_machines_do_not_mix(tmp_path):
    (tmp_path / "campaign.toml").write_text('[machine]\ndevice = "NVIDIA H100"\ntorch = "2.9"\n')
    with pytest.raises(
        CalibrateError, match="holds measurements of device NVIDIA H100, this is NVIDIA H200"
    ):
        begin_campaign(tmp_path, {"device": "NVIDIA H200", "torch": "2.9"})
    begin_campaign(tmp_path, {"device": "NVIDIA H100", "torch": "2.9"})


def test_planned_points_are_read_and_the_others_named(tmp_path):
    file = tmp_path / "plan.csv"
    file.write_text(
        "model,tp,dtype,num_prefill_requests,sum_prefill_tokens,num_decode_requests,sum_decode_kv_tokens,latency_us\n"
        "llama-3.1-8b,1,bf16,2,64,4,4096,\n"
        "llama-3.1-8b,1,bf16,2,64,4,4096,\n"
        "llama-3.1-8b,8,bf16,1,64,0,0,\n"
        "llama-3.1-8b,1,bf16,3,64,0,0,\n"
        "llama-3.1-8b,1,fp8,1,64,0,0,\n"
    )
    planned = read_points(file, "bf16")
    assert planned.sizes == {"llama-3.1-8b": [(Requests(2, 32, 0), Requests(4, 1, 1024))]}
    assert [note.partition("plan.csv: ")[2] for note in planned.left_out] == [
        "line 4 left out: tp is not 1: bench measures one GPU",
        "line 5 left out: requests of one phase differ in length: bench measures equal ones",
        "line 6 left out: dtype fp8 is not bf16, which is measured",
    ]


def test_collectives_run_in_one_process_a_device(torch):
    messages = tuple((table, 4096) for table in COLLECTIVES)
    rows = collective_rows(2, messages, "fp32", "cpu")
    assert [table for table, _ in rows] == list(COLLECTIVES)
    for _, row in rows:
        assert (row["tp"], row["bytes"], row["dtype"], row["replicates"]) == (2, 4096, "fp32", 30)
        assert float(row["latency_us"]) > 0
        assert float(row["batch_us"]) > 0


def test_collectives_become_tables_that_load_and_go_on(torch, cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(
        benchmark, "measure_collectives", partial(measure_collectives, sizes=(8192,))
    )
    asked = Asked("collectives", "CPU", tmp_path / "CPU/run", "fp32", small=True)
    outcome = run_benchmark(cpu, asked)
    assert outcome.rows == dict.fromkeys(COLLECTIVES, 1)
    [campaign] = load_campaigns(tmp_path, "CPU")
    assert [str(p) for p in campaign.problems if "unknown column" in p.message] == []
    assert run_benchmark(cpu, asked).measured == 0


def test_every_beginning_of_a_scattered_grid_covers_it():
    order = scattered(range(100))
    assert sorted(order) == list(range(100))
    for length in (10, 25, 50):
        begun = sorted(order[:length])
        gaps = [b - a for a, b in zip([-1, *begun], [*begun, 100], strict=True)]
        assert max(gaps) <= 3 * 100 / length


def test_fits_leave_an_eager_row_out_where_there_is_a_graph(tmp_path):
    folder = tmp_path / "H100" / "run"
    folder.mkdir(parents=True)
    header = "model,tp,num_decode_requests,sum_decode_kv_tokens,execution,latency_us\n"
    rows = ["graph,7000", "eager,9000", "eager,7100"]
    batches = ["1,100", "1,100", "2,100"]
    lines = [f"llama-3.1-8b,1,{batch},{row}\n" for batch, row in zip(batches, rows, strict=True)]
    (folder / "steps.csv").write_text(header + "".join(lines))
    campaign = load_campaign(folder, "H100")
    assert campaign.steps["latency_us"].tolist() == [7000.0, 7100.0]
    [kept_out] = [p for p in campaign.problems if "kept out of fits" in p.message]
    assert kept_out.lines == (3,)


def test_throttling_and_other_processes_are_seen():
    fake = SimpleNamespace(
        NVMLError=ValueError,
        NVML_CLOCK_SM=1,
        nvmlDeviceGetClockInfo=lambda handle, clock: 1755,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x04 | 0x40 | 0x01,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [1, 2],
    )
    state = GpuMonitor(fake, "handle").state()
    assert state.throttled
    assert state.sm_clock_mhz == 1755.0
    assert state.disturbances == (
        "the GPU slowed itself down: power cap",
        "the GPU slowed itself down: hardware thermal slowdown",
        "1 other process on the GPU",
    )


def test_a_gpu_of_another_name_is_refused():
    check_gpu("H200", "NVIDIA H200")
    check_gpu("RTX-9", "NVIDIA GeForce RTX 9")
    with pytest.raises(CalibrateError, match="this machine has a NVIDIA H200; give --gpu H200"):
        check_gpu("H100", "NVIDIA H200")


def test_peaks_are_widened_to_the_fastest_row(tmp_path):
    table = tmp_path / "gemm.csv"
    table.write_text("m,n,k,dtype,latency_us\n1000,1000,1000,bf16,1000\n")
    peaks = widened({"TFlopsPeak": 1.0, "BwPeakTBs": 0.5}, tmp_path, "CPU")
    assert peaks == {"TFlopsPeak": pytest.approx(1.05 * 2.0), "BwPeakTBs": 0.5}
    table.write_text("m,n,k,dtype,latency_us\n1000,1000,1000,bf16,1e-300\n")
    with pytest.raises(CalibrateError, match="a latency_us is next to nothing: remove its row"):
        widened({"TFlopsPeak": 1.0, "BwPeakTBs": 0.5}, tmp_path, "CPU")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["all", "--gpu", "CPU", "--device", "cud"],
            "--device cud: is neither cuda nor cpu; did you mean 'cuda'?",
        ),
        (
            ["al", "--gpu", "CPU"],
            "bench al: no such part (there are specs, memory, gemm, attention, moe, mla,",
        ),
        (
            ["specs", "--gpu", "CPU", "--device", "cpu", "--dtype", "bf61"],
            "--dtype bf61: is not one of",
        ),
        (["specs", "--gpu", "CPU", "--out", "elsewhere/run"], "give <ground truth>/CPU/<campaign>"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(
    torch, monkeypatch, capsys, arguments, message
):
    with pytest.raises(SystemExit):
        run_cli(monkeypatch, "bench", *arguments)
    assert message in capsys.readouterr().err


def test_cuda_is_refused_where_there_is_none(torch, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        run_cli(monkeypatch, "bench", "specs", "--gpu", "H200", "--device", "cuda")
    assert "sees no GPU" in capsys.readouterr().err


def test_without_torch_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit):
        run_cli(monkeypatch, "bench", "all", "--gpu", "CPU")
    assert "pip install 'llm-calibrate[bench]'" in capsys.readouterr().err
