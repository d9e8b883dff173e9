"""The config of a path's own model: what counts layers is counted anew."""

from __future__ import annotations

import pytest
import transformers
from families import FAMILIES, HYBRIDS, MAMBA, NO_SPECIAL, SIZES

from infer.export.path_config import check_layers, path_config
from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath

PATH = LayerPath.parse("2.-2")


def config_of(name: str, path: LayerPath = PATH, **changes) -> dict:
    base = getattr(transformers, f"{name}Config")(**SIZES | NO_SPECIAL | changes)
    return path_config(base.to_dict(), base, path)


def test_lists_per_layer_follow_the_path():
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    config = config_of("Qwen3", layer_types=kinds, sliding_window=6, use_sliding_window=True)
    assert config["num_hidden_layers"] == 5
    assert config["layer_types"] == [kinds[0], kinds[0], kinds[1], kinds[3], kinds[3]]


def test_a_pattern_becomes_a_list():
    config = config_of("Cohere2", sliding_window=6, sliding_window_pattern=2)
    assert config["layer_types"] == ["sliding_attention"] * 2 + ["full_attention"] * 3
    assert "sliding_window_pattern" not in config


@pytest.mark.parametrize(("first", "wanted"), [(0, 0), (1, 2), (2, 3), (3, 3), (4, 5)])
def test_a_number_of_first_layers_counts_their_executions(first, wanted):
    assert config_of("DeepseekV3", first_k_dense_replace=first)["first_k_dense_replace"] == wanted


@pytest.mark.parametrize(
    ("only", "step", "wanted"), [([], 1, []), ([0], 1, [0, 1]), ([], 2, [0, 1]), ([3], 2, [0, 1, 3, 4]), ([2], 1, [])]
)
def test_dense_layers_of_a_mixture_are_named(only, step, wanted):
    config = config_of("Qwen3Moe", mlp_only_layers=only, decoder_sparse_step=step)
    assert (config["mlp_only_layers"], config["decoder_sparse_step"]) == (wanted, 1)


def test_a_span_of_mixture_layers_moves():
    config = config_of("Ernie4_5_Moe", moe_layer_start_index=1, moe_layer_end_index=2)
    assert (config["moe_layer_start_index"], config["moe_layer_end_index"]) == (2, 2)


def test_layers_after_the_last_are_not_promised():
    base = transformers.DeepseekV3Config(**SIZES | NO_SPECIAL)
    config = path_config(base.to_dict() | {"num_nextn_predict_layers": 1}, base, PATH)
    assert config["num_nextn_predict_layers"] == 0


def test_everything_else_stays():
    base = transformers.LlamaConfig(**SIZES | NO_SPECIAL)
    raw = base.to_dict() | {"auto_map": {}, "unheard_of": [1, 2, 3, 4]}
    config = path_config(raw, base, PATH)
    assert config == {name: value for name, value in raw.items() if name != "auto_map"} | {"num_hidden_layers": 5}


def test_quantised_weights_are_refused():
    base = transformers.LlamaConfig(**SIZES | NO_SPECIAL)
    with pytest.raises(InputError, match=r"its weights are quantised \(gptq\)"):
        path_config(base.to_dict() | {"quantization_config": {"quant_method": "gptq"}}, base, PATH)


def test_a_config_with_another_model_in_it_is_refused():
    base = transformers.Gemma3Config()
    with pytest.raises(InputError, match=r"gemma3.* has a model beside the language model"):
        path_config(base.to_dict(), base, PATH)


def test_embeddings_per_layer_are_refused():
    base = transformers.Gemma4TextConfig(**SIZES | NO_SPECIAL | {"hidden_size_per_layer_input": 8})
    with pytest.raises(InputError, match="embeddings of all layers lie in one table"):
        path_config(base.to_dict(), base, PATH)


def test_a_list_that_the_config_keeps_as_it_was_is_refused():
    base = transformers.Gemma2Config(**SIZES | NO_SPECIAL | FAMILIES["gemma2"][1])
    config = path_config(base.to_dict(), base, PATH)
    assert check_layers(base, config, PATH) == "model.layers"
    short = {**config, "layer_types": config["layer_types"][:-1]}
    with pytest.raises(InputError, match="its config cannot say which layers remain"):
        check_layers(base, short, PATH)
    swapped = {**config, "layer_types": config["layer_types"][::-1]}
    with pytest.raises(InputError, match=r"layer [0-9] would change as number"):
        check_layers(base, swapped, PATH)


def test_lists_of_layer_numbers_name_the_layers_that_remain():
    assert config_of("Bamba", attn_layer_indices=[1, 2], **MAMBA)["attn_layer_indices"] == [2]
    assert config_of("Llama4Text", moe_layers=[0, 2])["moe_layers"] == [0, 1]


def test_settings_of_single_layers_move_with_them():
    kinds = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
    base = transformers.Gemma4TextConfig(
        **SIZES | NO_SPECIAL | {"hidden_size_per_layer_input": 0, "layer_types": kinds}
    )
    raw = base.to_dict() | {"per_layer_config": {"0": {"head_dim": 16}, "3": {"head_dim": 32}}}
    wanted = {"0": {"head_dim": 16}, "1": {"head_dim": 16}, "3": {"head_dim": 32}, "4": {"head_dim": 32}}
    assert path_config(raw, base, PATH)["per_layer_config"] == wanted


@pytest.mark.parametrize(("family", "extra"), [HYBRIDS["bamba"], HYBRIDS["falcon_h1"]])
def test_kinds_that_a_config_computes_are_not_written_and_follow_the_path(family, extra):
    base = getattr(transformers, f"{family}Config")(**SIZES | NO_SPECIAL | extra)
    config = path_config(base.to_dict(), base, PATH)
    assert "layer_types" not in config
    assert check_layers(base, config, PATH) == "model.layers"


def test_kinds_by_a_period_are_refused_where_the_path_breaks_it():
    base = transformers.JambaConfig(**SIZES | NO_SPECIAL | HYBRIDS["jamba"][1])
    with pytest.raises(InputError, match="its config computes layer_types from the layers' numbers"):
        check_layers(base, path_config(base.to_dict(), base, PATH), PATH)
    short = LayerPath.parse("...-")
    assert check_layers(base, path_config(base.to_dict(), base, short), short) == "model.layers"
