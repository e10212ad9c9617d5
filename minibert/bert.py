"""Why every BERT encoder is a DistilBERT, and how BERT's tensors become DistilBERT's.

DistilBERT's architecture is BERT's without two parts, so every BERT encoder already is a DistilBERT:

1. Token types. BERT adds a vector for "first sentence" or "second sentence" to each embedding. For single sentences it is
   always the first one, the same for every token. This file adds it to each position vector once, and the sum is the same:
   word + (position + type_0)  =  word + position + type_0.
   One thing is lost: the second sentence of a pair is no longer marked as second.
2. The pooler, a layer on [CLS]. BERT's pre-training used it to predict which sentence follows which. It comes after the
   last hidden state and changes none. DistilBERT's head has pre_classifier in its place, so the pooler is dropped.

A *distilled* BERT differs in its weights: it has half of the blocks, trained to imitate the whole
(Sanh et al. 2019, arXiv 1910.01108). The names are BERT's (Devlin et al. 2018, arXiv 1810.04805).
"""

from pathlib import Path

from torch import Tensor

from .config import DistilBertConfig
from .model import LAYER_NORM_EPS
from .storage.files import read_json
from .storage.messages import short

SIZES = {  # BERT's name -> DistilBERT's
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
}
MODULES = {  # the same for the modules of a block
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # from BERT's first release


def read_config(path: Path) -> DistilBertConfig:
    """BERT's config.json in DistilBERT's words.

    Raises OSError where it cannot be read, ValueError where the two architectures would not compute alike.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; expected an object with the model's sizes.")
    wanted = {"model_type": "bert", "layer_norm_eps": LAYER_NORM_EPS, "position_embedding_type": "absolute", "is_decoder": False}
    for key, value in wanted.items():
        if values.get(key, value if key != "model_type" else None) != value:
            raise ValueError(f"{path}: {key} is {short.repr(values.get(key))}; a DistilBERT has {value!r}.")
    config = {ours: values[theirs] for theirs, ours in SIZES.items() if theirs in values}
    return DistilBertConfig.from_dict({"model_type": "distilbert", **config})


def fold(bert: dict[str, Tensor]) -> dict[str, Tensor]:
    """BERT's tensors under DistilBERT's names, token types folded in, pooler and pre-training head dropped.

    Raises KeyError where there are no token types or no positions, ValueError for tensors that cannot be folded.
    """
    tensors = {}
    for name, tensor in bert.items():
        name = name.removeprefix("bert.")
        for old, new in OLD_NAMES.items():
            name = name.replace(old, new)
        if name.startswith(("pooler.", "cls.")) or name == "embeddings.position_ids":
            continue
        if name.startswith("encoder.layer.") and name.count(".") >= 4:
            _, _, number, rest = name.split(".", 3)
            module, part = rest.rsplit(".", 1)
            name = f"transformer.layer.{number}.{MODULES.get(module, module)}.{part}"
        if name in tensors:
            raise ValueError(f"the tensor {name} is there twice, under two names of BERT's; expected it once.")
        tensors[name] = tensor
    check_tables(tensors)
    first_sentence = tensors.pop("embeddings.token_type_embeddings.weight")[0]      # (dim)
    positions = tensors["embeddings.position_embeddings.weight"]                    # (positions, dim)
    tensors["embeddings.position_embeddings.weight"] = positions + first_sentence   # (positions, dim)
    return tensors


def check_tables(tensors: dict[str, Tensor]) -> None:
    """Raises ValueError where token types and positions are not tables, (types, dim) and (positions, dim), that can be added."""
    types, positions = (tensors[f"embeddings.{kind}_embeddings.weight"].shape for kind in ("token_type", "position"))
    if len(types) != 2 or types[0] == 0 or types[1:] != positions[1:]:
        raise ValueError(
            f"token_type_embeddings has shape {tuple(types)} and position_embeddings {tuple(positions)}; "
            "expected two tables of vectors of one length."
        )
