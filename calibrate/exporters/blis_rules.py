"""The rules of a CoefficientSet of BLIS: what its loader refuses, and what its registry's own tests ask for.

blis-schemas v0.2.2, blis-registry docs/reference/format.md. Unknown keys are errors at every level.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

UNITS = (
    *("dimensionless", "us_per_layer", "us_per_request", "us_per_step", "us_per_hop"),
    *("us_per_transfer", "us_per_load", "us_per_token", "bytes_per_us", "bytes_per_rank"),
    *("tokens", "sm_count"),
)
METHODS = ("measured", "vendor_spec", "literature", "copied", "assumed", "not_charged")
SCOPE_KEYS = ("hardware", "model", "tp", "ep", "nodes_spanned")
SOURCE_KINDS = ("discussion", "publication", "datasheet", "model", "vendor_doc")
SOURCE_ROLES = ("primary", "supporting", "upper_bound")
_SET_KEYS = ("kind", "name", "coefficients")
_REQUIRED = ("value", "units", "method", "fitted", "scope")
_OPTIONAL = (
    *("sources", "rationale", "ci95", "copied_from", "supersedes", "validated", "unsupported"),
)
_CITED = ("literature", "vendor_spec", "measured")
_SUBSTANTIAL = 80  # characters of an assumed entry's rationale


def problems(content: object) -> list[str]:
    """What is wrong with the content of a coefficient file, in words; empty where a loader takes it."""
    if not isinstance(content, Mapping):
        return ["must hold named fields"]
    found = [f"unknown key {key}" for key in content if key not in _SET_KEYS]
    if content.get("kind") != "CoefficientSet":
        found.append("kind must be CoefficientSet")
    if not content.get("name"):
        found.append("name is missing")
    entries = content.get("coefficients")
    if not isinstance(entries, list) or not entries:
        return [*found, "coefficients must be a list of entries"]

    seen = set()
    for entry in entries:
        if not isinstance(entry, Mapping) or len(entry) != 1:
            found.append("an entry must be a map with one key, its name")
            continue
        ((name, fields),) = entry.items()
        found += [f"{name}: {words}" for words in _of_entry(fields)]
        identity = (name, _identity(fields))
        if identity in seen:
            found.append(f"{name}: stands twice for the same scope")
        seen.add(identity)
    return found


def _of_entry(fields: object) -> Iterator[str]:
    if not isinstance(fields, Mapping):
        yield "must hold named fields"
        return
    yield from (f"unknown key {key}" for key in fields if key not in (*_REQUIRED, *_OPTIONAL))
    missing = [key for key in _REQUIRED if key not in fields]
    if missing:
        yield f"{', '.join(missing)} missing"
        return
    yield from _of_value(fields)
    if fields["units"] not in UNITS:
        yield f"units {fields['units']!r} are not in the vocabulary"
    yield from _of_method(fields)
    yield from _of_scope(fields["scope"])
    if "sources" in fields:
        yield from _of_sources(fields["sources"])


def _of_value(fields: Mapping[str, Any]) -> Iterator[str]:
    value = fields["value"]
    if not _is_number(value):
        yield "value must be a finite number"
        return
    if value == 0 and fields["method"] != "not_charged":
        yield "value is 0, which only not_charged may be"
    interval = fields.get("ci95")
    if interval is None:
        return
    sound = isinstance(interval, list) and len(interval) == 2 and all(map(_is_number, interval))
    if not sound or not interval[0] <= value <= interval[1]:
        yield "ci95 must be [low, high] with the value inside"


def _of_method(fields: Mapping[str, Any]) -> Iterator[str]:
    method, rationale = fields["method"], fields.get("rationale", "")
    if method not in METHODS:
        yield f"method {method!r} is not in the vocabulary"
    if not isinstance(fields["fitted"], bool):
        yield "fitted must be true or false"
    elif fields["fitted"] and method != "measured":
        yield "fitted: true requires method: measured"
    if method in _CITED and not fields.get("sources"):
        yield f"method {method} requires sources"
    if method != "measured" and not rationale:
        yield f"method {method} requires a rationale"
    if method == "assumed" and len(rationale) < _SUBSTANTIAL:
        yield "an assumed value needs a substantial rationale"
    if method == "copied" and not fields.get("copied_from"):
        yield "method copied requires copied_from"


def _of_scope(scope: object) -> Iterator[str]:
    if not isinstance(scope, Mapping) or not scope:
        yield "scope must have at least one dimension"
        return
    yield from (f"unknown scope key {key}" for key in scope if key not in SCOPE_KEYS)
    yield from (f"scope {key} is empty" for key, values in scope.items() if not values)


def _of_sources(sources: object) -> Iterator[str]:
    if not isinstance(sources, list) or not sources:
        yield "sources must be a list that is not empty"
        return
    for source in sources:
        if not isinstance(source, Mapping) or set(source) != {"kind", "cite", "role"}:
            yield "a source must have kind, cite and role"
        elif source["kind"] not in SOURCE_KINDS or source["role"] not in SOURCE_ROLES:
            yield f"source kind {source['kind']!r} or role {source['role']!r} is not in the vocabulary"
        elif not source["cite"]:
            yield "a source must cite something"


def _identity(fields: object) -> str:
    """The scope, whatever the order of its dimensions and values."""
    scope = fields.get("scope") if isinstance(fields, Mapping) else None
    if not isinstance(scope, Mapping):
        return ""
    return str(sorted((key, sorted(map(str, _listed(values)))) for key, values in scope.items()))


def _listed(values: object) -> list[object]:
    return values if isinstance(values, list) else [values]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
