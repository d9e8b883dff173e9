"""What callers may give instead of token ids and texts, and what each refusal says would be right."""

from __future__ import annotations

import re

import pytest
import torch

from pathgen.models.token_inputs import (
    OWN_CACHE,
    check_continues,
    checked_mask,
    refuse_options,
    texts_of,
    token_rows_of,
    whole_number,
)

IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("ids", "mask", "wrong"),
    [
        ("hello", None, "input_ids is str, not a tensor [B, T] of token ids; RoutedModel.complete takes texts"),
        ([[1, 2]], None, "input_ids is list, not a tensor [B, T] of token ids; torch.tensor(rows) makes one"),
        (
            {"input_ids": IDS},
            None,
            "input_ids is a tokenizer's whole output: pass its parts, as in generate(**encoded)",
        ),
        (IDS[0], None, "input_ids has shape [3], not [B, T] with at least one token; input_ids[None] is a batch"),
        (IDS[:, :0], None, "input_ids has shape [2, 0], not [B, T] with at least one token"),
        (IDS.float(), None, "input_ids is of torch.float32, not of whole numbers"),
        (IDS > 2, None, "input_ids is of torch.bool, not of whole numbers"),
        (IDS * 2, None, "input_ids holds 12; the model knows the tokens 0 to 9"),
        (IDS - 4, None, "input_ids holds -3; the model knows the tokens 0 to 9"),
        (IDS, torch.ones(2, 4), "attention_mask is [2, 4], not [2, 3] like input_ids"),
        (IDS, [[1, 1, 1], [1, 1, 1]], "attention_mask is list, not [2, 3] like input_ids"),
        (IDS, torch.tensor([[1, 1, 1], [0, 0, 0]]), "row 1 of attention_mask has no token"),
    ],
)
def test_ids_and_masks_that_cannot_be_used(ids, mask, wrong):
    with pytest.raises(ValueError, match=f"^{re.escape(wrong)}"):
        checked_mask(ids, mask, 10)


def test_a_mask_is_as_given_or_all_ones():
    given = torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert checked_mask(IDS, given, 7) is given
    assert torch.equal(checked_mask(IDS, None, 7), torch.ones(2, 3, dtype=torch.int64))


def test_an_option_is_refused_with_its_reason():
    refuse_options({"top_k": 1}, {"past_key_values": OWN_CACHE})
    with pytest.raises(ValueError, match=r"which generate makes: leave out past_key_values$"):
        refuse_options({"past_key_values": None}, {"past_key_values": OWN_CACHE})


@pytest.mark.parametrize(("held", "rows", "beams"), [(0, -1, 1), (2, 2, 1), (2, 6, 3)])
def test_a_cache_of_the_first_tokens_is_continued(held, rows, beams):
    check_continues(IDS, held, rows, beams)


@pytest.mark.parametrize(
    ("held", "rows", "wrong"),
    [
        (3, 2, "holds 3 tokens and the prompts have 3: it was used before"),
        (2, 3, "holds 3 rows and there are 2 prompts"),
    ],
)
def test_a_cache_that_was_used_or_is_of_other_rows_is_refused(held, rows, wrong):
    with pytest.raises(ValueError, match=wrong):
        check_continues(IDS, held, rows, 1)


def test_prompts_are_a_list_of_texts():
    assert texts_of(("a", "b")) == texts_of(text for text in "ab") == ["a", "b"]
    for wrong in ("hello", b"hello"):
        with pytest.raises(ValueError, match=r"^prompts are a list of texts, and this is one text: give \[text\]$"):
            texts_of(wrong)
    for other in (None, 5, {"prompt": "a"}):
        with pytest.raises(ValueError, match=f"^prompts are a list of texts; got {type(other).__name__}$"):
            texts_of(other)


@pytest.mark.parametrize("wrong", ["ab", ["ab"], [1, 2], None])
def test_rows_are_of_token_ids(wrong):
    with pytest.raises(ValueError, match=r"^prompts are rows of token ids; "):
        token_rows_of(wrong, "prompts")
    assert token_rows_of([[1, 2], (3,)], "prompts") == [[1, 2], (3,)]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "8", True, None])
def test_a_number_is_whole_and_at_least_1(wrong):
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, and whole; got"):
        whole_number(wrong, "batch_size")
    assert whole_number(torch.tensor([4]).numpy()[0], "batch_size") == 4
