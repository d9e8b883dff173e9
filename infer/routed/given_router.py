"""A router as a command names it: loaded, checked against its base model, and how its prompts are asked."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pathgen.errors import InputError
from pathgen.models.facts import fingerprint, num_layers
from pathgen.models.reading import load_config
from pathgen.models.resolving import resolve_model, resolve_recorded
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.chat import Chat
from router.net.config import RouterConfig
from router.net.router import Router, path_logits
from router.saved.loading import load_router, resolve_router

from .prompts import answers_chats

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def router_for(folder: Path, router: str | Path) -> Router:
    """Load a router, and check that it is for the model in `folder`.

    Raises:
        InputError: the router does not exist.
        ArtefactError: it is damaged, or of another model.
    """
    found = resolve_router(str(router))
    return load_router(found, fingerprint=fingerprint(folder), num_layers=num_layers(folder))


def router_and_base(router: str | Path, base: str | None) -> tuple[Router, str]:
    """Load a router and name its base: the given one, or without one the model that the router was trained for.

    Raises:
        InputError: the router does not exist, or the base is not given and not found here.
        ArtefactError: the router is damaged, or of another model.
    """
    if base is not None:
        return router_for(resolve_model(base), router), base
    found = load_router(router)
    name = found.config.base_model
    try:
        resolve_recorded(name, found.config.base_fingerprint, str(router))
    except InputError as error:
        raise InputError(f"{router} is a router for {name}, which is not found: {error}; give --model") from error
    return found, name


def full_depth(name: str) -> Router:
    """A router that runs every layer of a model once.

    Raises:
        InputError: there is no such model.
    """
    folder = resolve_model(name)
    layers, width = num_layers(folder), load_config(folder).get_text_config().hidden_size
    config = RouterConfig(name, fingerprint(folder), layers, width, (), "static", head="none")
    router = Router(config)
    router.static_logits.data = path_logits(LayerPath.full(layers))
    return router


def uses_chat(config: RouterConfig, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> Chat:
    """Whether prompts use the chat template if nobody says so: as the router was trained.

    A router with one path for all reads no prompt, so without a stored chat the model decides (`answers_chats`);
    `ends` are the tokens that end a generation.
    """
    return config.chat or (config.static_only and answers_chats(tokenizer, ends))
