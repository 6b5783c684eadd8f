"""Models that compute the query with a network and compare by dot product: ConvE and TuckER."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hale.errors import ArgumentError, require, require_whole
from hale.models.base import DotProductModel
from hale.models.bilinear import multiply_grouped
from hale.scoring.table import Table, lookup

KERNEL = 3


class ConvE(DotProductModel):
    """Phi(e, r) = relu(vec(relu([e; r] * filters)) W), with e and r stacked as images.

    An image is as nearly square as ``dim`` allows, with height >= width. Each candidate has a
    bias: an additional column of the candidates, multiplied by a 1 in the query.

    Source: Dettmers et al. (AAAI 2018).

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension of entities and relations; it must have a divisor between
            3 and its square root.
        channels: number of 3 x 3 filters.
        input_dropout: dropout rate of the stacked image's pixels.
        channel_dropout: dropout rate of whole feature maps.
        query_dropout: dropout rate of the query's coordinates.
        init_std: standard deviation of initial vectors; 1 / sqrt(2 dim) if not given.
    """

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
        require_whole("channels", channels, at_least=1)
        require_rates(
            input_dropout=input_dropout, channel_dropout=channel_dropout,
            query_dropout=query_dropout,
        )  # fmt: skip
        super().__init__(num_entities, num_relations, dim, init_std)
        self.image = height, width = _image(dim)
        self.relation = self.normal(num_relations, dim)
        self.bias = nn.Parameter(torch.zeros(num_entities, 1))
        features = channels * (2 * height - KERNEL + 1) * (width - KERNEL + 1)
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
            RowNorm(dim),
            nn.ReLU(),
        )

    def candidates(self, entity: Table) -> Table:
        """Entity vectors, and their biases as the last column."""
        return Table(torch.cat((entity.tensor, self.bias), 1))

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Convolve the stacked images, project, and append a 1 for the bias."""
        pair = (entity_BD, lookup(self.relation, relation_B))
        image_B1HW = torch.cat([vector_BD.view(-1, *self.image) for vector_BD in pair], 1)
        feature_BX = self.convolution(image_B1HW[:, None]).flatten(1)
        query_BD: Tensor = self.projection(feature_BX)
        return F.pad(query_BD, (0, 1), value=1.0)


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation; a batch of a single row, which has no variance, by the running one."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalised rows."""
        if not self.training or len(input) > 1:
            return super().forward(input)
        running = (self.running_mean, self.running_var, self.weight, self.bias)
        return F.batch_norm(input, *running, training=False, eps=self.eps)


def require_rates(**rates: float) -> None:
    """Raise ArgumentError unless each dropout rate is at least 0 and below 1."""
    for name, rate in rates.items():
        require(name, rate, at_least=0, below=1)


def _image(dim: int) -> tuple[int, int]:
    """Height and width of the image of a vector.

    Raises:
        ArgumentError: the image would be narrower than a filter.
    """
    width = next(n for n in range(math.isqrt(dim), 0, -1) if dim % n == 0)
    if width < KERNEL:
        raise ArgumentError(
            f"dim must make an image at least {KERNEL} wide for ConvE, got {dim}: "
            f"choose a multiple of {KERNEL + 1}, {4 * KERNEL} or more"
        )
    return dim // width, width


class TuckER(DotProductModel):
    """Phi(e, r) = W x_1 e x_2 r with a shared core tensor W, and batch norm and dropout in between.

    Source: Balazevic et al. (EMNLP 2019).

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension of entities.
        relation_dim: embedding dimension of relations; ``dim`` if not given.
        input_dropout: dropout rate of the entity's coordinates.
        matrix_dropout: dropout rate of the entries of a relation's matrix ``W x_2 r``; all queries
            of a relation in a batch share one matrix, which is contracted once.
        query_dropout: dropout rate of the query's coordinates.
        init_std: standard deviation of initial vectors; 1 / sqrt(2 dim) if not given. The core is
            initialised uniformly on [-1, 1].
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_dim: int | None = None,
        input_dropout: float = 0.2,
        matrix_dropout: float = 0.2,
        query_dropout: float = 0.3,
        init_std: float | None = None,
    ) -> None:
        relation_dim = dim if relation_dim is None else relation_dim
        require_rates(
            input_dropout=input_dropout, matrix_dropout=matrix_dropout,
            query_dropout=query_dropout,
        )  # fmt: skip
        super().__init__(num_entities, num_relations, dim, init_std)
        require_whole("relation_dim", relation_dim, at_least=1)
        self.relation = self.normal(num_relations, relation_dim)
        self.core = nn.Parameter(torch.rand(relation_dim, dim * dim) * 2 - 1)
        self.input_norm, self.query_norm = RowNorm(dim), RowNorm(dim)
        self.input_dropout = nn.Dropout(input_dropout)
        self.matrix_dropout = nn.Dropout(matrix_dropout)
        self.query_dropout = nn.Dropout(query_dropout)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Contract the core with the relation, then with the entity."""
        entity_BD = self.input_dropout(self.input_norm(entity_BD))
        present_U, group_B = torch.unique(relation_B, return_inverse=True)
        matrix_UX = self.matrix_dropout(lookup(self.relation, present_U) @ self.core)
        matrix_UDD = matrix_UX.view(-1, self.dim, self.dim)
        product_BD = multiply_grouped(entity_BD, matrix_UDD, group_B)
        query_BD: Tensor = self.query_dropout(self.query_norm(product_BD))
        return query_BD
