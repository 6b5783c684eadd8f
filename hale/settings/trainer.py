"""Options of Lightning's Trainer that hale decides, or that would leave nothing to record.

The budget ends training, ``validations`` says when to validate, and checkpoints are what makes a
run resumable: an option that contradicts them is refused before anything is written.
"""

from collections.abc import Mapping
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
COUNTS = {"devices": "trainer.devices=1", "num_nodes": "trainer.num_nodes=1"}
"""Options of several processes, and what to set."""
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables that give Lightning a process's rank; the first that is set counts."""
PRECISIONS = ("32", "32-true", "64", "64-true", "16", "16-mixed", "bf16", "bf16-mixed")
"""With the weights in 16 bits models have no complex products and metrics no exact sums."""


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
        if name in COUNTS and _is_several(value):
            raise HaleError(
                f"trainer.{name}={value} asks for several processes, whose clocks would differ: a "
                f"run has one device, {COUNTS[name]}"
            )
    precision = options.get("precision")
    if precision is not None and str(precision) not in PRECISIONS:
        raise HaleError(
            f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {precision}"
        )
    if (batches := options.get("accumulate_grad_batches")) is not None:
        require_whole("trainer.accumulate_grad_batches", batches, at_least=1)


def require_first_process(environment: Mapping[str, str]) -> None:
    """Raise HaleError where the environment says that this is not the first of several processes.

    Lightning would then log and write nothing.
    """
    name = next((name for name in RANKS if name in environment), None)
    if name is not None and environment[name].strip("0"):
        raise HaleError(
            f"{name}={environment[name]} in the environment makes this one of several processes, "
            f"of which only the first writes: a run has one process, unset {name}"
        )


def _is_several(value: Any) -> bool:
    """Whether a number of devices, or a list of them, is of more than one."""
    if isinstance(value, list | tuple):
        return len(value) > 1
    return type(value) is int and value > 1
