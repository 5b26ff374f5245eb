"""What could serve a model: GPU, tensor-parallel degree and limits, and why some of it could not."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from calibrate.capacity.replica import Replica
from sim.architecture import Architecture
from sim.errors import ArchitectureError, HardwareError, WorkloadError
from sim.hardware import Hardware
from sim.models.latency_model import LatencyModel
from sim.serving.engine import EngineLimits, kv_cache_tokens


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A GPU, how many of them hold one replica, and the limits of its engine."""

    gpu: str
    tp: int
    max_num_seqs: int
    max_num_batched_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.gpu} TP {self.tp}, max_num_seqs {self.max_num_seqs}, "
            f"max_num_batched_tokens {self.max_num_batched_tokens}"
        )


@dataclasses.dataclass(frozen=True)
class Excluded:
    """Something that cannot serve, and ``why``; limits are None where none of them would help."""

    gpu: str
    tp: int
    why: str
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None

    def __str__(self) -> str:
        limits = (
            ""
            if self.max_num_seqs is None
            else f", max_num_seqs {self.max_num_seqs}, max_num_batched_tokens {self.max_num_batched_tokens}"
        )
        return f"{self.gpu} TP {self.tp}{limits}: {self.why}"


@dataclasses.dataclass(frozen=True)
class Choices:
    """What there is to choose from: GPUs with their latency models, degrees, limits."""

    hardware: Sequence[Hardware]
    models: Mapping[str, LatencyModel]
    tps: Sequence[int]
    max_num_seqs: Sequence[int]
    max_num_batched_tokens: Sequence[int]
    prefill_first: bool = False


Replicas = dict[Candidate, Replica]


def lay_out(
    choices: Choices, arch: Architecture, request_tokens: float | None = None
) -> tuple[Replicas, list[Excluded]]:
    """Every candidate that could serve ``arch``, as a replica; the others with the reason.

    ``request_tokens`` as for :func:`~sim.serving.engine.kv_cache_tokens`.
    """
    replicas: Replicas = {}
    excluded: list[Excluded] = []
    for hardware, tp in itertools.product(choices.hardware, choices.tps):
        model = choices.models[hardware.gpu]
        try:
            arch.check_tp(tp)
            model.limits(arch)
            tokens = kv_cache_tokens(arch, hardware, tp, request_tokens=request_tokens)
        except (ArchitectureError, HardwareError) as error:
            excluded.append(Excluded(hardware.gpu, tp, str(error)))
            continue
        for seqs, budget in itertools.product(choices.max_num_seqs, choices.max_num_batched_tokens):
            try:
                engine = EngineLimits(
                    max_num_batched_tokens=budget,
                    max_num_seqs=seqs,
                    kv_cache_tokens=tokens,
                    prefill_first=choices.prefill_first,
                )
            except WorkloadError as error:
                excluded.append(Excluded(hardware.gpu, tp, str(error), seqs, budget))
                continue
            served = engine.with_request_times(hardware, arch)
            candidate = Candidate(hardware.gpu, tp, seqs, budget)
            replicas[candidate] = Replica(model, arch, hardware, tp, served)
    return replicas, excluded
