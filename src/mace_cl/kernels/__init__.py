"""Kernel templates: one family a file; rendering is a pure function of problem and parameters."""
