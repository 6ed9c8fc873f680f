"""``python -m mace_cl`` is ``mace-cl``."""

from __future__ import annotations

import sys

from mace_cl.cli import main

if __name__ == "__main__":
    sys.exit(main())
