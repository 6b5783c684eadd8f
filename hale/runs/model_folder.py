"""The folder of a trained model: all that prediction needs, and nothing that executes.

==================  ================================================================================
config.json         format, hale's version, model and activation with their arguments, digests
model.safetensors   the model's tensors
names.json          entity and relation names; their positions are the ids
triples.safetensors train, valid and test, int64 of shape (T, 3); ``weight`` of train if it has any
result.json         the record of the run
==================  ================================================================================

A folder may come from an untrusted source. Only hale's own models and activations are built from
it, no memory is allocated before its tensors are known to have the shapes that the model declares,
and its digests reveal damaged files.
"""

import dataclasses
import hashlib
import importlib
import json
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hale.distributed.checkpoints import rows_of_all, write_tensors
from hale.distributed.processes import is_first
from hale.errors import HaleError, first_line
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.names import shown
from hale.graphs.reading import SPLITS
from hale.graphs.statistics import irreflexive
from hale.models.base import QueryModel
from hale.runs.files import write_folder_atomically
from hale.runs.model_path import CONFIG, ModelFolderError, find_model
from hale.runs.record import RESULT_FILE, write_result
from hale.scoring import activations
from hale.scoring.activations import Activation
from hale.version import __version__

FORMAT = 2
TENSORS, NAMES, TRIPLES = "model.safetensors", "names.json", "triples.safetensors"


def write_model(
    folder: Path, model: QueryModel, graph: KnowledgeGraph, record: dict[str, Any]
) -> None:
    """Write a model folder atomically; of several processes the first does.

    A collective: the rows that each has of the model are sent to the first in turn.

    Args:
        folder: replaced if it exists.
        model: with the weights to keep.
        graph: the graph that it was trained on.
        record: of the run; its ``config.model`` and ``config.activation`` rebuild the two.
    """
    if not is_first():
        for tensor in model.state_dict().values():
            deque(rows_of_all(tensor), maxlen=0)
        return
    with write_folder_atomically(folder) as new:
        write_tensors(new / TENSORS, model.state_dict())
        weight = {} if graph.weight is None else {"weight": graph.weight}
        save_file(_whole(graph.splits | weight), new / TRIPLES)
        names = {"entities": graph.entities, "relations": graph.relations}
        (new / NAMES).write_text(json.dumps(names, indent=0), encoding="utf-8")
        config = {
            "format": FORMAT,
            "hale": __version__,
            "dataset": graph.name,
            "dataset_fingerprint": graph.fingerprint,
            "tensors_sha256": _sha256(new / TENSORS),
            "model": record["config"]["model"],
            "activation": record["config"]["activation"],
            "exclude_own": record["config"].get("exclude_own", False),
        }
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_result(new, record)


def read_model(
    path: Path,
) -> tuple[QueryModel, Activation, KnowledgeGraph, dict[str, Any]]:
    """The model, activation, graph and record in a model folder or a run folder.

    Raises:
        ModelFolderError: there is no model folder, or it is damaged or of another format.
    """
    folder = find_model(path)
    config = _read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise ModelFolderError(
            f"{folder / CONFIG} has format {shown(str(config.get('format')))}, written by hale "
            f"{shown(str(config.get('hale')))}; hale {__version__} reads format {FORMAT}: "
            "use the version that wrote it, or train again"
        )
    graph = _read_graph(folder, config)
    tensors = _read_tensors(folder / TENSORS)
    if _sha256(folder / TENSORS) != config.get("tensors_sha256"):
        raise _damaged(folder / TENSORS, "its digest is not the one in config.json")
    model = _build_model(folder / CONFIG, config.get("model"), graph, tensors)
    if config.get("exclude_own", False) is not False:
        model.exclude_own(irreflexive(graph))
    activation = _build_activation(folder / CONFIG, config.get("activation"))
    return model, activation, graph, _read_json(folder / RESULT_FILE)


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors does not write views or shared tensors."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def _read_graph(folder: Path, config: dict[str, Any]) -> KnowledgeGraph:
    names = _read_json(folder / NAMES)
    for kind in ("entities", "relations"):
        listed = names.get(kind)
        if not isinstance(listed, list) or not all(_is_name(name) for name in listed):
            raise _damaged(folder / NAMES, f"{kind} is not a list of names")
    triples = _read_tensors(folder / TRIPLES)
    if set(triples) - {"weight"} != set(SPLITS):
        raise _damaged(folder / TRIPLES, f"it does not contain {', '.join(SPLITS)}")
    try:
        graph = KnowledgeGraph(
            shown(str(config.get("dataset"))),
            tuple(names["entities"]),
            tuple(names["relations"]),
            **triples,
        )
    except HaleError as error:
        raise _damaged(folder / TRIPLES, shown(str(error))) from error
    if graph.fingerprint != config.get("dataset_fingerprint"):
        raise _damaged(folder, f"{NAMES} and {TRIPLES} do not match {CONFIG}")
    return graph


def _build_model(
    path: Path, leaf: Any, graph: KnowledgeGraph, tensors: dict[str, Tensor]
) -> QueryModel:
    """Declare the model without allocating memory, then assign tensors of the declared shapes."""
    target, arguments = _leaf(path, leaf, r"(hale\.models\.[a-z0-9_]+)\.([A-Za-z0-9]+)")
    entity = tensors.get("entity", torch.empty(0))
    if entity.ndim != 2 or arguments.get("dim") != entity.shape[1]:
        raise _damaged(path, "the model's dim does not match its entity vectors")
    try:
        cls = getattr(importlib.import_module(target[0]), target[1])
    except (ImportError, AttributeError) as error:
        raise _damaged(path, f"hale has no model {'.'.join(target)}") from error
    if not (isinstance(cls, type) and issubclass(cls, QueryModel)):
        raise _damaged(path, f"{'.'.join(target)} is not a model class")
    try:
        with torch.device("meta"):
            model = cls(graph.num_entities, 2 * graph.num_relations, **arguments)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise _damaged(path, f"{target[1]} rejects its arguments, {_first_line(error)}") from error
    declared = model.state_dict()
    floats = {value.dtype for value in tensors.values() if value.is_floating_point()}
    if (
        {name: value.shape for name, value in declared.items()}
        != {name: value.shape for name, value in tensors.items()}
        or any(tensors[n].is_floating_point() != v.is_floating_point() for n, v in declared.items())
        or floats not in ({torch.float32}, {torch.float64})
    ):
        raise _damaged(path.parent / TENSORS, f"its tensors do not fit this {target[1]}")
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _build_activation(path: Path, leaf: Any) -> Activation:
    target, arguments = _leaf(path, leaf, r"(hale\.scoring\.activations)\.([A-Za-z0-9]+)")
    cls = getattr(activations, target[1], None)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise _damaged(path, f"hale has no activation {target[1]}")
    try:
        return cast(Activation, cls(**arguments))
    except (TypeError, ValueError) as error:
        raise _damaged(path, f"{target[1]} rejects its arguments, {_first_line(error)}") from error


def _leaf(path: Path, leaf: Any, pattern: str) -> tuple[tuple[str, str], dict[str, Any]]:
    """Module, class and arguments of a part of the config; refused unless the class is hale's."""
    target = leaf.get("_target_") if isinstance(leaf, dict) else None
    match = re.fullmatch(pattern, target) if isinstance(target, str) else None
    if match is None:
        raise ModelFolderError(
            f"{path} names '{shown(str(target))}': only hale's own models and activations are "
            "loaded from a file"
        )
    return (match[1], match[2]), {key: value for key, value in leaf.items() if key != "_target_"}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFolderError(f"{path} is missing: copy the whole folder again") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON, {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise _damaged(path, "it is not a JSON object")
    return content


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelFolderError(f"{path} is missing: copy the whole folder again")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise _damaged(path, f"it is not a whole safetensors file, {_first_line(error)}") from error


def _damaged(path: Path, how: str) -> ModelFolderError:
    return ModelFolderError(f"{path} is damaged ({how}): copy it again, or train again")


def _first_line(error: BaseException) -> str:
    return shown(first_line(error))


def _is_name(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
