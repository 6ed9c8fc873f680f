"""``mace-cl keygen``, ``sign`` and ``verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mace_cl.cli.options import Verbs, add_json, add_verb

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verbs."""
    keygen = add_verb(
        verbs,
        "keygen",
        _keygen,
        "Make a key to sign compiled programs with. KEY is to be kept secret; KEY.pub is what others trust.",
        "  mace-cl keygen release.key\n  mace-cl keygen release.key --json",
    )
    keygen.add_argument("key", type=Path, metavar="KEY", help="the file to write; it must not exist")
    sign = add_verb(
        verbs,
        "sign",
        _sign,
        "Sign compiled programs. Several keys may sign one file; all of it but the signature stays as it is.",
        "  mace-cl sign program.bin --key release.key",
    )
    sign.add_argument("files", type=Path, nargs="+", metavar="FILE", help="compiled programs")
    sign.add_argument("--key", type=Path, required=True, metavar="KEY", help="a file that `mace-cl keygen` made")
    verify = add_verb(
        verbs,
        "verify",
        _verify,
        "Check every byte of a compiled program and its signatures. The exit code is 5 where one is wrong, or where\n"
        "keys are trusted and none of them signed.",
        "  mace-cl verify program.bin\n  mace-cl verify program.bin --trust release.key.pub",
    )
    verify.add_argument("file", type=Path, metavar="FILE", help="a compiled program")
    verify.add_argument(
        "--trust", action="append", metavar="KEY",
        help="a public key: a file, or 64 hexadecimal digits; repeatable; default: the setting trusted_keys",
    )  # fmt: skip
    for parser in (keygen, sign, verify):
        add_json(parser)


def _keygen(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.tools import program_seal

    pair = program_seal.keygen(options.key)
    if options.json:
        print_json(pair)
        return
    print_lines(
        [
            ("key", f"{pair.id}"),
            ("keep secret", str(pair.private)),
            ("hand out", str(pair.public)),
            ("to trust it", f'trusted_keys = ["{pair.hex}"] in config.toml, or MACE_CL_TRUSTED_KEYS={pair.public}'),
        ]
    )


def _sign(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.tools import program_seal

    result = program_seal.sign(tuple(options.files), options.key)
    if options.json:
        print_json(result)
    else:
        print_lines((str(file), f"signed with the key {result.key}") for file in result.files)


def _verify(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.tools import program_seal

    verdict = program_seal.verify(options.file, tuple(options.trust) if options.trust else None)
    if options.json:
        print_json(verdict)
        return
    rows = [("whole", f"{verdict.file}, {verdict.sections} sections")]
    rows.append(("signed by", ", ".join(verdict.signed_by) or "nobody"))
    if verdict.trusted:
        rows.append(("trusted", ", ".join(verdict.trusted)))
    print_lines(rows)
