"""A look inside files of others: MACE's, the program binaries of OpenCL drivers, models.

`recognise` says what a file is; `mace_cl.foreign.mace_store` reads and writes MACE's own.
"""

from mace_cl.foreign.notes import Description, Part
from mace_cl.foreign.recognise import recognise

__all__ = ["Description", "Part", "recognise"]
