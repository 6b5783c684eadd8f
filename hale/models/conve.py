"""ConvE (Dettmers et al., AAAI 2018)."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hale.comparators import Comparator, NegativeDot
from hale.lookup import Table, rows
from hale.models.base import QueryModel

KERNEL = 3


class ConvE(QueryModel):
    """Phi(e, r) = relu(vec(relu([e; r] * filters)) W) on e and r stacked as images.

    An image is as near to square as ``dim`` allows, rows >= columns. Each candidate has a bias:
    one more column of the candidates, met by a 1 in the query.

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, real numbers per entity and per relation; it must have a divisor of at least 3
            up to its square root.
        channels: number of 3 x 3 filters.
        input_dropout: share of the stacked image's pixels dropped.
        channel_dropout: share of the feature maps dropped.
        query_dropout: share of the query's coordinates dropped.
        init_std: standard deviation of initial vectors; 1 / sqrt(2 dim) if not given.
    """

    comparator: ClassVar[Comparator] = NegativeDot()

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        channels: int = 32,
        input_dropout: float = 0.2,
        channel_dropout: float = 0.2,
        query_dropout: float = 0.3,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, False, init_std)
        columns = next(n for n in range(math.isqrt(dim), 0, -1) if dim % n == 0)
        rows = dim // columns
        if columns < KERNEL:
            raise ValueError(
                f"model.dim must make an image at least {KERNEL} wide for ConvE, got {dim}: "
                f"choose a multiple of {KERNEL + 1}, {4 * KERNEL} or more"
            )
        if channels < 1:
            raise ValueError(f"model.channels must be at least 1, got {channels}")
        self.image = (rows, columns)
        self.relation = self.normal(num_relations, dim)
        self.bias = nn.Parameter(torch.zeros(num_entities, 1))
        features = channels * (2 * rows - KERNEL + 1) * (columns - KERNEL + 1)
        self.convolution = nn.Sequential(
            nn.BatchNorm2d(1),
            nn.Dropout(input_dropout),
            nn.Conv2d(1, channels, KERNEL),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout2d(channel_dropout),
        )
        self.projection = nn.Sequential(
            nn.Linear(features, dim),
            nn.Dropout(query_dropout),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
        )

    def candidates(self, entity: Table) -> Table:
        """Entity vectors, and their biases as the last column."""
        return Table(torch.cat((entity.tensor, self.bias), 1))

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Convolve the two images, project, and append a 1."""
        pair = (entity_BD, rows(self.relation, relation_B))
        image_B1HW = torch.cat([vector_BD.view(-1, *self.image) for vector_BD in pair], 1)
        feature_BX = self.convolution(image_B1HW[:, None]).flatten(1)
        query_BD: Tensor = self.projection(feature_BX)
        return F.pad(query_BD, (0, 1), value=1.0)
