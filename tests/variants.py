"""The same mathematics in other words: what a good student or another library might write."""

import math

from minibert.model import FeedForward, MultiHeadSelfAttention

import torch
import torch.nn.functional as F
from torch import nn


class EinsumAttention(MultiHeadSelfAttention):
    """No transposes, and a mask that is added."""

    def forward(self, x, attention_mask=None):
        batch, tokens, dim = x.shape
        q, k, v = (layer(x).view(batch, tokens, self.n_heads, self.head_dim) for layer in (self.q_lin, self.k_lin, self.v_lin))
        scores = torch.einsum("bqhd,bkhd->bhqk", q / math.sqrt(self.head_dim), k)
        if attention_mask is not None:
            scores = scores + (1.0 - attention_mask[:, None, None, :].to(scores.dtype)) * -10000.0
        attention = self.dropout(scores.softmax(-1))
        attn_output = torch.einsum("bhqk,bkhd->bqhd", attention, v)
        return self.out_lin(attn_output.reshape(batch, tokens, dim)), attention


class AttentionPerHead(MultiHeadSelfAttention):
    """One head after the other."""

    def forward(self, x, attention_mask=None):
        queries, keys, values = self.q_lin(x), self.k_lin(x), self.v_lin(x)
        attn_output, maps = [], []
        for head in range(self.n_heads):
            part = slice(head * self.head_dim, (head + 1) * self.head_dim)
            scores = queries[..., part] @ keys[..., part].transpose(1, 2) / self.head_dim**0.5
            if attention_mask is not None:
                scores = scores.masked_fill(attention_mask[:, None, :] == 0, float("-inf"))
            maps.append(self.dropout(torch.softmax(scores, -1)))
            attn_output.append(maps[-1] @ values[..., part])
        return self.out_lin(torch.cat(attn_output, -1)), torch.stack(maps, 1)


class FusedAttention(MultiHeadSelfAttention):
    """PyTorch's own kernel, which hands no attention map out."""

    def forward(self, x, attention_mask=None):
        shape = (*x.shape[:2], self.n_heads, self.head_dim)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q_lin, self.k_lin, self.v_lin))
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        p = self.dropout.p if self.training else 0.0
        attn_output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        return self.out_lin(attn_output.transpose(1, 2).reshape(x.shape)), None


class FeedForwardByHand(FeedForward):
    """GELU from its definition, products written out."""

    def forward(self, x):
        hidden = x @ self.lin1.weight.T + self.lin1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return self.dropout(hidden @ self.lin2.weight.T + self.lin2.bias)


class AdapterFeedForward(FeedForward):
    """Eight numbers wide, behind the feed-forward layer; nothing until it is trained (Houlsby et al. 2019, arXiv 1902.00751)."""

    def __init__(self, config):
        super().__init__(config)
        self.down, self.up = nn.Linear(config.dim, 8), nn.Linear(8, config.dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        output = super().forward(x)
        return output + self.up(F.gelu(self.down(output)))


VARIANTS: dict[str, tuple[str, type[nn.Module]]] = {
    "einsum": ("MultiHeadSelfAttention", EinsumAttention),
    "one head after the other": ("MultiHeadSelfAttention", AttentionPerHead),
    "fused": ("MultiHeadSelfAttention", FusedAttention),
    "feed-forward by hand": ("FeedForward", FeedForwardByHand),
    "adapter": ("FeedForward", AdapterFeedForward),
}
