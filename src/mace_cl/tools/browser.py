"""A page as PDF, by a browser that is installed: nothing else lays pages out as they are seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from mace_cl.errors import HostError, StorageError

__all__ = ["find", "print_pdf"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser")
_SECONDS = 120


def find() -> str:
    """The path of a browser that prints without a window: Chromium, or one made of it.

    Raises:
        HostError: there is none on PATH.
    """
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise HostError(
        "a page is made a PDF by Chromium or Google Chrome, and neither is on PATH (Firefox has no command for it): "
        "`apt install chromium`, or open the page in any browser and print it to a file"
    )


def print_pdf(page: Path, output: Path) -> None:
    """Print a page.

    Raises:
        HostError: there is no browser.
        StorageError: the browser failed, or wrote no PDF.
    """
    browser = find()
    with tempfile.TemporaryDirectory(prefix="mace-cl-browser-") as folder:
        made = Path(folder) / "page.pdf"
        command = [
            browser, "--headless", "--disable-gpu", "--disable-extensions", "--disable-background-networking",
            "--no-first-run", f"--user-data-dir={folder}/profile", "--no-pdf-header-footer",
            f"--print-to-pdf={made}", page.resolve().as_uri(),
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # as root it has no sandbox; the page has no scripts
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
            said = done.stderr.strip().rpartition("\n")[2]
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        if not made.is_file() or made.read_bytes()[:5] != b"%PDF-":
            raise StorageError(f"{output}: {browser} wrote no PDF ({said}); print {page} with any browser")
        try:
            shutil.copyfile(made, output)
        except OSError as error:
            raise StorageError(f"{output}: can't be written ({error.strerror}); name another place") from error
