"""The command line: ``hale COMMAND ...``, a module for each command, and training for the rest.

A command's module has ``SUMMARY`` (a line for ``--help``), ``add_arguments(parser)`` and
``run(args)``. What is heavy it imports in ``run``, so that ``--help`` and mistakes are answered at
once.
"""

import argparse
import logging
import os
import sys
from difflib import get_close_matches
from types import ModuleType

from hale.cli import (
    classify,
    dashboard,
    evaluate,
    export,
    predict,
    recipe,
    report,
    results,
    resume,
    stats,
    update,
)
from hale.errors import HaleError
from hale.runs.terminal import escape_unencodable

COMMANDS: dict[str, ModuleType] = {
    module.__name__.rsplit(".", 1)[-1]: module
    for module in (
        predict, evaluate, classify, export, update, results, report, stats, recipe, resume,
        dashboard,
    )
}  # fmt: skip


def main() -> None:
    """Run the command line."""
    try:
        dispatch(sys.argv[1:])
    except BrokenPipeError:  # the reader closed stdout, as `hale --help | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dispatch(arguments: list[str]) -> None:
    """Run the command that the first word names, or else train."""
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        sys.exit(run_command(arguments))
    if first and "=" not in first and first[0] not in "-~+":
        close = get_close_matches(first, COMMANDS, n=1)
        hint = f": did you mean {close[0]}?" if close else ", hale --help lists them"
        print(f"hale has no command {first!r}{hint}", file=sys.stderr)
        sys.exit(2)
    if first in ("--help", "-h"):
        print(help_text(), flush=True)
    from hale.run import main as train

    train()


def run_command(arguments: list[str]) -> int:
    """Run a command and return its exit status: 1 for a user's mistake, one line on stderr.

    Raises:
        BrokenPipeError: the reader closed stdout.
    """
    escape_unencodable()
    args = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        COMMANDS[args.command].run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # an OSError, but not a mistake
        raise
    except (HaleError, OSError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"hale {args.command}: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(prog="hale", allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = module.SUMMARY
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        module.add_arguments(sub)
    return top


def help_text() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  hale {name:{width}}  {module.SUMMARY}" for name, module in COMMANDS.items()]
    return "\n".join(
        [
            "Commands (hale COMMAND --help tells more):",
            *lines,
            "",
            "Anything else trains: hale model=rotl loss=hale dataset=family, as follows.",
            "",
        ]
    )
