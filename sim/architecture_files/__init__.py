"""Reading models: the registry of known ones, and any Hugging Face ``config.json``.

In: names, files, dictionaries. Out: architectures.
Uses: architecture and below.
"""

from sim.architecture_files.registry import architecture_names, canonical_model, load_architecture

__all__ = ["architecture_names", "canonical_model", "load_architecture"]
