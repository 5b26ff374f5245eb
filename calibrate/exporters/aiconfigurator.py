"""A system file of AIConfigurator (package aiconfigurator-core 0.12, ``systems/<system>.yaml``).

A memory operation takes bytes/(mem_bw·mem_bw_empirical_scaling_factor) + mem_empirical_constant_latency there; the
factor is what a calibration knows. The constant latency is of one operation, which no engine step shows: it keeps the
package's value, and so does what a configuration does not hold (node, memory of the libraries).
"""

import yaml

from calibrate.exporters.exported import (
    Exported,
    Source,
    achieved_bandwidth,
    as_written,
    memory_bytes,
    numbers,
    yaml_mapping,
)
from calibrate.importers.aiconfigurator import SYSTEMS
from calibrate.records.errors import ImportFormatError
from sim.hardware import Hardware, canonical_gpu
from sim.units import BYTES_PER_GIB, GIGA, TERA

_COMPUTE_CAPABILITY = {"H100": 90, "H200": 90, "A100-SXM": 80, "L40S": 89, "B200": 100}
_OPERATION_S = 3e-6
_NODE = {"num_gpus_per_node": 8, "pcie_bw": 64_000_000_000, "p2p_latency": 1e-5}
_INTER_NODE_GB_PER_S = 50.0
_MISC = {
    "nccl_mem": {1: 0, 2: 358612992, 4: 411041792, 8: 411041792},
    "other_mem": 3758096384,
    "nccl_version": "2.27.3",
}
_READ_OF_GPU = (
    "mem_bw",
    "mem_bw_empirical_scaling_factor",
    "mem_capacity",
    "bfloat16_tc_flops",
)
_READ_OF_NODE = (
    "intra_node_bw",
    "inter_node_bw",
)
_WHAT = "system file of AIConfigurator"


def write(source: Source) -> Exported:
    """Raises HardwareError without a peak, BwEffConstant, MemoryGiB or IntraNodeBwGBps."""
    gpu = canonical_gpu(source.gpu)
    block = _gpu_block(source.peaks, gpu)
    node = _node_block(source.peaks)
    system = {
        "data_dir": f"data/{SYSTEMS.get(gpu, source.gpu.lower())}",
        "gpu": {key: as_written(value) for key, value in block.items()},
        "node": {key: as_written(value) for key, value in node.items()},
        "misc": _MISC,
    }
    text = yaml.safe_dump(system, sort_keys=False)
    return Exported(text, tuple(_notes(source, gpu)))


def _gpu_block(peaks: Hardware, gpu: str) -> dict[str, float]:
    tera_flops = peaks.positive("TFlopsPeak")
    fp8_tera_flops = peaks.values.get("TFlopsFP8", 0.0)
    block = {
        "mem_bw": peaks.positive("BwPeakTBs") * TERA,
        "mem_bw_empirical_scaling_factor": achieved_bandwidth(peaks),
        "mem_empirical_constant_latency": _OPERATION_S,
        "mem_capacity": memory_bytes(peaks),
        "bfloat16_tc_flops": tera_flops * TERA,
        "int8_tc_flops": (fp8_tera_flops or 2.0 * tera_flops) * TERA,
    }
    if fp8_tera_flops:
        block["fp8_tc_flops"] = fp8_tera_flops * TERA
    if gpu in _COMPUTE_CAPABILITY:
        block["sm_version"] = _COMPUTE_CAPABILITY[gpu]
    return block


def _node_block(peaks: Hardware) -> dict[str, float]:
    inter_node = peaks.values.get("InterNodeBwGBps") or _INTER_NODE_GB_PER_S
    return {
        **_NODE,
        "intra_node_bw": peaks.positive("IntraNodeBwGBps") * GIGA,
        "inter_node_bw": inter_node * GIGA,
    }


def read(text: str) -> dict[str, float]:
    """The keys of our configuration that a system file gives. Raises ImportFormatError for another text."""
    content = yaml_mapping(text, _WHAT)
    gpu = content.get("gpu")
    node = content.get("node")
    if not isinstance(gpu, dict) or not isinstance(node, dict):
        raise ImportFormatError(f"not a {_WHAT}: it must hold gpu and node")

    stated = numbers(gpu, _READ_OF_GPU, _WHAT)
    links = numbers(node, _READ_OF_NODE, _WHAT)
    values = {
        "TFlopsPeak": stated["bfloat16_tc_flops"] / TERA,
        "BwPeakTBs": stated["mem_bw"] / TERA,
        "BwEffConstant": stated["mem_bw_empirical_scaling_factor"],
    }
    if "fp8_tc_flops" in gpu:
        fp8 = numbers(gpu, ("fp8_tc_flops",), _WHAT)
        values["TFlopsFP8"] = fp8["fp8_tc_flops"] / TERA
    values["MemoryGiB"] = stated["mem_capacity"] / BYTES_PER_GIB
    values["IntraNodeBwGBps"] = links["intra_node_bw"] / GIGA
    values["InterNodeBwGBps"] = links["inter_node_bw"] / GIGA
    return values


def _notes(source: Source, gpu: str) -> list[str]:
    notes = [
        "mem_bw_empirical_scaling_factor is BwEffConstant × decodeBwFactor. The latency of one memory operation, PCIe, "
        "and what the libraries take of the memory are the package's values; kernel tables stay its own."
    ]
    if "InterNodeBwGBps" not in source.peaks.values:
        notes.append(
            f"inter_node_bw: the configuration has none; {_INTER_NODE_GB_PER_S:g} GB/s as in H100's file."
        )
    if gpu not in SYSTEMS:
        notes.append(
            f"The package has no tables of {source.gpu}: correct data_dir, and add sm_version."
        )
    return notes
