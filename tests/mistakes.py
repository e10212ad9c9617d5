"""Plausible mistakes, each one edit of model.py, and where each shows."""

# name: (what stands in model.py, what stands there then; and perhaps a second such pair)
MISTAKES = {
    "LayerNorm eps 1e-5": ("LAYER_NORM_EPS = 1e-12", "LAYER_NORM_EPS = 1e-5"),
    "tanh GELU": ("nn.GELU() if", 'nn.GELU("tanh") if'),
    "ReLU": ("nn.GELU() if", "nn.ReLU() if"),
    "no activation": ("hidden = self.activation(hidden)", "hidden = hidden"),
    "no scale": ("scores = scores / math.sqrt(self.head_dim)", "scores = scores"),
    "scale 1": ("scores = scores / math.sqrt(self.head_dim)", "scores = scores / 1.0"),
    "scale sqrt(dim)": ("scores / math.sqrt(self.head_dim)", "scores / math.sqrt(dim)"),
    "softmax over queries": ("F.softmax(scores, dim=-1)", "F.softmax(scores, dim=-2)"),
    "softmax over heads": ("F.softmax(scores, dim=-1)", "F.softmax(scores, dim=1)"),
    "mask ignored": ("if attention_mask is not None:\n            # Padding", "if False:\n            # Padding"),
    "mask computed, not applied": ("scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)", "scores = scores"),
    "mask multiplied": (
        "scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)",
        "scores = scores * attention_mask[:, None, None, :]",
    ),
    "mask added as 0 and 1": (
        "scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)",
        "scores = scores + attention_mask[:, None, None, :]",
    ),
    "mask on the query axis": ("attention_mask[:, None, None, :] == 0", "attention_mask[:, None, :, None] == 0"),
    "mask inverted": ("attention_mask[:, None, None, :] == 0", "attention_mask[:, None, None, :] == 1"),
    "view instead of transpose, queries": (
        "queries = queries.view(per_head).transpose(1, 2)",
        "queries = queries.view(batch, self.n_heads, tokens, self.head_dim)",
    ),
    "view instead of transpose, values": (
        "values = values.view(per_head).transpose(1, 2)",
        "values = values.view(batch, self.n_heads, tokens, self.head_dim)",
    ),
    "merge without transpose": ("context = context.transpose(1, 2) ", "context = context "),
    "q and k swapped": ("queries = self.q_lin(", "queries = self.k_lin(", "keys = self.k_lin(", "keys = self.q_lin("),
    "k and v swapped": ("keys = self.k_lin(", "keys = self.v_lin(", "values = self.v_lin(", "values = self.k_lin("),
    "keys from q_lin": ("keys = self.k_lin(", "keys = self.q_lin("),
    "attention weights on keys": ("context = attention @ values", "context = attention @ keys"),
    "scores transposed": ("scores = queries @ keys.transpose(2, 3)", "scores = keys @ queries.transpose(2, 3)"),
    "output bias dropped": ("output = self.out_lin(context)", "output = F.linear(context, self.out_lin.weight)"),
    "value bias dropped": ("values = self.v_lin(hidden_states)", "values = F.linear(hidden_states, self.v_lin.weight)"),
    "q weight untransposed": (
        "queries = self.q_lin(hidden_states)",
        "queries = hidden_states @ self.q_lin.weight + self.q_lin.bias",
    ),
    "no out_lin": ("output = self.out_lin(context)", "output = context"),
    "attention hands back context": (
        "return output, attention\n\n\nclass FeedForward",
        "return context, attention\n\n\nclass FeedForward",
    ),
    "LayerNorms swapped 1": ("attended = self.sa_layer_norm(", "attended = self.output_layer_norm("),
    "LayerNorms swapped 2": ("output = self.output_layer_norm(", "output = self.sa_layer_norm("),
    "layers reversed": ("for block in self.layer:", "for block in reversed(self.layer):"),
    "one layer too few": ("for block in self.layer:", "for block in self.layer[:-1]:"),
    "pre-LN": (
        "self.attention(hidden_states, attention_mask)  #",
        "self.attention(self.sa_layer_norm(hidden_states), attention_mask)  #",
    ),
    "mask not passed to attention": ("self.attention(hidden_states, attention_mask)  #", "self.attention(hidden_states)  #"),
    "mask not passed to blocks": ("block(hidden_states, attention_mask)", "block(hidden_states)"),
    "no attention residual": ("self.sa_layer_norm(hidden_states + gathered)", "self.sa_layer_norm(gathered)"),
    "no FFN residual": ("self.output_layer_norm(attended + transformed)", "self.output_layer_norm(transformed)"),
    "FFN residual from the block's input": (
        "self.output_layer_norm(attended + transformed)",
        "self.output_layer_norm(hidden_states + transformed)",
    ),
    "FFN reads the block's input": ("self.ffn(attended)", "self.ffn(hidden_states)"),
    "positions off by one": ("torch.arange(input_ids.shape[1], device", "torch.arange(1, 1 + input_ids.shape[1], device"),
    "no positions": ("embeddings: Tensor = words + places ", "embeddings: Tensor = words "),
    "positions subtracted": ("words + places", "words - places"),
    "no embedding LayerNorm": ("embeddings = self.LayerNorm(embeddings) ", "embeddings = embeddings "),
    "LayerNorm unbiased": (
        "embeddings = self.LayerNorm(embeddings) ",
        "embeddings = (embeddings - embeddings.mean(-1, True)) / embeddings.std(-1, keepdim=True) * self.LayerNorm.weight ",
    ),
    "dropout left on": ("attention = self.dropout(attention)", "attention = F.dropout(attention, 0.1)"),
    "last token": ("base.last_hidden_state[:, 0]", "base.last_hidden_state[:, -1]"),
    "mean pooling": ("base.last_hidden_state[:, 0]", "base.last_hidden_state.mean(1)"),
    "tanh in the head": ("pooled = F.relu(pooled)", "pooled = torch.tanh(pooled)"),
    "no relu in the head": ("pooled = F.relu(pooled) ", "pooled = pooled "),
    "no pre_classifier": ("pooled = self.pre_classifier(first)", "pooled = first"),
    "embeddings handed back": (
        "last_hidden_state=hidden_states,\n            hidden",
        "last_hidden_state=all_hidden_states[0],\n            hidden",
    ),
    "dropout on hidden in ffn": ("output = self.dropout(output)           #", "output = F.dropout(output, 0.1)           #"),
}

# A mistake shows at its own line or at its neighbour, but for these: a constant shows where it is used, and what is left out
# where it is missed. The beginning of that line:
SHOWS_AT = {
    "LayerNorm eps 1e-5": "embeddings = self.LayerNorm(",
    "tanh GELU": "hidden = self.activation(",
    "ReLU": "hidden = self.activation(",
    "no scale": "scores = scores.masked_fill(",
    "mask ignored": "attention = F.softmax(",
}
