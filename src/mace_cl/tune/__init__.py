"""Tuning: which parameters and algorithms are measured to be fastest on a device, and the records of that."""
