"""The formats that a recorded workload may have: which fields hold a request's arrival, prompt and output."""

import dataclasses

from calibrate.records.schema import Column
from sim.units import MS_PER_S

_LONGEST = float(1 << 30)
CACHED = Column("cached_tokens", "count", largest=_LONGEST)
HASHES = "hash_ids"
"""The field that names the blocks of a prompt: requests that begin with the same names begin with the same tokens."""


@dataclasses.dataclass(frozen=True)
class WorkloadFormat:
    """Names of the fields of a request. ``seconds`` is what one unit of ``arrival`` is; None for a time of day.

    With ``from_first`` the first arrival is 0, else the fields count from the start.
    """

    arrival: str
    prompt: str
    output: str
    seconds: float | None = 1.0
    from_first: bool = True
    optional: tuple[Column, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """What each field must hold."""
        kind: Column = Column(self.arrival, "text" if self.seconds is None else "amount", True)
        tokens = (
            Column(name, "count", required=True, largest=_LONGEST)
            for name in (self.prompt, self.output)
        )
        return (kind, *tokens, *self.optional)

    @property
    def required(self) -> tuple[str, str, str]:
        """The fields that every request has."""
        return self.arrival, self.prompt, self.output


IN_CSV = (
    WorkloadFormat(
        "arrival_s", "prompt_tokens", "output_tokens", from_first=False, optional=(CACHED,)
    ),
    # Azure's LLM inference traces of 2023 and 2024, github.com/Azure/AzurePublicDataset
    WorkloadFormat("TIMESTAMP", "ContextTokens", "GeneratedTokens", seconds=None),
    # Vidur, github.com/microsoft/vidur
    WorkloadFormat("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    # BurstGPT, github.com/HPMLL/BurstGPT
    WorkloadFormat("Timestamp", "Request tokens", "Response tokens"),
)
IN_LINES = (
    # Mooncake, github.com/kvcache-ai/Mooncake; its times are ms
    WorkloadFormat("timestamp", "input_length", "output_length", seconds=1.0 / MS_PER_S),
    # Runs of LLMServingSim, github.com/casys-kaist/LLMServingSim
    WorkloadFormat("arrival_time", "input_toks", "output_toks"),
)
