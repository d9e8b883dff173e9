"""Sizes of tiny random models of all families: a value for each name in their configs, and what some need."""

from __future__ import annotations

from typing import Any

VOCAB, LAYERS = 128, 5

_NAMES: dict[int, str] = {
    VOCAB: "vocab_size vocab_size_per_layer_input decoder_vocab_size t2u_vocab_size unpadded_vocab_size",
    32: "hidden_size d_model n_embd emb_dim embedding_dim embedding_size word_embed_proj_dim attention_hidden_size "
    "lru_width input_embedding_size output_embedding_size backbone_hidden_size projection_dim out_hidden_size "
    "projector_hidden_size embed_dim dim",
    LAYERS: "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers encoder_layers "
    "num_encoder_layers num_blocks layers",
    2: "encoder_num_layers num_key_value_heads num_kv_heads num_query_groups o_groups num_experts_per_tok "
    "num_experts_per_token moe_k moe_topk top_k_experts n_mamba_heads linear_num_key_heads index_n_heads depth "
    "type_vocab_size swa_num_key_value_heads zero_expert_num",
    4: "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads num_experts num_local_experts n_routed_experts "
    "moe_num_experts mamba_dt_rank time_step_rank linear_num_value_heads linear_num_heads laurel_rank rotary_dim "
    "gated_norm_rank patch_size swa_num_attention_heads",
    48: "intermediate_size ffn_dim d_ff dff dim_ff decoder_ffn_dim encoder_ffn_dim n_inner d_inner ffn_hidden_size "
    "intermediate_size_mlp dense_intermediate_size feed_forward_size",
    16: "moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size "
    "shared_intermediate_size expert_ffn_hidden_size moe_shared_expert_intermediate_size global_head_dim q_lora_rank "
    "kv_lora_rank qk_head_dim o_lora_rank index_head_dim image_size upsample_initial_channel router_hidden_size "
    "num_mel_bins",
    8: "head_dim attention_head_dim kv_channels d_kv d_head dim_head attention_head_size swa_head_dim "
    "qk_rope_head_dim qk_nope_head_dim v_head_dim mamba_d_state state_size ssm_state_size mamba_n_heads "
    "mamba_num_heads mamba_d_head mamba_head_dim mamba_headdim mamba_chunk_size chunk_size linear_key_head_dim "
    "linear_value_head_dim linear_head_dim hidden_size_per_layer_input query_pre_attn_scalar adapter_rank",
    1: "n_group topk_group num_expert_group n_shared_experts num_shared_experts moe_num_shared_experts "
    "first_k_dense_replace num_dense_layers n_groups",
    128: "max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length max_target_positions",
    6: "sliding_window attention_chunk_size window_size local_attention attention_window_size sliding_window_size",
    64: "index_topk mamba_d_ssm unit_hifi_gan_vocab_size max_source_positions rel_extent",
    3: "num_channels kernel_size",
}
SIZES = {name: size for size, names in _NAMES.items() for name in names.split()}

DROP = object()
"""As a value: the setting is left to the config's own default."""
_ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"]
_DEFAULT_ROPE = {"rope_theta": 1e4, "rope_type": "default"}
_M_ROPE = {**_DEFAULT_ROPE, "mrope_section": [2, 1, 1]}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "original_max_position_embeddings": 8,
}
_CONV = {"layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"], "full_attn_idxs": DROP}
_PLAIN_G4 = {"hidden_size_per_layer_input": 0, "layer_types": _ALTERNATING}
_QWEN_4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
}
_SHARED_G4 = {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "layer_types": _ALTERNATING}
_PLAIN_TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "model_args": {"embed_dim": 32},
}
"""In place of a tower of timm, which need not be installed: text does not reach a tower."""
_DOTS_3 = {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 16,
    "swa_head_dim": 16,
    "swa_qk_nope_head_dim": 8,
    "swa_v_head_dim": 8,
}
_HYBRID = ["linear_attention", "full_attention", "linear_attention", "linear_attention", "full_attention"]

CHANGES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"num_experts": 8, "num_expert_group": 2, "n_group": 2, "topk_group": 1},
    "bamba": {"attn_layer_indices": [1, 4]},
    "blenderbot": {"encoder_layers": 5},
    "chameleon": {"vocabulary_map": {"<image>": 126}},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _M_ROPE, "sliding_attention": _M_ROPE},
        "layer_types": _ALTERNATING,
    },
    "dbrx": {
        "rope_parameters": _DEFAULT_ROPE,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 48, "hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"n_group": 2, "n_routed_experts": 4, "q_lora_rank": 16},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "diffusion_gemma": {
        "text_config": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16, "layer_types": _ALTERNATING}
    },
    "dots3_note": {
        "vision_config": {
            "hidden_size": 32,
            "per_layer_config": DROP,
            "mlp_layer_types": ["dense", "sparse"],
            "num_experts_per_tok": 2,
            "adapter_in_dim": 32,
            "adapter_out_dim": 32,
        },
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
        "text_config": _DOTS_3,
    },
    "dots3_note_text": _DOTS_3,
    "emu3": {"vocabulary_map": {"<image>": 126}},
    "ernie4_5_vl_moe": {
        "text_config": {
            "rope_parameters": {**_DEFAULT_ROPE, "mrope_section": [1, 1, 2]},
            "moe_num_experts": 4,
            "moe_intermediate_size": [16, 16],
        }
    },
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", *_ALTERNATING[:2]],
        "activation_sparsity_pattern": [0.0] * LAYERS,
    },
    "gemma4_text": {**_PLAIN_G4, "global_head_dim": DROP},
    "gemma4_unified_text": _PLAIN_G4,
    "glm4v_moe": {
        "text_config": {"rope_parameters": {**_DEFAULT_ROPE, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5}}
    },
    "glm5_next": {"text_config": {"index_topk": 16}},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "fast_vlm": {"vision_config": _PLAIN_TOWER},
    "granite4_vision": {
        "vision_config": {"hidden_size": 64},
        "downsample_rate": "1/2",
        "deepstack_layer_map": [[0, 0]],
    },
    "granitemoehybrid": {"layer_types": _HYBRID},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": 2, "num_shared_expert": 1},
    "hunyuan_vl": {
        "text_config": {
            "head_dim": 8,
            "rope_parameters": {**_DEFAULT_ROPE, "mrope_section": [1] * 4, "xdrope_section": [1] * 4},
        }
    },
    "inkling2": {"vision_config": {"text_hidden_size": 32}},
    "kimi_linear": {"num_experts": 8},
    "lfm2": _CONV,
    "lfm2_moe": _CONV,
    "lfm2_vl": {"text_config": {"layer_types": _CONV["layer_types"]}},
    "longcat_flash": {"num_layers": 3, "num_hidden_layers": DROP},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse", "full_attention", *["minimax_m3_sparse"] * 2],
        "index_block_size": 4,
        "index_topk_blocks": 2,
    },
    "ministral": {"head_dim": 8},
    "mistral4": {"qk_rope_head_dim": 64, "qk_nope_head_dim": 64, "qk_head_dim": 128, "head_dim": 128},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "full_attention"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "expand": 2,
    },
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 120, "text_config": {"rope_parameters": _M_ROPE}},
    "qwen2_5_omni_thinker": {
        "vision_start_token_id": 120,
        "vision_end_token_id": 121,
        "text_config": {"rope_parameters": _M_ROPE},
    },
    "muse_spark": {
        "audio_config": {"num_hidden_layers": 4, "hidden_sizes": [16] * 4, "depths": [1] * 4},
        "vision_config": {"hidden_size": 32, "intermediate_size": 48},
    },
    "perception_lm": {"vision_config": _PLAIN_TOWER},
    "qwen4_exp": {"text_config": _QWEN_4},
    "qwen4_exp_text": _QWEN_4,
    "reformer": {
        "attn_layers": ["local"] * 4,
        "axial_pos_shape": [8, 16],
        "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 4,
    },
    "step3p7": {"text_config": {"sliding_window": 6}},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "zamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "layers_block_type": DROP,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {
        "layers_block_type": [*["linear_attention", "hybrid"] * 2, "linear_attention"],
        "hybrid_layer_ids": DROP,
        "n_mamba_heads": 8,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "falcon@alibi": {"alibi": True},
    "gemma4_text@shared keys, inputs per layer": _SHARED_G4,
    "gemma4_text@experts": {
        **_PLAIN_G4,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
    },
    "granitemoehybrid@attention alone": {"layer_types": ["full_attention"] * LAYERS, "position_embedding_type": "rope"},
    "llama@dynamic rope": {
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        "max_position_embeddings": 8,
    },
    "phi3@longrope": {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 8},
    "whisper@5 encoder and 3 decoder layers": {"encoder_layers": 5, "decoder_layers": 3},
}
"""By type, or by type and variant: settings of its config that differ from `SIZES`."""
for _type in (
    "glm46v",
    "glm4v",
    "glmga",
    "glm_ocr",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "paddleocr_vl",
):
    CHANGES[_type] = {"text_config": {"rope_parameters": _M_ROPE}}
CHANGES["qwen2_vl"] = CHANGES["qwen2_5_vl"] = {**CHANGES["qwen2_vl"], "vision_config": {"hidden_size": 32}}
CHANGES["cohere_compass"] = {"text_config": CHANGES["cohere_compass_text"]}
CHANGES["minimax_m3_vl"] = {"text_config": CHANGES["minimax_m3_vl_text"]}
CHANGES["granite_speech"] = {"projector_config": {"num_hidden_layers": 2}, "encoder_config": {"num_layers": 2}}
CHANGES["granite_speech_plus"] = CHANGES["granite_speech"]
CHANGES["deepseek_ocr2"] = {
    "text_config": {"mlp_layer_types": ["dense", *["sparse"] * 4], "n_routed_experts": 4, "num_experts_per_tok": 2}
}
