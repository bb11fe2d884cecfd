"""The models and similarities that everybody on this server shares, each behind a bar with a Stop until it is there.

Torch and transformers are imported when the first model is wanted: the pages that need none open at once. Every function that opens
or moves something raises `waiting.NotThere` where the person has stopped that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from maet_core.conversation import Speaker
from maet_core.recipe import Recipe
from maet_core.studio import resources, shared_work, waiting

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from maet_core.live import LiveModel
    from maet_core.progress import Progress
    from maet_core.selection import Measured
    from maet_core.variants import Variants

# The weights of a model up to this size have moved before anybody would want to stop them.
QUICK_PARAMETERS = 30_000_000
MOST_MODELS, MOST_MEASURED = 4, 8
_importing = threading.Lock()


def measured(recipe: Recipe) -> Measured:
    """Similarities for any coefficients; measured again only when models or key neurons change."""
    rules = tuple(str(ability.key_neurons) for ability in recipe.abilities.values())
    signature = resources.fingerprint(recipe), rules
    if (found := shared_work.known("similarities", signature)) is not None:
        return found

    def work(progress: Progress) -> Measured:
        from maet_core.selection import measure

        return measure(opened.with_coefficients(recipe), progress)

    opened = resources.opened(recipe)
    what = "Comparing what the ability and the languages changed"
    return waiting.shared("similarities", signature, work, what, MOST_MEASURED)


def live(recipe: Recipe) -> LiveModel:
    """The resident model for the recipe's sources; its weights are those of whoever asked last."""
    signature = resources.fingerprint(recipe)
    if (found := shared_work.known("live", signature)) is not None:
        return found

    def work(progress: Progress) -> LiveModel:
        progress("starting torch", 0, 1)
        with _importing:
            from maet_core.live import LiveModel

        return LiveModel(opened.with_coefficients(recipe), measured=similarities, progress=progress)

    opened, similarities = resources.opened(recipe), _needed(recipe)
    return waiting.shared("live", signature, work, "Opening the models", most=1)


def following(recipe: Recipe) -> Callable[[], AbstractContextManager]:
    """A context in which the shared model has the weights of `recipe`, and nobody moves them.

    The weights of a large model move here already, behind a bar; the context then finds little to do.
    """
    resident, similarities = live(recipe), _needed(recipe)

    @contextmanager
    def hold() -> Iterator[None]:
        with resident.lock:
            resident.apply(recipe, similarities)
            yield

    def work(progress: Progress) -> bool:
        with waiting.held(resident.lock, progress):
            resident.apply(recipe, similarities, progress)
        return True

    if resident.sources.base.parameters > QUICK_PARAMETERS and resident.recipe != recipe:
        signature = resources.fingerprint(recipe), recipe.model_dump_json()
        waiting.shared("following", signature, work, "Moving the weights", most=0)
    return hold


def live_speaker(recipe: Recipe, label: str) -> Speaker:
    """The merged model as it is under `recipe`: the weights are set when it starts to answer, and stay until it has ended."""

    resident = live(recipe)
    return Speaker(label, resident.model, resident.tokenizer, following(recipe))


def variant_speaker(recipe: Recipe, label: str) -> Speaker:
    """The model of `recipe` beside those of other recipes, which share with it what they have in common; nobody changes it.

    Where memory does not suffice for one more it is the live model that answers, when its turn has come.
    """
    from maet_core.variants import NoRoom

    tokenizer = speaker(recipe.base, label).tokenizer
    pool, similarities = _variants(recipe), _needed(recipe)

    def work(progress: Progress):
        return pool.model(recipe, similarities, progress)

    signature = resources.fingerprint(recipe), recipe.model_dump_json()
    try:
        model = waiting.shared("variant", signature, work, f"Merging {label}", most=0)
    except NoRoom:
        return live_speaker(recipe, label)
    return Speaker(label, model, tokenizer)


def speaker(path: str, label: str) -> Speaker:
    """A checkpoint of the workspace as it is on disk."""

    model, tokenizer = _model(path)
    return Speaker(label, model, tokenizer)


def _needed(recipe: Recipe) -> Measured | None:
    """The similarities, where the recipe's merge depends on them."""
    from maet_core.merging.plan import needs_similarity

    return measured(recipe) if needs_similarity(recipe) else None


def _variants(recipe: Recipe) -> Variants:
    def work(progress: Progress) -> Variants:
        from maet_core.variants import Variants

        progress("finding the weights in the model", 0, 1)
        return Variants(opened, base)

    opened, (base, _) = resources.opened(recipe), _model(recipe.base)
    return waiting.shared("variants", resources.fingerprint(recipe), work, "Making room for variants", most=1)


def _model(path: str) -> tuple:
    """Model and tokenizer of a checkpoint."""
    folder = resources.workspace().resolve(path)

    def work(progress: Progress) -> tuple:
        progress("starting torch", 0, 2)
        with _importing:
            from maet_core.resident import load_model, load_tokenizer
        from maet_core.checkpoints import Checkpoint

        progress("opening the model", 1, 2)
        checkpoint = Checkpoint.open(folder)
        return load_model(checkpoint), load_tokenizer(checkpoint)

    signature = str(resources.workspace().path), path, resources.stamp(path)
    return waiting.shared("model", signature, work, f"Opening {path}", MOST_MODELS)
