"""Starting the processes of a run on one machine.

A command that asks for several devices starts itself again, once per device, through the launcher
that ``torchrun`` uses; with ``torchrun`` it is started that way by the user.
"""

import logging
import os
import sys
from collections.abc import Sequence

import torch

from hale.errors import EndedError, HaleError


def start(arguments: Sequence[str], processes: int, threads: int | None) -> None:
    """Run ``python ARGUMENTS`` in several processes of this machine, and wait for them.

    Args:
        arguments: of Python.
        processes: how many.
        threads: CPU threads of each; None shares the cores evenly.

    Raises:
        HaleError: one of them was killed.
        EndedError: one failed, and the first has said why.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _quiet_launcher()
    threads = threads or max(1, torch.get_num_threads() // processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", run_id="hale", max_restarts=0, monitor_interval=0.2,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise HaleError(
                f"process {rank} of {processes} was killed by signal {-failure.exitcode}: start "
                "the run again to continue from its last checkpoint"
            ) from None
        raise EndedError(1) from None
    except SignalException as error:
        raise EndedError(128 + error.sigval) from None


def _quiet_launcher() -> None:
    """Silence the launcher's reports, which repeat what the processes say."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
