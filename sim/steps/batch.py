"""One engine step (:class:`Batch`) and many of them (:class:`StepTable`), reduced to the sums a roofline needs."""

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.architecture import Architecture
from sim.architecture_files import load_architecture
from sim.errors import StepError
from sim.steps.moments import MOMENTS, equal_requests, moments_of_columns, moments_of_requests
from sim.steps.runs import Floats as Floats  # named here for the models
from sim.steps.runs import Requests, Runs

T = TypeVar("T")


class Columns(Protocol):
    """Columns by name: a dict of arrays, or a DataFrame."""

    def __contains__(self, name: object, /) -> bool:
        """Whether there is a column of that name."""

    def __getitem__(self, name: str, /) -> Any:
        """The column of that name."""


ArchitectureLoader = Callable[[str, str | None], Architecture]
"""Loads a model by its name, with its weights as a type where one is given."""

COUNT_COLUMNS = (
    "num_prefill_requests",
    "sum_prefill_tokens",
    "sum_prefill_kv_tokens",
    "sum_prefill_qk_pairs",
    "num_decode_requests",
    "sum_decode_kv_tokens",
)
"""Columns of the ``steps`` table that describe the batch, under the names of the Forward Pass Metrics."""


SERVED_AS = ("dtype", "kv_dtype", "moe_dtype", "ep")
"""Columns that say how a row's model is served: the types of weights, of cached keys and values and of experts, and how
many GPUs share the experts whole."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """The requests of one engine step. ``prefill`` is (k, 3): context, new tokens, count; ``decode`` (k, 2)."""

    prefill: Floats
    decode: Floats

    @classmethod
    def from_requests(
        cls, prefill: Iterable[Sequence[float]] = (), decode: Iterable[Sequence[float]] = ()
    ) -> "Batch":
        """Build from (context, new_tokens[, count]) and (context[, count]) runs; a missing count is 1.

        Raises StepError for a negative or non-finite entry.
        """
        return cls(_runs(prefill, 3, "prefill"), _runs(decode, 2, "decode"))

    @property
    def moments(self) -> Floats:
        """The sums named in :data:`MOMENTS`, shape (8,)."""
        moments: Floats = moments_of_requests(_requests([self]))[:, 0]
        return moments


@dataclasses.dataclass(frozen=True, eq=False)
class StepTable:
    """Many steps of any mix of models and tensor-parallel degrees; one entry a row in every array.

    ``architectures`` are the distinct models, ``arch_index`` (n,) picks one a row, ``tp`` (n,) is the
    tensor-parallel degree and ``moments`` is (8, n), its rows named by :data:`MOMENTS`. ``listed`` has the
    requests themselves where they were given; :attr:`requests` always has some.
    """

    architectures: tuple[Architecture, ...]
    arch_index: NDArray[np.intp]
    tp: NDArray[np.int64]
    moments: Floats
    listed: Requests | None = None
    _memo: dict[Hashable, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.tp)

    @classmethod
    def from_columns(
        cls,
        columns: Columns,
        load: ArchitectureLoader = load_architecture,
    ) -> "StepTable":
        """Build from columns of the ``steps`` table (a dict of arrays or a DataFrame), each of length n.

        ``model`` and ``tp`` are required; a missing count column is all zero; ``dtype`` overrides the model's, and
        ``kv_dtype``, ``moe_dtype`` and ``ep`` say how it is served.
        Without ``sum_prefill_qk_pairs`` (or where it is NaN) the requests of a row are taken as equal in length.
        Raises StepError, naming the first bad row, and ArchitectureError for an unknown model.
        """
        names = _strings(columns["model"])
        served = {name: _strings(columns[name]) for name in SERVED_AS if name in columns}
        return cls.from_counts(*_architectures(names, served, load), columns)

    @classmethod
    def from_counts(
        cls,
        architectures: tuple[Architecture, ...],
        arch_index: NDArray[np.intp],
        columns: Columns,
    ) -> "StepTable":
        """The same for rows of which it is known which of the models ``arch_index`` (n,) each is of."""
        tp = _degrees(columns["tp"])
        counts = {name: _counts(columns, name, len(tp)) for name in COUNT_COLUMNS}
        return cls(architectures, arch_index, tp, moments_of_columns(*counts.values()))

    @classmethod
    def from_batches(
        cls, batches: Sequence[Batch], architectures: Sequence[Architecture], tp: Sequence[int]
    ) -> "StepTable":
        """Build from one batch, one architecture and one tp a row (n of each)."""
        degrees = _degrees(tp)
        distinct = tuple(dict.fromkeys(architectures))
        position = {arch: i for i, arch in enumerate(distinct)}
        index = np.array([position[arch] for arch in architectures], dtype=np.intp)
        requests = _requests(batches)
        return cls(distinct, index, degrees, moments_of_requests(requests), requests)

    @classmethod
    def concatenate(cls, tables: Sequence["StepTable"]) -> "StepTable":
        """The rows of all tables (at least one), one table after the other."""
        distinct = tuple(dict.fromkeys(arch for table in tables for arch in table.architectures))
        position = {arch: i for i, arch in enumerate(distinct)}
        index = [
            np.array([position[a] for a in t.architectures], dtype=np.intp)[t.arch_index]
            for t in tables
        ]
        any_listed = any(table.listed is not None for table in tables)
        return cls(
            distinct,
            np.concatenate(index),
            np.concatenate([table.tp for table in tables]),
            np.concatenate([table.moments for table in tables], axis=1),
            Requests.join([table.requests for table in tables]) if any_listed else None,
        )

    def columns(self) -> dict[str, Any]:
        """The table as columns of ``steps``; :meth:`from_columns` turns them back into the same moments.

        Exact where no row mixes one-token prefills with longer ones (such rows need the ``requests`` table).
        """
        m = dict(zip(MOMENTS, self.moments, strict=True))
        values = (
            m["num_prefill"],
            m["new_tokens"] + m["num_single"],
            m["context_tokens"] + m["single_context_tokens"],
            m["qk_pairs"],
            m["num_decode"],
            m["decode_context_tokens"],
        )
        served = {
            name: [getattr(self.architectures[i], name) for i in self.arch_index]
            for name in SERVED_AS
            if name == "dtype" or any(_is_said(name, arch) for arch in self.architectures)
        }
        return {
            "model": [self.architectures[i].name for i in self.arch_index],
            "tp": self.tp,
            **served,
            **dict(zip(COUNT_COLUMNS, values, strict=True)),
        }

    def take(self, rows: ArrayLike) -> "StepTable":
        """The table of the given rows (indices or a boolean mask)."""
        chosen = np.asarray(rows)
        return StepTable(
            self.architectures,
            self.arch_index[chosen],
            self.tp[chosen],
            np.ascontiguousarray(self.moments[:, chosen]),
            None if self.listed is None else self.listed.take(chosen),
        )

    def memo(self, key: Hashable, build: Callable[["StepTable"], T]) -> T:
        """``build(self)``, computed once per key: what a latency model derives from the table alone."""
        if key not in self._memo:
            self._memo[key] = build(self)
        value: T = self._memo[key]
        return value

    @property
    def requests(self) -> Requests:
        """The requests of every row: those listed, else as many as the moments count, equal in length."""
        return equal_requests(self.moments) if self.listed is None else self.listed

    @property
    def phases(self) -> NDArray[np.str_]:
        """``prefill``, ``decode`` or ``mixed`` (``empty`` for a step without requests), one a row."""
        has_prefill = self.moments[0] > 0
        has_decode = self.moments[6] > 0
        names: NDArray[np.str_] = np.array(["empty", "decode", "prefill", "mixed"])[
            2 * has_prefill + 1 * has_decode
        ]
        return names


def _degrees(values: ArrayLike) -> NDArray[np.int64]:
    tp = np.asarray(values, dtype=np.float64)
    whole = (tp >= 1) & (tp == np.floor(tp)) & (tp < 2**31)
    if not whole.all():
        row = int(np.argmin(whole))
        raise StepError(f"row {row}: tp must be a whole number ≥ 1 and below 2³¹, got {tp[row]:g}")
    return tp.astype(np.int64)


def _runs(rows: Iterable[Sequence[float]], width: int, phase: str) -> Floats:
    full = [tuple(row) if len(row) == width else (*row, 1) for row in rows]
    if any(len(row) != width for row in full):
        raise StepError(
            f"a {phase} request needs {width - 1} numbers, and a count as an option; got {rows!r}"
        )
    array = np.array(full, dtype=np.float64).reshape(-1, width)
    if not np.all(np.isfinite(array)) or np.any(array < 0):
        raise StepError(f"{phase} requests must be finite and not negative, got {rows!r}")
    return array


def _strings(values: ArrayLike) -> list[str]:
    return values if isinstance(values, list) else np.asarray(values, dtype=object).tolist()


def _architectures(
    names: list[str], served: dict[str, list[Any]], load: ArchitectureLoader
) -> tuple[tuple[Architecture, ...], NDArray[np.intp]]:
    """The distinct models, each served as the columns ``served`` say, and which of them a row has."""
    keys: Sequence[Hashable] = list(zip(names, *served.values(), strict=True)) if served else names
    loaded: dict[Hashable, Architecture] = {}
    for key in dict.fromkeys(keys):
        name, *cells = key if isinstance(key, tuple) else (str(key),)
        loaded[key] = served_as(load, str(name), dict(zip(served, cells, strict=True)))
    distinct = tuple(dict.fromkeys(loaded.values()))
    position = {key: distinct.index(arch) for key, arch in loaded.items()}
    return distinct, np.fromiter(map(position.__getitem__, keys), dtype=np.intp, count=len(keys))


def served_as(load: ArchitectureLoader, name: str, cells: Mapping[str, Any]) -> Architecture:
    """A model as a row's columns say (:data:`SERVED_AS`); what they leave empty is the model's own.

    Raises ArchitectureError for a type that is not known, and experts that cannot be shared so.
    """
    types = {key: cell for key, cell in cells.items() if isinstance(cell, str) and cell}
    arch = load(name, types.get("dtype"))
    if "kv_dtype" in types:
        arch = arch.with_kv_dtype(types["kv_dtype"])
    if "moe_dtype" in types:
        arch = arch.with_moe_dtype(types["moe_dtype"])
    ep = cells.get("ep", 1)
    given = isinstance(ep, int | float | np.number) and ep == ep  # not an empty cell
    return arch.with_ep(int(ep)) if given and ep != 1 else arch


def _is_said(name: str, arch: Architecture) -> bool:
    return arch.ep > 1 if name == "ep" else bool(getattr(arch, name))


def _counts(columns: Columns, name: str, size: int) -> Floats:
    if name not in columns:
        return np.full(size, np.nan if name == "sum_prefill_qk_pairs" else 0.0)
    values = np.asarray(columns[name], dtype=np.float64)
    if values.shape != (size,):
        raise StepError(f"column {name} has {values.size} entries, expected {size}")
    if name != "sum_prefill_qk_pairs":
        values = np.where(np.isnan(values), 0.0, values)
    bad = (values < 0) | np.isinf(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise StepError(f"row {row}: {name} must be finite and not negative, got {values[row]:g}")
    return values


def _requests(batches: Sequence[Batch]) -> Requests:
    return Requests(
        Runs.from_steps([batch.prefill for batch in batches], 3),
        Runs.from_steps([batch.decode for batch in batches], 2),
    )
