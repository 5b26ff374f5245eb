"""What a GPU has in common with others: the link to its neighbours, and the generation of the chip."""

import dataclasses
from collections.abc import Sequence

from calibrate.records.errors import CalibrateError
from calibrate.transfer.hierarchy import Groups
from calibrate.transfer.thresholds import LARGEST_PCIE_GBPS
from sim.errors import nearest
from sim.hardware import Hardware, canonical_gpu, gpu_specs, link_gbps
from sim.models.parameter import Parameter

ALL_REDUCE = "all-reduce"
"""The stage of the parameters that the link decides before the chip does."""

LINKS = tuple(dict.fromkeys(spec.link for spec in gpu_specs().values()))
GENERATIONS = tuple(dict.fromkeys(spec.generation for spec in gpu_specs().values()))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A GPU's ``link`` and ``generation``, as the registry calls them; a generation may be new."""

    link: str
    generation: str

    def groups(self, parameter: Parameter) -> Groups:
        """What the GPU shares with others in one parameter, the widest group first."""
        return (self.link, self.generation) if parameter.stage == ALL_REDUCE else (self.generation,)


def kind_of(
    hardware: Hardware, link: str | None = None, generation: str | None = None
) -> tuple[Kind, list[str]]:
    """The kind of a GPU: as given, else as registered, else by its bandwidth; and what was taken for granted.

    Raises CalibrateError for a link that no GPU of the registry has.
    """
    spec = gpu_specs().get(canonical_gpu(hardware.gpu))
    known = Kind(spec.link, spec.generation) if spec else None
    rate = link_gbps(hardware)
    by_rate = "PCIe" if rate <= LARGEST_PCIE_GBPS else "NVLink"
    found = Kind(
        _link(link) if link else (known.link if known else by_rate),
        _spelled(generation, GENERATIONS)
        if generation
        else (known.generation if known else hardware.gpu),
    )
    notes = []
    if known is None and link is None:
        notes.append(
            f"{hardware.gpu} is taken to be linked by {by_rate}, for its {rate:g} GB/s one way; "
            "`calibrate transfer --link` says otherwise."
        )
    if known is None and generation is None:
        notes.append(
            f"{hardware.gpu} is taken as the first of its generation; `calibrate transfer --generation` says otherwise."
        )
    return found, notes


def _link(given: str) -> str:
    link = _spelled(given, LINKS)
    if link not in LINKS:
        raise CalibrateError(
            f"--link {given}: is no link that is known (known: {', '.join(LINKS)}){nearest(given, LINKS)}"
        )
    return link


def _spelled(given: str, known: Sequence[str]) -> str:
    """A name as the registry spells it; as it was given where the registry has none like it."""
    return next((name for name in known if name.lower() == given.lower()), given)
