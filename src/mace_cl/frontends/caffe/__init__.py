"""Caffe: the reader of a network and its weights, and its layers by family."""

from mace_cl.frontends.caffe.reader import load

__all__ = ["load"]
