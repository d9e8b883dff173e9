"""Tokenizers as checkpoints bring them: what is mended at load, and what is refused by name."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pathgen.errors import InputError
from pathgen.models.reading import load_tokenizer
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

QUESTION = Question("q", "Which?", ("red", "blue"), 0)


def saved(folder, *, single: str = "$A", **parts):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "</s>", "<unk>", *alphabet]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=parts.pop("vocabulary", vocabulary), merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    if single != "$A":
        special = [("<s>", 0), ("</s>", 1)]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template="x"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("single", "before"), [("$A </s>", []), ("<s> $A </s>", [0]), ("<s> $A", [0]), ("$A", [])])
def test_an_appended_end_token_is_dropped_and_told_once(tmp_path, caplog, single, before):
    with caplog.at_level(logging.WARNING, logger="pathgen"):
        tokenizer = load_tokenizer(saved(tmp_path, single=single))
    told = [record.getMessage() for record in caplog.records]
    assert [f"the tokenizer in {tmp_path} appends </s> to each text; it is dropped" in line for line in told] == [
        True
    ] * ("</s>" in single)
    prompt, continuations = find_task("arc").encode(QUESTION, tokenizer, chat=False)
    plain = tokenizer(find_task("arc").prompt(QUESTION), add_special_tokens=False)["input_ids"]
    assert prompt == before + plain
    assert [tokenizer.decode(tokens) for tokens in continuations] == [" red", " blue"]
    assert len(continuations[0]) == 4, "none of its tokens is lost to the end token"


def test_special_tokens_inside_a_text_are_refused(tmp_path):
    folder = saved(tmp_path)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 300, "content": "Mars"})
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"^the tokenizer in {tmp_path} puts special tokens inside a plain text"):
        load_tokenizer(folder)


def test_a_tokenizer_that_loses_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"loses text: it reads 'Question: .*' as 'Question Which of .*Answer'$"):
        load_tokenizer(saved(tmp_path, normalizer=normalizers.Sequence([normalizers.Replace(":", "")])))


def test_a_prompt_whose_tokens_change_with_the_answer_is_refused(tmp_path):
    """It strips the text's end, so that the prompt alone has other tokens than before an answer."""
    moved = normalizers.Replace("Answer: ", " :Answer")
    with pytest.raises(InputError, match="gives other tokens to a prompt when 'Mars' follows, so no answer can be"):
        load_tokenizer(saved(tmp_path, normalizer=moved))


def test_white_space_and_case_may_be_changed(tmp_path):
    assert load_tokenizer(saved(tmp_path, normalizer=normalizers.Lowercase()))("A")["input_ids"]


def test_the_tokenizer_of_the_tests_passes_unchanged(tiny_model, tmp_path, caplog):
    copy = shutil.copytree(tiny_model, tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        tokenizer = load_tokenizer(copy)
    assert not caplog.records
    assert tokenizer("ab")["input_ids"] == PreTrainedTokenizerFast.from_pretrained(tiny_model)("ab")["input_ids"]
