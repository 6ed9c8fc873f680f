"""MACE's own: the writer, its graph, and nodes as operators by family."""

from mace_cl.export.mace.graph import GRAPH, Written
from mace_cl.export.mace.writer import write

__all__ = ["GRAPH", "Written", "write"]
