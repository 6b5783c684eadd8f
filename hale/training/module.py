"""The one LightningModule: any model, activation, loss and optimizer."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from hale.distributed import processes, tensors
from hale.errors import DivergedError, HaleError
from hale.evaluation.metrics import RankingMetrics
from hale.evaluation.ranking import rank_batch
from hale.graphs.batches import QueryBatch
from hale.losses.base import Loss
from hale.losses.query_sampling import QuerySampling
from hale.models.base import QueryModel
from hale.scoring.activations import Activation
from hale.scoring.clusters import EntityClusters
from hale.scoring.table import ScoreMatrix, Table


def is_written(trainer: pl.Trainer, step: int) -> bool:
    """Whether Lightning writes what is logged in a step, which counts from 1; 0 means never."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
    return every > 0 and step % every == 0


class LinkPrediction(pl.LightningModule):
    """Trains a model with a loss on its activated scores, and ranks with the same scores.

    Logs the loss's parts as ``train/*`` every ``log_every_n_steps`` of the trainer, and ranking
    metrics as ``valid/*`` and ``test/*``. A loss that is not finite raises
    :class:`~hale.errors.DivergedError` when it is logged.

    Args:
        model: embeds queries.
        activation: hardens distances.
        loss: maps scores of a batch to named scalars.
        optimizer: makes the optimizer from the model's parameter groups.
    """

    def __init__(
        self,
        model: QueryModel,
        activation: Activation,
        loss: Loss,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
    ) -> None:
        super().__init__()
        self.model = model
        self.activation = activation
        self.loss = loss
        self.optimizer = optimizer
        self.valid_metrics = RankingMetrics(model.num_relations)
        self.test_metrics = RankingMetrics(model.num_relations)
        near = isinstance(loss, QuerySampling) and loss.candidates == "near"
        self.clusters: EntityClusters | None = None
        if near:
            entity_ED = model.candidates(Table(model.entity.detach())).tensor
            self.clusters = EntityClusters(
                len(entity_ED), entity_ED.shape[1], kept=model.shard is None
            )
        self._rng_state: Tensor | None = None
        self._cuda_rng_state: Tensor | None = None

    def forward(self, batch: QueryBatch) -> ScoreMatrix:
        """The scores of the batch's queries against all entities."""
        return self.model.scores(batch.entity_B, batch.relation_B, self.activation)

    def loss_parts(self, batch: QueryBatch) -> dict[str, Tensor]:
        """The loss's named scalars, the model's penalty (if it has one) added to ``loss``."""
        scores: ScoreMatrix = self(batch)
        if self.clusters is not None:
            clusters = self.clusters.step(scores.entity.tensor.detach())
            scores = dataclasses.replace(scores, clusters=clusters)
        parts = self.loss(scores, batch)
        penalty_B = self.model.penalty(batch.entity_B, batch.relation_B, batch.target_B)
        if penalty_B is None:
            return parts
        penalty = batch.mean(penalty_B)
        return parts | {"loss": parts["loss"] + penalty, "penalty": penalty}

    def configure_model(self) -> None:
        """Distribute the entity table, if each process has a part of it."""
        self.model.distribute()

    def training_step(self, batch: QueryBatch, batch_idx: int) -> Tensor:
        """One step's loss."""
        parts = self.loss_parts(batch)
        if is_written(self.trainer, self.trainer.global_step + 1):
            self._log_training(parts)
        return self.share(parts["loss"])

    def share(self, loss: Tensor) -> Tensor:
        """What this process adds to the loss that is differentiated.

        The gradients of a sharded table are those of the sum over processes of what they return;
        all others are averaged over processes by DDP.
        """
        return loss if self.model.shard is None else loss / self.model.shard.processes

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Sum the gradients of parameters that all processes have, if the table is sharded."""
        if self.model.shard is not None:
            rest = [p for p in self.parameters() if not tensors.is_distributed(p)]
            tensors.add_gradients(rest)

    def _log_training(self, parts: dict[str, Tensor]) -> None:
        mean_P = tensors.mean(torch.stack([value.detach() for value in parts.values()]))
        values = dict(zip((f"train/{name}" for name in parts), mean_P.tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"{name} is {value} at step {self.trainer.global_step}: training diverged; "
                    "lower optimizer.lr, or bound the distance with activation=hanon"
                )
        self.log_dict(values, on_step=True, on_epoch=False, batch_size=1)

    def validation_step(self, batch: QueryBatch, batch_idx: int) -> None:
        """Rank the batch."""
        self.valid_metrics.update(rank_batch(self(batch), batch), batch.relation_B)

    def test_step(self, batch: QueryBatch, batch_idx: int) -> None:
        """Rank the batch."""
        self.test_metrics.update(rank_batch(self(batch), batch), batch.relation_B)

    def on_validation_epoch_end(self) -> None:
        """Log ``valid/*``."""
        self._log_ranking("valid", self.valid_metrics)

    def on_test_epoch_end(self) -> None:
        """Log ``test/*``."""
        self._log_ranking("test", self.test_metrics)

    def _log_ranking(self, split: str, metrics: RankingMetrics) -> None:
        values = {f"{split}/{name}": value.float() for name, value in metrics.compute().items()}
        metrics.reset()
        self.log_dict(values)

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over the model's parameter groups, with the learning rate of each.

        Raises:
            HaleError: the optimizer refuses its arguments.
        """
        groups = [
            group | {"params": some}
            for group in self.model.parameter_groups()
            for some in tensors.alike(group["params"])
        ]
        try:
            optimizer = self.optimizer(groups)
        except (TypeError, ValueError) as error:
            raise HaleError(f"optimizer: {error}") from error
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_multiplier")
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the states of the global generators (dropout draws from them)."""
        checkpoint["rng_state"], *others = processes.gathered(torch.get_rng_state())
        if others:
            checkpoint["rng_states_of_others"] = others
        if self.device.type == "cuda":
            checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the states of the global generators from a checkpoint."""
        states = [checkpoint["rng_state"], *checkpoint.get("rng_states_of_others", ())]
        self._rng_state = states[self.global_rank] if self.global_rank < len(states) else None
        self._cuda_rng_state = checkpoint.get("cuda_rng_state")  # none of a run on the CPU

    def on_train_start(self) -> None:
        """Set the global generators as they were; the module is on its device only now."""
        if self._rng_state is not None:
            torch.set_rng_state(self._rng_state)
        elif self.global_rank:  # another stream than that of the first process
            torch.manual_seed(torch.initial_seed() + self.global_rank)
        if self._cuda_rng_state is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(self._cuda_rng_state, self.device)
