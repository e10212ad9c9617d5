"""DistilBERT, written to be read from top to bottom, in the order in which the data flows.

    token ids -> Embeddings -> six TransformerBlocks -> first token -> classification head -> logits

Each line makes one tensor. The comment at its end names the axes. Sizes of DistilBERT, and of mini-sst2 in brackets:

    batch       sentences that are computed together
    tokens      positions of a sentence, padding included
    dim         numbers that describe one token: 768 (384)
    heads       attention heads, which share dim between them: 12
    head_dim    numbers that one head sees of a token, dim / heads: 64 (32)
    query, key  tokens again: the token that looks, and the token that is looked at
    hidden_dim  width of the feed-forward layer: 3072 (1536)
    labels      classes to choose from: 2

Modules and parameters have the checkpoint's own names, so you can read this file beside it. To run it:

    from minibert import AutoModelForSequenceClassification, AutoTokenizer
    inputs = AutoTokenizer.from_pretrained("mini-sst2")("I hate this so much!", return_tensors="pt")
    AutoModelForSequenceClassification.from_pretrained("mini-sst2")(**inputs).logits

Papers: Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762): attention, feed-forward, residuals.
        Devlin et al. 2018, "BERT" (arXiv 1810.04805): the encoder, its embeddings, [CLS] and [SEP], GELU.
        Sanh et al. 2019, "DistilBERT" (arXiv 1910.01108): half of BERT's blocks, no token types, no pooler.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DistilBertConfig

LAYER_NORM_EPS = 1e-12  # BERT's value; PyTorch's default of 1e-5 would change the logits in the fourth decimal


@dataclass
class BaseModelOutput:
    """What DistilBertModel returns. The two tuples are None unless you ask for them."""

    last_hidden_state: Tensor  # (batch, tokens, dim)
    hidden_states: tuple[Tensor, ...] | None = None  # the embeddings, then each block's output: n_layers + 1 tensors
    attentions: tuple[Tensor, ...] | None = None  # each block's attention map (batch, heads, query, key)


@dataclass
class SequenceClassifierOutput:
    """What DistilBertForSequenceClassification returns. All but the logits is None unless you ask for it."""

    logits: Tensor  # (batch, labels)
    loss: Tensor | None = None  # a scalar, if labels were given
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Embeddings(nn.Module):
    """Turns each token id into a vector that says which word it is and at which position.

    input_ids  (batch, tokens)         integers below vocab_size
    return     (batch, tokens, dim)    the parameters' dtype

    Attention ignores order. Only the position vector makes "dog bites man" differ from "man bites dog". BERT adds a third
    vector, for the first or the second sentence of a pair; DistilBERT leaves it out. padding_idx keeps gradients away from
    the vector of [PAD]; it does not mask anything. Devlin et al. 2018, section 3, "Input/Output Representations";
    Sanh et al. 2019, section 3.
    """

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)  # (tokens)  0, 1, 2 ...
        word_vectors = self.word_embeddings(input_ids)          # (batch, tokens, dim)  one row of the table for each id
        position_vectors = self.position_embeddings(positions)  # (tokens, dim)  the same for every sentence
        embeddings = word_vectors + position_vectors            # (batch, tokens, dim)
        embeddings = self.LayerNorm(embeddings)                 # (batch, tokens, dim)  mean 0, variance 1, then scale and shift
        embeddings = self.dropout(embeddings)                   # (batch, tokens, dim)  unchanged outside training
        return embeddings


class MultiHeadSelfAttention(nn.Module):
    """Lets every token gather information from every token of its sentence, once per head.

    hidden_states   (batch, tokens, dim)
    attention_mask  (batch, tokens)        1 for a token, 0 for padding; None means all ones
    return          (batch, tokens, dim)   what each token gathered
                    (batch, heads, query, key)   the weights it was gathered with; outside training each row sums to 1

    A token asks with its query. Other tokens answer with their keys, and hand over their values:
    softmax(Q K^T / sqrt(head_dim)) V. Vaswani et al. 2017, section 3.2, equation 1.
    """

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.head_dim = config.dim // config.n_heads
        self.q_lin = nn.Linear(config.dim, config.dim)
        self.k_lin = nn.Linear(config.dim, config.dim)
        self.v_lin = nn.Linear(config.dim, config.dim)
        self.out_lin = nn.Linear(config.dim, config.dim)
        self.dropout = nn.Dropout(config.attention_dropout)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        batch, tokens, dim = hidden_states.shape
        per_head = (batch, tokens, self.n_heads, self.head_dim)

        queries = self.q_lin(hidden_states)             # (batch, tokens, dim)  all heads at once, side by side
        keys = self.k_lin(hidden_states)                # (batch, tokens, dim)
        values = self.v_lin(hidden_states)              # (batch, tokens, dim)

        # Cut dim into heads, then bring heads before tokens: a matrix product works on the last two axes, and
        # those have to be one head's tokens. A view straight to (batch, heads, tokens, head_dim) would mix tokens.
        queries = queries.view(per_head).transpose(1, 2)    # (batch, heads, query, head_dim)
        keys = keys.view(per_head).transpose(1, 2)          # (batch, heads, key, head_dim)
        values = values.view(per_head).transpose(1, 2)      # (batch, heads, key, head_dim)

        scores = queries @ keys.transpose(2, 3)         # (batch, heads, query, key)  dot product of each pair
        scores = scores / math.sqrt(self.head_dim)      # (batch, heads, query, key)  without this, softmax picks one winner

        if attention_mask is not None:
            # Padding is hidden on the key axis: no token may look at it. Its own rows, as queries, are computed
            # and ignored. Beside any other score, the lowest finite number gets a weight of exactly 0.
            padding = attention_mask[:, None, None, :] == 0     # (batch, 1, 1, key)  True where there is no token
            scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)  # (batch, heads, query, key)

        attention = F.softmax(scores, dim=-1)           # (batch, heads, query, key)  over keys: each row sums to 1
        attention = self.dropout(attention)             # (batch, heads, query, key)  unchanged outside training
        context = attention @ values                    # (batch, heads, query, head_dim)  weighted sum of the values

        context = context.transpose(1, 2)               # (batch, tokens, heads, head_dim)  the way back
        context = context.reshape(batch, tokens, dim)   # (batch, tokens, dim)  heads side by side again
        output = self.out_lin(context)                  # (batch, tokens, dim)  mixes what the heads found
        return output, attention


class FeedForward(nn.Module):
    """Transforms each token alone: lin2(activation(lin1(x))).

    hidden_states  (batch, tokens, dim)
    return         (batch, tokens, dim)

    Two thirds of a block's parameters are here. The activation is BERT's exact GELU, x * Phi(x) with the normal
    distribution function Phi (Hendrycks and Gimpel 2016, arXiv 1606.08415), not its tanh approximation.
    Vaswani et al. 2017, section 3.3, with GELU in place of ReLU as in Devlin et al. 2018.
    """

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.lin1 = nn.Linear(config.dim, config.hidden_dim)
        self.activation = nn.GELU() if config.activation == "gelu" else nn.ReLU()
        self.lin2 = nn.Linear(config.hidden_dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden = self.lin1(hidden_states)       # (batch, tokens, hidden_dim)
        hidden = self.activation(hidden)        # (batch, tokens, hidden_dim)  without it, lin1 and lin2 would be one matrix
        output = self.lin2(hidden)              # (batch, tokens, dim)
        output = self.dropout(output)           # (batch, tokens, dim)
        return output


class TransformerBlock(nn.Module):
    """Attention, then feed-forward. After each, the input is added back and the sum is normalised.

    hidden_states   (batch, tokens, dim)
    attention_mask  (batch, tokens) or None
    return          (batch, tokens, dim) and the attention map (batch, heads, query, key)

    Because the input is added back (residual connection), a sublayer learns only the change. LayerNorm comes after the
    addition. This is the original order, "post-LN": LayerNorm(x + sublayer(x)). Vaswani et al. 2017, section 3.1.
    """

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.attention = MultiHeadSelfAttention(config)
        self.sa_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.ffn = FeedForward(config)
        self.output_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        attn_output, attention = self.attention(hidden_states, attention_mask)  # (batch, tokens, dim), (batch, heads, query, key)
        sa_output = self.sa_layer_norm(hidden_states + attn_output)     # (batch, tokens, dim)
        ffn_output = self.ffn(sa_output)                                # (batch, tokens, dim)
        output = self.output_layer_norm(sa_output + ffn_output)         # (batch, tokens, dim)
        return output, attention


class Transformer(nn.Module):
    """The blocks, one after the other. Each reads the output of the one before it.

    hidden_states   (batch, tokens, dim)   the embeddings
    attention_mask  (batch, tokens) or None
    return          BaseModelOutput; its tuples are kept only on request, since they hold much memory
    """

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.layer = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None,
        output_hidden_states: bool = False, output_attentions: bool = False,
    ) -> BaseModelOutput:
        all_hidden_states = [hidden_states]
        all_attentions = []
        for block in self.layer:
            hidden_states, attention = block(hidden_states, attention_mask)  # (batch, tokens, dim), (batch, heads, query, key)
            if output_hidden_states:
                all_hidden_states.append(hidden_states)
            if output_attentions:
                all_attentions.append(attention)
        return BaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
        )


class DistilBertModel(nn.Module):
    """The base model: from token ids to one vector for each token, computed from its whole sentence.

    input_ids       (batch, tokens)   integers below vocab_size
    attention_mask  (batch, tokens)   1 for a token, 0 for padding; None means all ones
    token_type_ids  accepted and ignored: BERT's tokenizers return them, but DistilBERT has no embedding for them
    return          BaseModelOutput

    Raises TypeError or ValueError, in one sentence, for input that does not fit; see check_inputs.
    There is no pooler. BERT trained one to predict which sentence follows which; DistilBERT does not have that task.
    A model made from a config alone is in training mode and has PyTorch's own random weights, not BERT's N(0, 0.02).
    `from_pretrained` fills it.
    """

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.transformer = Transformer(config)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False, output_attentions: bool = False,
    ) -> BaseModelOutput:
        check_inputs(input_ids, attention_mask, self.config)
        embeddings = self.embeddings(input_ids)     # (batch, tokens, dim)
        output: BaseModelOutput = self.transformer(embeddings, attention_mask, output_hidden_states, output_attentions)
        return output


class DistilBertForSequenceClassification(nn.Module):
    """The base model with a head that turns the first token's vector into one score per label.

    input_ids, attention_mask, token_type_ids   as in DistilBertModel
    labels   (batch)   integers, the right class of each sentence, or None; -100 leaves a sentence out of the loss
    return   SequenceClassifierOutput; loss is the mean cross-entropy, NaN where every sentence was left out

    The first token is [CLS], the same in every sentence. It means nothing itself, so its vector can gather what the
    sentence means. Softmax turns the logits into probabilities; training needs the logits alone.
    Devlin et al. 2018, section 4.1. BERT has its pooler where pre_classifier is here.
    """

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.config = config
        self.distilbert = DistilBertModel(config)
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, config.num_labels)
        self.dropout = nn.Dropout(config.seq_classif_dropout)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None,
        labels: Tensor | None = None, output_hidden_states: bool = False, output_attentions: bool = False,
    ) -> SequenceClassifierOutput:
        if labels is not None:
            check_labels(labels, len(input_ids), self.config)
        base = self.distilbert(input_ids, attention_mask, token_type_ids, output_hidden_states, output_attentions)
        first = base.last_hidden_state[:, 0]    # (batch, dim)  the vector of [CLS]
        pooled = self.pre_classifier(first)     # (batch, dim)
        pooled = F.relu(pooled)                 # (batch, dim)
        pooled = self.dropout(pooled)           # (batch, dim)
        logits = self.classifier(pooled)        # (batch, labels)

        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits, labels.long())   # ()  mean of -log(probability of the right label)
        return SequenceClassifierOutput(logits, loss, base.hidden_states, base.attentions)


def check_inputs(input_ids: Tensor, attention_mask: Tensor | None, config: DistilBertConfig) -> None:
    """Checks a batch before anything is computed, and says in one sentence what is wrong with it.

    Raises TypeError for what is not a tensor of integers, ValueError for a wrong shape or value.
    """
    _check_integers("input_ids", input_ids, "(batch, tokens)")
    batch, tokens = input_ids.shape
    if batch == 0 or tokens == 0:
        raise ValueError(f"input_ids has shape {(batch, tokens)}; expected at least one sentence of at least one token.")
    if tokens > config.max_position_embeddings:
        raise ValueError(
            f"input_ids has {tokens} tokens; this model has {config.max_position_embeddings} positions. "
            "Pass truncation=True to the tokenizer, or split the text."
        )
    _check_range("input_ids", input_ids, config.vocab_size, "Use the tokenizer of the same checkpoint.")
    if attention_mask is not None:
        _check_integers("attention_mask", attention_mask, "(batch, tokens)", torch.uint8, torch.int8, torch.bool)
        if attention_mask.shape != input_ids.shape:
            raise ValueError(f"attention_mask has shape {tuple(attention_mask.shape)}; expected {(batch, tokens)} like input_ids.")
        _check_range("attention_mask", attention_mask, 2, "Give 1 for a token and 0 for padding.")
        if not attention_mask.any(dim=1).all():
            raise ValueError("attention_mask hides every token of a sentence; expected at least one 1 in each row.")


def check_labels(labels: Tensor, batch: int, config: DistilBertConfig) -> None:
    """The same for the labels that a loss is computed from."""
    _check_integers("labels", labels, "(batch)")
    if len(labels) != batch:
        raise ValueError(f"labels has {len(labels)} entries; expected {batch}, one class for each sentence.")
    _check_range("labels", labels[labels != -100], config.num_labels, "See id2label in the model's config.")


def _check_integers(name: str, tensor: Tensor, axes: str, *also: torch.dtype) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; expected a tensor of integers with the axes {axes}.")
    if tensor.dtype not in (torch.int64, torch.int32, *also):
        raise TypeError(f"{name} has dtype {tensor.dtype}; expected integers, such as torch.int64.")
    if tensor.dim() != axes.count(",") + 1:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected the axes {axes}.")


def _check_range(name: str, tensor: Tensor, size: int, remedy: str) -> None:
    outside = tensor[(tensor < 0) | (tensor >= size)]
    if len(outside):
        raise ValueError(f"{name} holds {int(outside[0])}; this model takes 0 to {size - 1}. {remedy}")
