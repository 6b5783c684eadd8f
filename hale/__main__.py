"""The front door: ``hale model=... dataset=...`` trains, ``hale predict ...`` and others ask.

The first word decides: one of ``hale.cli.COMMANDS``, or else Hydra's choices for a run.
"""

import os
import sys
from difflib import get_close_matches

from hale.cli import COMMANDS, run_command


def main() -> None:
    """Run the command line."""
    try:
        dispatch(sys.argv[1:])
    except BrokenPipeError:  # what was read was enough, as by `hale --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dispatch(arguments: list[str]) -> None:
    """Let the first word decide."""
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        sys.exit(run_command(arguments))
    if first == "resume":
        if len(arguments) < 2:
            sys.exit("give the run's folder: hale resume FOLDER")
        sys.argv[1:3] = [f"resume={arguments[1]}"]
    elif first and "=" not in first and first[0] not in "-~+":
        close = get_close_matches(first, [*COMMANDS, "resume"], n=1)
        hint = f": did you mean {close[0]}?" if close else ", hale --help lists them"
        print(f"hale has no command {first!r}{hint}", file=sys.stderr)
        sys.exit(2)
    elif first in ("--help", "-h"):
        print(help_text(), flush=True)

    from hale.run import main as train

    train()


def help_text() -> str:
    """The commands, and the habit of each."""
    width = max(map(len, COMMANDS))
    lines = [f"  hale {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "Commands (hale COMMAND --help tells more):",
            *lines,
            f"  hale {'resume':{width}}  go on with a run that was interrupted",
            "",
            "Anything else trains: hale model=rotl loss=hale dataset=family, as follows.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
