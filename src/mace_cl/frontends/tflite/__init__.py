"""TensorFlow Lite: the file, the converter of its graph, and its operators by family."""

from mace_cl.frontends.tflite.converter import declared, load

__all__ = ["declared", "load"]
