"""A model's folder read: the right facts, and for each thing wrong a text that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import model_cache
from er import model_files
from er.model_files import GgufError, ModelFilesError, Packed

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "max_position_embeddings": 32768,
    "hidden_size": 1024,
    "vocab_size": 151669,
    "torch_dtype": "bfloat16",
}


def make(folder: Path, **files: Any) -> Path:
    """A model folder with config.json and tokenizer.json; `files` adds to it or replaces."""
    for name, value in ({"config": CONFIG, "tokenizer": {}} | files).items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_a_qwen3_folder(tmp_path: Path) -> None:
    files = model_files.read(make(tmp_path, tokenizer_config={"model_max_length": 131072}))
    assert (files.prompt, files.max_tokens, files.dimensions) == ("qwen3", 32768, 1024)
    assert (files.vocabulary, files.dtype) == (151669, "bfloat16")
    assert files.query_prefix == files.document_prefix == ""


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            Packed(method="awq", bits=4, group=128, symmetric=True, head=False),
        ),
        (
            {"quant_method": "GPTQ", "bits": 4, "group_size": -1, "sym": False, "lm_head": True},
            Packed(method="gptq", bits=4, group=0, symmetric=False, head=True),
        ),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 64], "fmt": "e4m3"},
            Packed(method="fp8", bits=0, group=64, symmetric=True, head=False),
        ),
        (
            {"quant_method": "compressed_tensors", "ignore": ["lm_head"]},
            Packed(method="compressed-tensors", bits=0, group=0, symmetric=True, head=False),
        ),
        (
            {"quant_method": "compressed-tensors", "ignore": []},
            Packed(method="compressed-tensors", bits=0, group=0, symmetric=True, head=True),
        ),
        (
            {"bits": "four"},
            Packed(
                method="a way that it does not name", bits=0, group=0, symmetric=True, head=False
            ),
        ),
    ],
)
def test_packed_weights(tmp_path: Path, said: dict[str, Any], want: Packed) -> None:
    """Wherever the configuration says it; a tied output layer is the input's, and never packed."""
    for config in (
        CONFIG | {"quantization_config": said},
        CONFIG | {"compression_config": said},
        {**CONFIG, "text_config": CONFIG | {"quantization_config": said}},
    ):
        assert model_files.read(make(tmp_path, config=config)).packed == want
    tied = CONFIG | {"quantization_config": said, "tie_word_embeddings": True}
    packed = model_files.read(make(tmp_path, config=tied)).packed
    assert packed is not None and packed.head is (said.get("lm_head") is True)
    assert model_files.read(make(tmp_path, config=CONFIG)).packed is None


def test_what_several_cards_share_out(tmp_path: Path) -> None:
    sizes = {"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 12288}
    files = model_files.read(make(tmp_path, config=CONFIG | sizes))
    assert (files.heads, files.kv_heads, files.inner) == (32, 8, 12288)
    files = model_files.read(make(tmp_path, config=CONFIG | {"num_attention_heads": 12}))
    assert (files.heads, files.kv_heads, files.inner) == (12, 12, 0)


def test_llama_cpps_format(tmp_path: Path) -> None:
    """A file, a folder of nothing else; not a folder that has other weights too."""
    folder = tmp_path / "model"
    folder.mkdir()
    make(folder)
    (folder / "model-Q4_K_M.GGUF").touch()
    with pytest.raises(GgufError, match="use the model's own folder"):
        model_files.read(folder / "model-Q4_K_M.GGUF")
    assert model_files.read(folder).dimensions == 1024  # a gateway alone needs no weights
    with pytest.raises(GgufError):
        model_files.demand_weights(folder)
    (folder / "config.json").unlink()
    with pytest.raises(GgufError):
        model_files.read(folder)
    (folder / "model.safetensors").touch()
    model_files.demand_weights(folder)
    with pytest.raises(ModelFilesError, match=r"config\.json: missing"):
        model_files.read(folder)


def test_the_lowest_limit_counts(tmp_path: Path) -> None:
    make(tmp_path, tokenizer_config={"model_max_length": 512}, sentence_bert_config={})
    assert model_files.read(tmp_path).max_tokens == 512
    make(tmp_path, sentence_bert_config={"max_seq_length": 256})
    assert model_files.read(tmp_path).max_tokens == 256
    make(
        tmp_path,
        tokenizer_config={"model_max_length": 1e30},
        sentence_bert_config={"max_seq_length": None},
    )
    assert model_files.read(tmp_path).max_tokens == 32768


def test_sentence_transformers_files(tmp_path: Path) -> None:
    make(
        tmp_path,
        config=CONFIG | {"architectures": ["BertModel"]},
        modules=[
            {"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Dense", "path": "2_Dense"},
        ],
        config_sentence_transformers={"prompts": {"query": "query: ", "passage": "passage: "}},
    )
    tanh = "torch.nn.modules.activation.Tanh"
    make(tmp_path / "2_Dense", config={"out_features": 128, "activation_function": tanh})
    files = model_files.read(tmp_path)
    assert (files.prompt, files.dimensions) == ("plain", 128)
    assert (files.query_prefix, files.document_prefix) == ("query: ", "passage: ")
    assert (files.dense, files.normalised, files.pooling) == (("2_Dense",), False, "")
    prompts = {"query": "q: ", "document": "", "all": "a: "}
    make(tmp_path, config_sentence_transformers={"prompts": prompts, "default_prompt_name": "all"})
    files = model_files.read(tmp_path)
    assert (files.query_prefix, files.document_prefix) == ("q: ", "")
    del prompts["query"], prompts["document"]
    make(tmp_path, config_sentence_transformers={"prompts": prompts, "default_prompt_name": "all"})
    files = model_files.read(tmp_path)
    assert (files.query_prefix, files.document_prefix) == ("a: ", "a: ")


def test_a_layer_without_weights_is_named(tmp_path: Path) -> None:
    """vLLM would leave it out."""
    dense = {"out_features": 8, "activation_function": "torch.nn.modules.linear.Identity"}
    make(tmp_path, modules=modules("Transformer", "Dense"), Dense__config=dense)
    files = model_files.read(tmp_path)
    assert "Dense has no weights" in model_files.lacking(files, tmp_path)
    (tmp_path / "Dense" / "pytorch_model.bin").write_bytes(b"x")
    assert model_files.lacking(files, tmp_path) == ""


def test_small_letters_are_the_tokenizers_to_make(tmp_path: Path) -> None:
    lower = {"do_lower_case": True}
    with pytest.raises(ModelFilesError, match="do_lower_case is true"):
        model_files.read(make(tmp_path, sentence_bert_config=lower))
    for normalizer in ({"type": "BertNormalizer", "lowercase": True}, {"type": "Lowercase"}):
        model_files.read(make(tmp_path, tokenizer={"normalizer": normalizer}))


def modules(*names: str) -> list[dict[str, str]]:
    return [{"type": f"sentence_transformers.models.{name}", "path": name} for name in names]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "CLS"),
        ({"pooling_mode_mean_tokens": True}, "MEAN"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "MEAN"),  # another length, made 1 anyway
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "LAST"),
        ({"pooling_mode": "mean", "embedding_dimension": 8}, "MEAN"),
    ],
)
def test_the_pooling_of_sentence_transformers(
    tmp_path: Path, config: dict[str, Any], wanted: str
) -> None:
    make(tmp_path, modules=modules("Transformer", "Pooling", "Normalize"), Pooling__config=config)
    files = model_files.read(tmp_path)
    assert (files.pooling, files.normalised) == (wanted, True)


@pytest.mark.parametrize(
    ("names", "files", "said"),
    [
        (["Pooling"], {"Pooling__config": {"pooling_mode_max_tokens": True}}, "pools by max"),
        (["Pooling"], {"Pooling__config": {}}, "pools by nothing"),
        (
            ["Pooling"],
            {"Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}},
            "pools by cls and mean",
        ),
        (
            ["Pooling"],
            {
                "Pooling__config": {"pooling_mode_mean_tokens": True, "include_prompt": False},
                "config_sentence_transformers": {"prompts": {"query": "q: "}},
            },
            "include_prompt is false",
        ),
        (["Transformer", "LSTM"], {}, "names sentence_transformers.models.LSTM"),
        (["Dense"], {"Dense__config": {"out_features": 8}}, "activation_function is none"),
        (
            ["Normalize", "Dense"],
            {"Dense__config": {"out_features": 8, "activation_function": "torch.nn.Tanh"}},
            "behind Normalize",
        ),
    ],
)
def test_modules_that_no_engine_does_are_refused(
    tmp_path: Path, names: list[str], files: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelFilesError, match=said):
        model_files.read(make(tmp_path, modules=modules(*names), **files))


def test_a_models_own_module_is_refused(tmp_path: Path) -> None:
    own = [{"type": "custom_st.Transformer", "path": ""}]
    with pytest.raises(ModelFilesError, match=r"names custom_st\.Transformer"):
        model_files.read(make(tmp_path, modules=own))


def test_positions_that_start_behind_the_padding(tmp_path: Path) -> None:
    xlm = {"architectures": ["XLMRobertaModel"], "max_position_embeddings": 8194, "pad_token_id": 1}
    make(tmp_path, config=CONFIG | xlm)
    assert model_files.read(tmp_path).max_tokens == 8192
    make(tmp_path, config=CONFIG | xlm | {"position_embedding_type": "rotary"})
    assert model_files.read(tmp_path).max_tokens == 8194


def test_a_classifier(tmp_path: Path) -> None:
    bert = CONFIG | {"architectures": ["BertForSequenceClassification"], "type_vocab_size": 2}
    for config, labels in (({"id2label": {"0": "X"}}, 1), ({}, 2), ({"num_labels": 3}, 3)):
        files = model_files.read(make(tmp_path, config=bert | config))
        assert (files.labels, files.segments, files.prompt) == (labels, 2, "plain")


def test_minilm() -> None:
    files = model_files.read(model_cache.folder("minilm"))
    assert (files.architecture, files.prompt) == ("BertModel", "plain")
    assert (files.max_tokens, files.dimensions, files.vocabulary) == (256, 384, 30522)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config": "{"}, "config.json: not JSON"),
        ({"config": "[]"}, "config.json: not a JSON object"),
        ({"config": {**CONFIG, "hidden_size": None}}, "hidden_size is missing"),
        ({"config": {**CONFIG, "vocab_size": "many"}}, "vocab_size is 'many'"),
        ({"config": {**CONFIG, "max_position_embeddings": 0}}, "max_position_embeddings is 0"),
        ({"modules": {}}, "modules.json: not a JSON list"),
        ({"tokenizer_config": "]"}, "tokenizer_config.json: not JSON"),
    ],
)
def test_unfit_files_are_named(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFilesError, match=said.replace("[", r"\[")) as error:
        model_files.read(make(tmp_path, **files))
    assert str(tmp_path) in str(error.value)


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match="no such folder"):
        model_files.read(tmp_path / "nowhere")
    with pytest.raises(ModelFilesError, match=r"config\.json: missing"):
        model_files.read(tmp_path)
    make(tmp_path)
    with pytest.raises(ModelFilesError, match="is not a folder"):
        model_files.read(tmp_path / "config.json")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json: missing"):
        model_files.read(tmp_path)


def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # as root every file can be read
    with pytest.raises(ModelFilesError, match="chmod -R o\\+rX"):
        model_files.read(tmp_path)
    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ModelFilesError, match="not reachable"):
        model_files.read(tmp_path)


def test_a_home_that_a_unit_does_not_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only there, only in a unit, and only while it is not found."""
    late, other = Path("/home/nobody-here/model"), Path("/srv/model")
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert model_files.unseen(late) == ""
    monkeypatch.setenv("INVOCATION_ID", "x")
    assert "sudo systemctl restart er-gateway" in model_files.unseen(late)
    assert model_files.unseen(other) == model_files.unseen(tmp_path) == ""
