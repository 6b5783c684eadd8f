"""``hale dashboard``: a W&B workspace for a project, defined in code.

Its sections are convergence by loss, by activation and by model, and the parallel coordinates of a
hyperparameter search. Saving needs a login, ``--dump`` does not.
"""

import argparse
import warnings
from typing import TYPE_CHECKING

from hale.errors import HaleError
from hale.runs.columns import CURVES

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

SUMMARY = "a W&B workspace for a project: curves by loss, activation and model"
TUNED = {
    "loss.alpha": True, "loss.weight": True, "activation.beta": False, "activation.gamma": True,
    "optimizer.lr": True, "data.batch_size": True,
}  # fmt: skip
"""Settings that conf/experiment/tune.yaml searches, and whether on a logarithmic scale."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The W&B project, and whether to save the workspace."""
    parser.add_argument("--entity", required=True, help="W&B user or team")
    parser.add_argument("--project", default="hale", help="W&B project (default: hale)")
    parser.add_argument("--dump", action="store_true", help="print as JSON instead of saving")


def run(args: argparse.Namespace) -> None:
    """Save the workspace as a new view, or print it."""
    built = workspace(args.entity, args.project)
    print(dump(built) if args.dump else save(built))


def workspace(entity: str, project: str) -> "Workspace":
    """Build the workspace without network access.

    Args:
        entity: W&B user or team.
        project: W&B project.

    Raises:
        HaleError: wandb-workspaces is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's, about the package's own classes
            from wandb_workspaces import workspaces as ws
    except ImportError as error:
        raise HaleError("the dashboard needs a package: pip install -e '.[dashboard]'") from error

    sections = [*(_convergence(group) for group in ("loss", "activation", "model")), _search()]
    return ws.Workspace(entity=entity, project=project, name="hale", sections=sections)


def _convergence(group: str) -> "Section":
    """The curves of a project, grouped by a choice of its runs."""
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    panels = [
        wr.LinePlot(
            title=f"{title} by {group}",
            x="train_seconds",
            y=[metric],
            title_x="seconds of training",
            groupby=wr.Config(f"choices.{group}"),
        )
        for metric, title in CURVES.items()
    ]
    return ws.Section(name=f"Convergence by {group}", is_open=True, panels=panels)


def _search() -> "Section":
    """The settings that were searched, against the result."""
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    columns = [
        *(
            wr.ParallelCoordinatesPlotColumn(wr.Config(name), log=log)
            for name, log in TUNED.items()
        ),
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("valid/mrr")),
    ]
    plot = wr.ParallelCoordinatesPlot(columns=columns, title="Hyperparameter search")
    return ws.Section(name="Search", is_open=True, panels=[plot])


def dump(built: "Workspace") -> str:
    """The workspace as JSON: its sections and panels, without unset fields."""
    from pydantic import TypeAdapter

    adapter = TypeAdapter(type(built))
    return adapter.dump_json(built, indent=2, exclude_none=True).decode()


def save(built: "Workspace") -> str:
    """Save the workspace as a new view and return its URL.

    Raises:
        HaleError: not logged in, or W&B cannot be reached.
    """
    import wandb

    try:
        return str(built.save_as_new_view().url)
    except (wandb.errors.Error, OSError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise HaleError(f"nothing saved: {line} (--dump shows the workspace)") from error
