"""What is served in the steps that are watched: a number for each model, type and degree, while the watch lasts."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.errors import ArchitectureError
from sim.steps.batch import Floats, StepTable, served_as

Key = tuple[str, str, str, str, int, int]
"""Model, types of weights, of cached keys and values and of experts, ep and tp."""


@dataclasses.dataclass
class Served:
    """The keys by number, and the architectures of those that have been seen since this process began."""

    numbers: dict[Key, int] = dataclasses.field(default_factory=dict)
    architectures: dict[int, Architecture] = dataclasses.field(default_factory=dict)

    def numbers_of(self, table: StepTable) -> NDArray[np.intp]:
        """The number of what is served in each step, shape (n,)."""
        largest = int(table.tp.max(initial=0)) + 1
        distinct, which = np.unique(table.arch_index * largest + table.tp, return_inverse=True)
        found = []
        for code in distinct.tolist():
            arch = table.architectures[code // largest]
            number = self.number(key_of(arch, code % largest))
            self.architectures[number] = arch
            found.append(number)
        return np.array(found, dtype=np.intp)[which]

    def number(self, key: Key) -> int:
        """The number of a key, a new one for a new key."""
        return self.numbers.setdefault(key, len(self.numbers))

    def table(self, numbers: NDArray[np.intp], moments: Floats) -> StepTable:
        """Steps with these sums, shape (8, n), as a table. Raises ArchitectureError for a model that is gone."""
        keys = list(self.numbers)
        distinct, which = np.unique(numbers, return_inverse=True)
        architectures = [self._architecture(number, keys[number]) for number in distinct.tolist()]
        tps = np.array([keys[number][-1] for number in distinct.tolist()], dtype=np.int64)
        places = {arch: place for place, arch in enumerate(dict.fromkeys(architectures))}
        index = np.array([places[arch] for arch in architectures], dtype=np.intp)
        return StepTable(tuple(places), index[which], tps[which], moments)

    def is_there(self, number: int) -> bool:
        """Whether the architecture of a number is known still."""
        try:
            self._architecture(number, list(self.numbers)[number])
        except ArchitectureError:
            return False
        return True

    def to_plain(self) -> list[list[Any]]:
        """The keys in order, as JSON has them."""
        return [list(key) for key in self.numbers]

    @classmethod
    def from_plain(cls, plain: list[list[Any]]) -> "Served":
        """The keys of which :meth:`to_plain` made this."""
        keys = [
            (str(model), str(dtype), str(kv), str(moe), int(ep), int(tp))
            for model, dtype, kv, moe, ep, tp in plain
        ]
        return cls({key: number for number, key in enumerate(keys)})

    def _architecture(self, number: int, key: Key) -> Architecture:
        if number not in self.architectures:
            model, dtype, kv_dtype, moe_dtype, ep, _ = key
            cells = {"dtype": dtype, "kv_dtype": kv_dtype, "moe_dtype": moe_dtype, "ep": ep}
            self.architectures[number] = served_as(load_architecture, model, cells)
        return self.architectures[number]


def key_of(arch: Architecture, tp: int) -> Key:
    """What tells an architecture at a degree from others."""
    return arch.name, arch.dtype, arch.kv_dtype or "", arch.moe_dtype or "", arch.ep, tp
