"""``hale resume``: continue a run that was interrupted, with the settings it was started with."""

import argparse
from pathlib import Path

from hale.cli.update import settings_of

SUMMARY = "continue a run that was interrupted, from its last checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run's folder, and what may change."""
    parser.add_argument("folder", metavar="FOLDER", help="the run's folder")
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*",
        help="values that differ from the start, as trainer.log_every_n_steps=10",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Train to the end of the budget, as if the run had not been interrupted.

    Raises:
        HaleError: the folder is not a run's, or its checkpoint does not fit the settings.
    """
    folder = Path(args.folder)
    from hale.run import reported, resume
    from hale.training.update import finish, is_update

    if is_update(folder):
        with reported(folder):
            finish(folder, settings_of(args.overrides))
    else:
        resume(folder, args.overrides)
