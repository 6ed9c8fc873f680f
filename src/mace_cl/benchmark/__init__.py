"""Measuring: operations, starts and memory of mace-cl, beside other engines, each in a process of its own."""
