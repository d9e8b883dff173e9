"""`infer generate`: from its options to the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.program.progress import ProgressView
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError, memory_told
from pathgen.identity import used_by
from pathgen.models.devices import default_device, default_dtype
from pathgen.models.facts import fingerprint
from pathgen.models.reading import load_tokenizer
from pathgen.models.resolving import resolve_model
from pathgen.questions.chat import Chat, settled
from router.saved.loading import resolve_router, router_digest

from .given_router import full_depth, router_and_base, uses_chat
from .kept_answers import KeptAnswers
from .options import AnswerOptions
from .prompts import blank_hint, check_prompts, encode_prompts, end_tokens, read_prompts
from .routed_model import Completion, RoutedModel

PRINTED_BATCHES = 4
"""Batches whose prompts are sorted by length together; their answers are shown before the next ones run."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers of a command in the order of its prompts, the model's name, and what may help if some are blank."""

    answers: list[Completion]
    model: str
    hint: str | None


def answer_prompts(options: AnswerOptions, show: Callable[[Sequence[Completion]], object]) -> Answered:
    """Answer the prompts of a command; `show` gets new answers as they come, while the progress stands aside.

    Raises:
        InputError: a prompt, the model, the router, bridges or the kept answers cannot be used.
        ArtefactError: the router or the bridges are damaged, or of another model.
        PathgenError: answers cannot be kept.
    """
    texts = read_prompts(options.prompts, options.file)
    if options.router is None:
        assert options.model is not None
        router, name = full_depth(options.model), options.model
    else:
        router, name = router_and_base(options.router, options.model)
    folder = resolve_model(name)
    if options.bridges is not None:
        router.bridges = load_bridges(options.bridges, router.config.base_fingerprint)
    tokenizer = load_tokenizer(folder)
    chat: Chat = uses_chat(router.config, tokenizer, end_tokens(folder))
    if options.chat is not None:
        chat = options.chat
    device = options.device or default_device()
    dtype = options.dtype or default_dtype(device)
    kept = None
    if options.out is not None:
        settings = {
            "model": used_by(fingerprint(folder), chat=bool(chat), generates=True),
            "router": router_digest(resolve_router(options.router)) if options.router else None,
            "bridges": router.bridges.digest if router.bridges else None,
            "bias": options.bias,
            "dtype": dtype,
            "max_new_tokens": options.max_new_tokens,
        }
        kept = KeptAnswers(Path(options.out), settings)
        if kept.chat is not None and bool(kept.chat) != bool(chat):
            how = "with" if kept.chat else "without"
            raise InputError(f"--out {options.out}: its prompts were asked {how} the chat template; give another --out")
        chat = chat and settled(tokenizer, recorded=kept.chat or (chat if isinstance(chat, str) else None))
    check_prompts(folder, texts, options.max_new_tokens, chat=chat)
    if kept:
        kept.open()
        texts_left = [text for text in dict.fromkeys(texts) if text not in kept.answers]
    else:
        texts_left = texts
    found: list[Completion] = []
    if texts_left:
        routed = RoutedModel(PathModel.from_pretrained(name, dtype=dtype, device=device), router, bias=options.bias)
        size = options.batch_size
        step = size if kept else PRINTED_BATCHES * size
        with (
            memory_told("a smaller --batch-size"),
            ProgressView("answering", len(texts_left), words="", quiet=options.quiet) as bar,
        ):
            for start in range(0, len(texts_left), step):
                part = texts_left[start : start + step]
                on_done = partial(lambda before, done: bar.show(before + done), start)
                new = routed.complete(part, options.max_new_tokens, size, chat, on_done=on_done)
                found += new
                if kept:
                    kept.add(part, encode_prompts(tokenizer, part, chat=chat), new, chat)
                with bar.aside():
                    show(new)
    answers = [kept.answers[text] for text in texts] if kept else found
    return Answered(answers, name, blank_hint([answer.text for answer in answers], tokenizer, chat=bool(chat)))
