import pytest
import torch

from pathgen.engine.probe.arguments import find_row_axes
from pathgen.engine.probe.restrictions import KEYS_ARE_PICKED, MixedRowsError, Restrictions
from pathgen.engine.supported import take_rows


def arguments(rows, heads=4):
    """(args, kwargs) of a layer: a mask, positions [3, B, T], alibi of all heads of a row, a table without rows."""
    mask = torch.arange(rows)[:, None, None].expand(rows, 1, 5)
    positions = torch.arange(rows)[None, :, None].expand(3, rows, 5)
    alibi = (torch.arange(rows * heads) // heads)[:, None].expand(rows * heads, 5)
    table = torch.arange(heads)[:, None].expand(heads, 5)
    return (torch.arange(rows),), {"mask": mask, "position_ids": positions, "more": (alibi, table), "flag": None}


def test_rows_are_found_on_any_axis_and_taken_from_it():
    axes = find_row_axes(arguments(2), arguments(3))
    assert axes == {"0.0": (0, 1), "1.position_ids": (1, 1), "1.more.0": (0, 4), "1.more.1": None}
    for batch in (3, 4):  # as many rows as the positions have axes, and as the table has heads
        picked = torch.tensor([2, 0])
        (lone,), named = take_rows(arguments(batch), picked, batch, axes)
        assert lone.tolist() == [2, 0]
        assert named["mask"][:, 0, 0].tolist() == [2, 0]
        assert named["position_ids"][:, :, 0].tolist() == [[2, 0]] * 3
        assert named["more"][0][:, 0].tolist() == [2] * 4 + [0] * 4
        assert named["more"][1][:, 0].tolist() == [0, 1, 2, 3]


def test_a_shape_that_does_not_follow_the_rows_is_refused():
    with pytest.raises(ValueError, match=r"shape \(5, 4\) has no row per question"):
        find_row_axes((torch.zeros(5, 4), {}), (torch.zeros(7, 4), {}))


@pytest.mark.parametrize(
    ("restrictions", "kinds"),
    [
        (Restrictions("M"), [(False, 0)] * 3),
        (Restrictions("M", border=8), [(False, 0), (False, 0), (True, 0)]),
        (Restrictions("M", one_length=True), [(False, 5), (False, 8), (False, 9)]),
    ],
)
def test_rows_of_different_kind(restrictions, kinds):
    assert [restrictions.kind(tokens, decodes=True) for tokens in (5, 8, 9)] == kinds
    assert [restrictions.kind(tokens)[1] for tokens in (5, 8, 9)] == [0, 0, 0]


def test_rows_end_where_indexers_begin_to_leave_out_keys():
    model = Restrictions("M", border=8, past_border=False, border_is=KEYS_ARE_PICKED)
    ids = torch.zeros(1, 9, dtype=torch.long)
    assert model.inputs({"input_ids": ids[:, :8]}).keys() == {"input_ids"}
    with pytest.raises(MixedRowsError, match="its indexers begin to leave out keys at 8 tokens"):
        model.inputs({"input_ids": ids})
    with pytest.raises(MixedRowsError, match="where its indexers begin to leave out keys; give max_new_tokens"):
        model.check_room(torch.tensor([5]), 4)


def test_a_model_that_counts_its_positions_itself_is_given_none():
    given = {"input_ids": torch.zeros(1, 3, dtype=torch.long), "position_ids": torch.arange(3)[None]}
    assert Restrictions("M", own_positions=True, one_length=True).inputs(given)["position_ids"] is None
