"""The models of `mace-cl demo`, and the process that times a start."""
