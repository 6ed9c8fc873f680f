"""MACE's own: the reader of a graph and its data, and its operators by family."""

from mace_cl.frontends.mace.reader import load

__all__ = ["load"]
