"""Options of Lightning's Trainer that hale decides, or that would leave nothing to record.

The budget ends training, ``validations`` says when to validate, and checkpoints are what makes a
run resumable: an option that contradicts them is refused before anything is written.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from hale.errors import HaleError, require_whole

FIXED: Mapping[str, Any] = {
    "max_epochs": -1, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0,
    "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False,
}  # fmt: skip
"""What every run's trainer is made with."""
BUDGET = "budget.seconds or budget.steps says when training ends"
VALIDATIONS = "validations says how often the run is validated"
DECIDED = {
    "max_steps": BUDGET, "max_time": BUDGET, "max_epochs": BUDGET, "min_steps": BUDGET,
    "min_epochs": BUDGET, "val_check_interval": VALIDATIONS, "check_val_every_n_epoch": VALIDATIONS,
    "num_sanity_val_steps": VALIDATIONS, "callbacks": "choose them with callbacks=...",
    "logger": "choose it with logger=...", "default_root_dir": "hydra.run.dir is the run's folder",
    "enable_progress_bar": "hale has its own progress bar",
    "enable_model_summary": "hale prints its own summary",
    "use_distributed_sampler": "hale shards batches itself",
    "plugins": "hale writes checkpoints itself",
}  # fmt: skip
"""Options that hale sets, and what to use in their place."""
SWITCHED = {
    "fast_dev_run": "it would write no checkpoint; debug=smoke makes a short run",
    "barebones": "it would write no checkpoint and validate nothing",
    "overfit_batches": "it would train on a few batches only",
    "reload_dataloaders_every_n_epochs": "every epoch would have the same order of queries",
}
"""Options that may only be off."""
LIMITS = {
    "limit_train_batches": "nothing would be trained",
    "limit_val_batches": "no validation would choose the best weights",
    "limit_test_batches": "nothing would be tested; test=false leaves the test out",
}
"""Options that may not be 0."""
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables that give Lightning a process's rank; the first that is set counts."""
STRATEGIES = (None, "auto", "ddp", "sharded")
"""How the processes of a run train together; auto is one process."""
PRECISIONS = ("32", "32-true", "64", "64-true", "16", "16-mixed", "bf16", "bf16-mixed")
"""With the weights in 16 bits models have no complex products and metrics no exact sums."""
SHARDED_PRECISIONS = ("32", "32-true", "bf16", "bf16-mixed")
"""Lightning shards no model in 64 bits, and no process alone sees a gradient overflow in 16."""


def require_trainer(options: Mapping[str, Any]) -> None:
    """Raise HaleError for an option of the trainer that contradicts the budget or the record.

    Args:
        options: the config group ``trainer``.
    """
    for name, value in options.items():
        if name in DECIDED:
            raise HaleError(f"trainer.{name} cannot be set: {DECIDED[name]}")
        if name in SWITCHED and value:
            raise HaleError(f"trainer.{name} cannot be {str(value).lower()}: {SWITCHED[name]}")
        if name in LIMITS and value is not None and not value:
            raise HaleError(f"trainer.{name} cannot be {value}: {LIMITS[name]}")
        if name == "enable_checkpointing" and value is False:
            raise HaleError("trainer.enable_checkpointing cannot be false: a run needs checkpoints")
    if options.get("strategy") not in STRATEGIES:
        raise HaleError(f"trainer.strategy must be auto, ddp or sharded, got {options['strategy']}")
    precision = options.get("precision")
    if precision is not None and str(precision) not in PRECISIONS:
        raise HaleError(
            f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {precision}"
        )
    if is_sharded(options):
        if options.get("gradient_clip_val"):
            raise HaleError(
                "trainer.gradient_clip_val cannot be set with trainer=sharded, where no process "
                "has the whole gradient: set it to null, or bound the distance with "
                "activation=hanon"
            )
        if precision is not None and str(precision) not in SHARDED_PRECISIONS:
            raise HaleError(
                f"trainer.precision must be one of {', '.join(SHARDED_PRECISIONS)} with "
                f"trainer=sharded, got {precision}"
            )
    if (batches := options.get("accumulate_grad_batches")) is not None:
        require_whole("trainer.accumulate_grad_batches", batches, at_least=1)


def processes(options: Mapping[str, Any]) -> int:
    """How many processes a trainer has, one for each device.

    Args:
        options: the config group ``trainer``.

    Raises:
        HaleError: it is not said how many, or how they train together.
    """
    devices, nodes = options.get("devices", 1), options.get("num_nodes") or 1
    if isinstance(devices, list | tuple):
        several = len(devices) > 1
    else:
        several = type(devices) is int and devices > 1
    alone = options.get("strategy") in (None, "auto")
    if not several and nodes == 1 and alone:
        return 1
    if alone:
        raise HaleError(
            f"trainer.devices={devices} asks for several processes: choose trainer=ddp or "
            "trainer=sharded, which say how they train together"
        )
    if type(devices) is not int or type(nodes) is not int or devices < 1 or nodes < 1:
        raise HaleError(
            f"several processes take whole numbers, trainer.devices=N trainer.num_nodes=M, got "
            f"{devices} and {nodes}"
        )
    return devices * nodes


def require_processes(options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Raise HaleError unless the environment is that of a process which the trainer expects.

    Args:
        options: the config group ``trainer``.
        environment: of the process, as ``torchrun`` sets it for one of several.
    """
    wanted = processes(options)
    if not is_worker(environment):
        if wanted > 1 and (options.get("num_nodes") or 1) > 1:
            raise HaleError(
                "trainer.num_nodes is more than 1: start the command on each machine with torchrun "
                "(docs/scaling.md)"
            )
        require_first_process(environment)
    elif int(environment["WORLD_SIZE"]) != wanted:
        raise HaleError(
            f"{environment['WORLD_SIZE']} processes were started, and trainer.devices times "
            f"trainer.num_nodes is {wanted}: make them equal, with trainer=ddp or trainer=sharded"
        )


def require_one_folder(
    overrides: Sequence[str], sweep: bool, environment: Mapping[str, str]
) -> None:
    """Raise HaleError where ``torchrun`` starts processes that would not share a folder.

    Args:
        overrides: of Hydra's own settings, as typed.
        sweep: whether it is a sweep.
        environment: of the process.
    """
    if not is_worker(environment):
        return
    if sweep:
        raise HaleError("torchrun starts one run: leave -m out, or start the sweep without it")
    if not any(override.startswith("hydra.run.dir=") for override in overrides):
        raise HaleError(
            "torchrun starts processes that need one folder: set hydra.run.dir=FOLDER, on a disk "
            "that all machines have"
        )


def join_tasks(environment: MutableMapping[str, str]) -> None:
    """Give a task of a job that has several, as SLURM's may, what ``torchrun`` gives a process.

    Args:
        environment: of the task, to which it is added.
    """
    if "SUBMITIT_EXECUTOR" not in environment or "RANK" in environment:
        return
    from submitit.helpers import TorchDistributedEnvironment  # type: ignore[import-not-found]

    task = TorchDistributedEnvironment()
    if task.world_size > 1:
        environment.update(
            RANK=str(task.rank), WORLD_SIZE=str(task.world_size), LOCAL_RANK=str(task.local_rank),
            MASTER_ADDR=task.master_addr, MASTER_PORT=str(task.master_port),
        )  # fmt: skip


def is_sharded(options: Mapping[str, Any]) -> bool:
    """Whether each process has a part of the entity table, not all of it.

    Args:
        options: the config group ``trainer``.
    """
    return options.get("strategy") == "sharded"


def is_worker(environment: Mapping[str, str]) -> bool:
    """Whether this process was started as one of several, by hale or by ``torchrun``."""
    return environment.get("WORLD_SIZE", "1").strip() not in ("", "1") and "RANK" in environment


def is_follower(environment: Mapping[str, str]) -> bool:
    """Whether it is one of several and not the first, which alone prints and writes."""
    return is_worker(environment) and environment["RANK"].strip() != "0"


def require_first_process(environment: Mapping[str, str]) -> None:
    """Raise HaleError where the environment says that this is not the first of several processes.

    Lightning would then log and write nothing.
    """
    name = next((name for name in RANKS if name in environment), None)
    if name is not None and environment[name].strip("0"):
        raise HaleError(
            f"{name}={environment[name]} in the environment makes this one of several processes, "
            f"of which only the first writes: unset {name}, or start all with torchrun "
            "(docs/scaling.md)"
        )
