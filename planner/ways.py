"""How to get a lane: the checkpoint that was published in it, or a recipe to make it by, and which of them to take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from catalog.artifact import Artifact
from catalog.engine import Kernel
from catalog.load import Catalog
from catalog.model import Model
from planner.lanes import Lane, Method, as_published, grouped
from planner.plan import Recipe
from planner.rules.checkpoints import TRUSTED
from planner.rules.recipes import STATIC
from planner.settle import Settled

Way = tuple[Method, Artifact | None]
"""A method, and the checkpoint that was made so; None where it has to be made."""
TRAINED = ("qat", "qad")
"""How a checkpoint is made whose quantization was trained."""


def best(
    ways: Sequence[Way], kernels: Sequence[Kernel | None], tolerated: Sequence[bool]
) -> tuple[Way, Kernel | None, Artifact | None]:
    """The way of the most merit, the first of equals, its kernel, and the published checkpoint that would have been
    taken, had it not lost more than is tolerated."""
    found = list(zip(ways, kernels, tolerated, strict=True))
    way, kernel, _ = max(found, key=lambda each: _merit(*each))
    (_, usual), _, _ = max(found, key=lambda each: _merit(each[0], each[1], True))
    return way, kernel, usual if way[1] is not usual else None


def _merit(way: Way, kernel: Kernel | None, tolerated: bool) -> tuple[bool, bool, bool, bool]:
    """A kernel that runs, a loss that is tolerated, in the lane's own number format rather than weight-only, from
    something published."""
    runs = getattr(kernel, "refuse", "none") is None
    native = runs and not getattr(kernel, "path", "").endswith("weight-only")
    return runs, runs and tolerated, native, way[1] is not None


def ways(lane: Lane, model: Model, published: dict[str, list[Artifact]]) -> list[Way]:
    """As published by the model's owner, as published by others, or made."""
    if lane.id == model.native and lane.family != "16-bit":
        own = as_published(lane.method(model.native_recipe) or lane.methods[-1])
        return [(_in_groups(own, model.group_size), original(model))]
    if lane.family == "16-bit":
        return [(lane.methods[0], original(model))]
    group = "gguf" if lane.family == "gguf" else lane.id
    ready: list[Way] = [(published_as(lane, artifact), artifact) for artifact in published.get(group, [])]
    return [*ready, *((grouped(method, model), None) for method in makes(lane))]


def _in_groups(method: Method, size: int | None) -> Method:
    return method if size is None else structs.replace(method, recipe=structs.replace(method.recipe, group_size=size))


def makes(lane: Lane) -> tuple[Method, ...]:
    """The methods by which this lane can be made, the usual one first. What an engine makes while it loads needs none
    of the others."""
    usual, *others = lane.methods
    if usual.recipe.online:
        return (usual,)
    return (usual, *(each for each in others if each.tool == usual.tool and each.recipe.training == "ptq"))


def published_as(lane: Lane, artifact: Artifact) -> Method:
    """The method of a checkpoint: its layout, with what its source says of recipe, training and groups. Rounding that
    was trained is no rounding to nearest: its recipe is the training."""
    method = as_published(lane.method(artifact.recipe) or _usual(lane))
    said: dict[str, object] = {"group_size": artifact.group_size} if artifact.group_size else {}
    if artifact.training in TRAINED:
        name = artifact.training if artifact.recipe in ("", "rtn") else artifact.recipe
        said |= {"name": name, "algorithm": artifact.training.upper(), "training": artifact.training}
    return structs.replace(method, recipe=structs.replace(method.recipe, **said)) if said else method


def _usual(lane: Lane) -> Method:
    """The method of a checkpoint whose recipe its source does not name: the first made after training, in advance."""
    made = (method for method in lane.methods if method.recipe.training == "ptq" and not method.recipe.online)
    return next(made, lane.methods[0])


def adaptable(found: list[Way], settled: Settled) -> list[Way]:
    """The ways that adapters can be loaded beside, where any are and some way can take them."""
    lora = settled.load.lora
    if lora is None or lora.merged:
        return found
    return [way for way in found if way[0].recipe.name not in STATIC] or found


def remakes(lane: Lane) -> tuple[Recipe, ...]:
    """The recipes of one's own that a published checkpoint of this lane competes with; the last is trained."""
    if lane.family not in ("4-bit integer", "4-bit float"):
        return tuple(each.recipe for each in makes(lane) if not each.recipe.online)
    trained = structs.replace(lane.methods[0].recipe, name="qat", algorithm="QAT", training="qat")
    return (*(each.recipe for each in makes(lane)), trained)


def original(model: Model) -> Artifact:
    """The model's own repository or folder as a checkpoint."""
    return Artifact(
        repo=model.id,
        base=model.id,
        publisher=model.id.split("/")[0] if "/" in model.id else "",
        lane=model.native,
        recipe=model.native_recipe,
        format="safetensors",
        confidence=model.confidence,
        source=model.source,
        revision=model.revision,
        license=model.license,
    )


def artifacts(model: Model, catalog: Catalog) -> dict[str, list[Artifact]]:
    """Published checkpoints of this model by lane, the most trusted first; confidence C carries no choice.

    A pinned revision (`repo@revision`) has those of its model; a fine-tune has none of its base's: its weights differ.
    """
    found: dict[str, list[Artifact]] = {}
    base = model.id.partition("@")[0]
    for row in sorted(_trusted(catalog.artifacts_by_base.get(base, ())), key=_trust):
        found.setdefault(row.lane, []).append(row)
    return found


def _trusted(rows: Iterable[Artifact]) -> list[Artifact]:
    return [row for row in rows if row.confidence != "C"]


def _trust(row: Artifact) -> tuple[str, int, str]:
    place = TRUSTED.index(row.publisher) if row.publisher in TRUSTED else len(TRUSTED)
    return row.confidence, place, row.repo
