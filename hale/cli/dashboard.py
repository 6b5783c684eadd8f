"""``hale dashboard``: the W&B workspace of a project, as code.

Sections: convergence by loss, by activation and by model, and a sweep's parallel coordinates.
Saving needs a login, ``--dump`` does not.
"""

import argparse
import warnings
from typing import TYPE_CHECKING

from hale.errors import HaleError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

SUMMARY = "the W&B workspace of a project: curves by loss, activation and model"
CURVES = {"valid/mrr": "MRR on valid", "valid/hits@10": "Hits@10 on valid"}
TUNED = {
    "loss.alpha": True, "loss.weight": True, "activation.beta": False, "activation.gamma": True,
    "optimizer.lr": True, "data.batch_size": True,
}  # fmt: skip
"""What conf/experiment/tune.yaml searches, and whether on a log scale."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The W&B project, and whether to save."""
    parser.add_argument("--entity", required=True, help="W&B user or team")
    parser.add_argument("--project", default="hale", help="W&B project (default: hale)")
    parser.add_argument("--dump", action="store_true", help="print as JSON instead of saving")


def run(args: argparse.Namespace) -> None:
    """Save the workspace as a new view, or print it."""
    built = workspace(args.entity, args.project)
    print(dump(built) if args.dump else save(built))


def workspace(entity: str, project: str) -> "Workspace":
    """Build the workspace, without a network.

    Args:
        entity: W&B user or team.
        project: W&B project.

    Raises:
        HaleError: wandb-workspaces is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own use of pydantic
            from wandb_workspaces import workspaces as ws
            from wandb_workspaces.reports import v2 as wr
    except ImportError as error:
        raise HaleError("the dashboard needs a package: pip install -e '.[dashboard]'") from error

    convergence = [
        ws.Section(
            name=f"Convergence by {group}",
            is_open=True,
            panels=[
                wr.LinePlot(
                    title=f"{title} by {group}",
                    x="train_seconds",
                    y=[metric],
                    title_x="seconds of training",
                    groupby=wr.Config(f"choices.{group}"),
                )
                for metric, title in CURVES.items()
            ],
        )
        for group in ("loss", "activation", "model")
    ]
    columns = [
        *(
            wr.ParallelCoordinatesPlotColumn(wr.Config(name), log=log)
            for name, log in TUNED.items()
        ),
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("valid/mrr")),
    ]
    sweep = ws.Section(
        name="Sweep",
        is_open=True,
        panels=[wr.ParallelCoordinatesPlot(columns=columns, title="What tuning tried")],
    )
    return ws.Workspace(entity=entity, project=project, name="hale", sections=[*convergence, sweep])


def dump(built: "Workspace") -> str:
    """What would be sent, as JSON."""
    text: str = built._to_model().model_dump_json(by_alias=True, indent=2)
    return text


def save(built: "Workspace") -> str:
    """Push the workspace as a new view and return its address.

    Raises:
        HaleError: not logged in, or W&B does not answer.
    """
    import wandb

    try:
        return str(built.save_as_new_view().url)
    except (wandb.errors.Error, OSError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise HaleError(f"nothing saved: {line} (--dump shows the workspace)") from error
