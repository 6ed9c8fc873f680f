"""Replaying schedules on an OpenCL device; what a warm start needs and nothing more."""
