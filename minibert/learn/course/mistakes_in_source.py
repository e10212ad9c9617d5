"""Plausible mistakes, each with its name: what it is, and how to see it.

    Mistake("no scale", "...", ("scores = scores / math.sqrt(self.head_dim)", "scores = scores"))

Each is a small change of the real source. An exercise knows the mistakes that lie in its gap; a check compares a student's
numbers with the numbers of each. Those of functions that have no lines here are in mistakes_in_stubs.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """A mistake that somebody could make.

    name        a few words
    sentence    what it is and how to see it
    edit        what stands in the source, once, and what stands there then; perhaps a second such pair, and a third
    module      whose source
    exercise    instead of an edit: the exercise in whose gap `body` stands
    body        lines for the gap
    invisible   why no number shows it, else ""
    """

    name: str
    sentence: str
    edit: tuple[str, ...] = ()
    module: str = "minibert.model"
    exercise: str = ""
    body: str = ""
    invisible: str = ""

    def planted(self, text: str) -> str:
        """A source with the mistake in it. Raises LookupError where it is not there to be made."""
        for old, new in zip(self.edit[::2], self.edit[1::2], strict=True):
            if text.count(old) != 1:
                raise LookupError(f"mistake {self.name!r}: {old!r} stands {text.count(old)} times in the source; expected it once.")
            text = text.replace(old, new)
        return text


MASKED_FILL = "scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)"

MISTAKES = (
    # Embeddings
    Mistake(
        "positions off by one",
        "The first token got position 1. Positions are counted from 0, as indices are; the first row of the table is never used.",
        ("torch.arange(input_ids.shape[1], device", "torch.arange(1, 1 + input_ids.shape[1], device"),
    ),
    Mistake(
        "no positions",
        "The word vectors alone say nothing of order. Shuffle the words of a sentence: the vectors are only shuffled with them.",
        ("embeddings = word_vectors + position_vectors ", "embeddings = word_vectors "),
    ),
    Mistake(
        "positions subtracted",
        "The position vectors were learnt to be added. Subtracted, they say something that no later layer has been taught.",
        ("word_vectors + position_vectors", "word_vectors - position_vectors"),
    ),
    Mistake(
        "word vectors scaled",
        "The Transformer of 2017 multiplies word vectors by sqrt(dim) before it adds positions; BERT and DistilBERT do not.",
        ("word_vectors + position_vectors", "word_vectors * word_vectors.shape[2] ** 0.5 + position_vectors"),
    ),
    Mistake(
        "no embedding LayerNorm",
        "BERT normalises the sum of word and position before the first block. Without it a row has neither mean 0 nor variance 1.",
        ("embeddings = self.LayerNorm(embeddings) ", "embeddings = embeddings "),
    ),
    Mistake(
        "LayerNorm eps 1e-5",
        "1e-5 is PyTorch's default and not BERT's value. Where the variance is small, the result is off in the fourth decimal.",
        ("LAYER_NORM_EPS = 1e-12", "LAYER_NORM_EPS = 1e-5"),
    ),
    # Attention: queries, keys, values
    Mistake(
        "k and v swapped",
        "Keys were made by v_lin and values by k_lin. A key is what a token is found by, a value what it hands over.",
        ("keys = self.k_lin(", "keys = self.v_lin(", "values = self.v_lin(", "values = self.k_lin("),
    ),
    Mistake(
        "keys from q_lin",
        "Queries and keys were both made by q_lin. The scores are then symmetric: two tokens look at each other alike.",
        ("keys = self.k_lin(", "keys = self.q_lin("),
    ),
    Mistake(
        "value bias dropped",
        "The values lack the bias of v_lin. Since weights sum to 1, every output is off by one and the same vector.",
        ("values = self.v_lin(hidden_states)", "values = F.linear(hidden_states, self.v_lin.weight)"),
    ),
    Mistake(
        "query bias dropped",
        "The queries lack the bias of q_lin. It says which keys are looked for whatever the token is.",
        ("queries = self.q_lin(hidden_states)", "queries = F.linear(hidden_states, self.q_lin.weight)"),
    ),
    Mistake(
        "key bias dropped",
        "The keys lack the bias of k_lin, and k_lin.bias never receives a gradient.",
        ("keys = self.k_lin(hidden_states)", "keys = F.linear(hidden_states, self.k_lin.weight)"),
        invisible="it adds query · bias to each score of that query's row, one number to all of them, and softmax takes no notice "
        "of that. The puzzle `silent-bias` is about it.",
    ),
    Mistake(
        "q weight untransposed",
        "nn.Linear computes x @ weight.T + bias: its weight is (out, in). Square as it is here, it fits the wrong way round too.",
        ("queries = self.q_lin(hidden_states)", "queries = hidden_states @ self.q_lin.weight + self.q_lin.bias"),
    ),
    Mistake(
        "queries without gradient",
        "The queries were detached: the numbers stay right, but q_lin can no longer learn.",
        ("queries = self.q_lin(hidden_states)", "queries = self.q_lin(hidden_states).detach()"),
    ),
    # Attention: heads
    Mistake(
        "everything viewed straight into heads",
        "A view never moves a number. Straight to (batch, heads, tokens, head_dim) it puts pieces of several tokens into one head: "
        "view to (batch, tokens, heads, head_dim) first, then transpose.",
        (
            "queries = queries.view(per_head).transpose(1, 2)",
            "queries = queries.view(batch, self.n_heads, tokens, self.head_dim)",
            "keys = keys.view(per_head).transpose(1, 2)",
            "keys = keys.view(batch, self.n_heads, tokens, self.head_dim)",
            "values = values.view(per_head).transpose(1, 2)",
            "values = values.view(batch, self.n_heads, tokens, self.head_dim)",
        ),
    ),
    Mistake(
        "queries viewed straight into heads",
        "Of the three, the queries alone were viewed straight to (batch, heads, tokens, head_dim), which mixes tokens.",
        ("queries = queries.view(per_head).transpose(1, 2)", "queries = queries.view(batch, self.n_heads, tokens, self.head_dim)"),
    ),
    Mistake(
        "values viewed straight into heads",
        "Of the three, the values alone were viewed straight to (batch, heads, tokens, head_dim), which mixes tokens.",
        ("values = values.view(per_head).transpose(1, 2)", "values = values.view(batch, self.n_heads, tokens, self.head_dim)"),
    ),
    Mistake(
        "heads interleaved",
        "A head is head_dim numbers that stand side by side: view to (..., heads, head_dim). To (..., head_dim, heads), each head "
        "gets every n_heads-th number.",
        (
            "queries = queries.view(per_head).transpose(1, 2)",
            "queries = queries.view(batch, tokens, self.head_dim, self.n_heads).permute(0, 3, 1, 2)",
            "keys = keys.view(per_head).transpose(1, 2)",
            "keys = keys.view(batch, tokens, self.head_dim, self.n_heads).permute(0, 3, 1, 2)",
            "values = values.view(per_head).transpose(1, 2)",
            "values = values.view(batch, tokens, self.head_dim, self.n_heads).permute(0, 3, 1, 2)",
        ),
    ),
    # Attention: scores
    Mistake(
        "no scale",
        "The scores were not divided by sqrt(head_dim). They are dot products of head_dim terms: the wider a head, the larger "
        "they are, until softmax sees one winner alone.",
        ("scores = scores / math.sqrt(self.head_dim)", "scores = scores"),
    ),
    Mistake(
        "scale sqrt(dim)",
        "The scores were divided by sqrt(dim). A dot product here has head_dim terms, since each head sees its own part alone.",
        ("scores / math.sqrt(self.head_dim)", "scores / math.sqrt(dim)"),
    ),
    Mistake(
        "scale without root",
        "The scores were divided by head_dim. The spread of a sum of head_dim terms grows like the root of their number.",
        ("scores / math.sqrt(self.head_dim)", "scores / self.head_dim"),
    ),
    Mistake(
        "scale multiplied",
        "The scores were multiplied by sqrt(head_dim), where they are to be divided by it.",
        ("scores / math.sqrt(self.head_dim)", "scores * math.sqrt(self.head_dim)"),
    ),
    Mistake(
        "scores transposed",
        "Rows are keys and columns are queries: it is keys @ queries^T, or q_lin and k_lin were exchanged, which is the same. "
        "There are as many of both, so no shape tells.",
        ("scores = queries @ keys.transpose(2, 3)", "scores = keys @ queries.transpose(2, 3)"),
    ),
    # Attention: mask
    Mistake(
        "mask ignored",
        "Padding is looked at as if it were words. On a sentence without padding nothing shows: always try a padded batch.",
        ("if attention_mask is not None:\n            # Padding", "if False:\n            # Padding"),
    ),
    Mistake(
        "mask multiplied",
        "Scores of padding became 0, and 0 is a score like any other: exp(0) is 1. They have to become as low as can be.",
        (MASKED_FILL, "scores = scores * attention_mask[:, None, None, :]"),
    ),
    Mistake(
        "mask added as 0 and 1",
        "The mask was added as it is: it makes real tokens a little likelier, by a factor of e, and hides nothing.",
        (MASKED_FILL, "scores = scores + attention_mask[:, None, None, :]"),
    ),
    Mistake(
        "mask on the query axis",
        "Rows of padding were masked, where its columns should be: hidden is whom one looks at (key), not who looks (query).",
        ("attention_mask[:, None, None, :] == 0", "attention_mask[:, None, :, None] == 0"),
    ),
    Mistake(
        "mask inverted",
        "The real tokens were hidden and padding was kept: 1 marks a token, 0 marks padding.",
        ("attention_mask[:, None, None, :] == 0", "attention_mask[:, None, None, :] == 1"),
    ),
    Mistake(
        "mask of the first sentence",
        "One row of the mask was used for all sentences. Each has padding of its own, so the mask keeps its batch axis.",
        ("attention_mask[:, None, None, :] == 0", "attention_mask[:1, None, None, :] == 0"),
    ),
    Mistake(
        "mask too mild",
        "Masked scores are only 10 lower: padding still gets a weight of about exp(-10), and the numbers depend on it.",
        (MASKED_FILL, "scores = scores - 10.0 * padding"),
    ),
    Mistake(
        "mask of -10000",
        "-10000 was added at padding, as BERT's first code did, where model.py sets the lowest finite number.",
        (MASKED_FILL, "scores = scores - 10000.0 * padding"),
        invisible="beside scores of ordinary size exp(-10000) is 0 in every floating-point type. The puzzle `mild-mask` asks for "
        "scores that tell them apart.",
    ),
    Mistake(
        "mask after softmax",
        "The mask was applied to the weights, after softmax: the rows of padded sentences no longer sum to 1.",
        (
            MASKED_FILL, "scores = scores",
            "attention = F.softmax(scores, dim=-1)",
            "attention = F.softmax(scores, dim=-1) * (1.0 if attention_mask is None else attention_mask[:, None, None, :])",
        ),
    ),
    # Attention: weights and sum
    Mistake(
        "softmax over queries",
        "Columns sum to 1 where rows should: softmax went over dim=-2. Each query shares out its own attention among the keys.",
        ("F.softmax(scores, dim=-1)", "F.softmax(scores, dim=-2)"),
    ),
    Mistake(
        "softmax over heads",
        "Softmax went over dim=1, and so heads compete for each pair of tokens. Each head has an attention of its own.",
        ("F.softmax(scores, dim=-1)", "F.softmax(scores, dim=1)"),
    ),
    Mistake(
        "no softmax",
        "The scores themselves were used as weights. Rows of weights sum to 1 and none is negative: sum a row to see it.",
        ("attention = F.softmax(scores, dim=-1)", "attention = scores"),
    ),
    Mistake(
        "attention dropout left on",
        "Weights were dropped outside training: F.dropout and nn.Dropout() drop until they are told that training is over.",
        ("attention = self.dropout(attention)", "attention = F.dropout(attention, 0.1)"),
    ),
    Mistake(
        "attention dropout forgotten",
        "self.dropout was not applied to the weights. Outside training it does nothing, so only training shows it.",
        ("attention = self.dropout(attention)", "attention = attention"),
    ),
    Mistake(
        "weights on keys",
        "The sum was made of keys. Keys say who is found; what is handed over are the values.",
        ("context = attention @ values", "context = attention @ keys"),
    ),
    Mistake(
        "weights transposed",
        "Each value was weighted by how much its own token looks at the others: attention @ values, without a transpose.",
        ("context = attention @ values", "context = attention.transpose(2, 3) @ values"),
    ),
    # Attention: merging
    Mistake(
        "merged without transpose",
        "Heads were joined before tokens were brought back to the front. All numbers are there, at the wrong tokens.",
        ("context = context.transpose(1, 2) ", "context = context "),
    ),
    Mistake(
        "heads merged interleaved",
        "The numbers of the heads alternate, where each head's head_dim numbers should stand side by side.",
        ("context = context.transpose(1, 2) ", "context = context.permute(0, 2, 3, 1) "),
    ),
    Mistake(
        "output bias dropped",
        "The output lacks the bias of out_lin: it is off by one and the same vector at every token.",
        ("output = self.out_lin(context)", "output = F.linear(context, self.out_lin.weight)"),
    ),
    Mistake(
        "no out_lin",
        "What the heads found was handed on without out_lin, which mixes it: each part of dim then comes from one head alone.",
        ("output = self.out_lin(context)", "output = context"),
    ),
    # Feed-forward
    Mistake(
        "tanh GELU",
        "This is the tanh approximation of GELU, which GPT-2 has. BERT has the exact one; they differ by up to 5e-4.",
        ("nn.GELU() if", 'nn.GELU("tanh") if'),
    ),
    Mistake(
        "tanh GELU in the layer",
        "This is the tanh approximation of GELU. self.activation is what the checkpoint was trained with: the exact one.",
        ("hidden = self.activation(hidden)", 'hidden = F.gelu(hidden, approximate="tanh")'),
    ),
    Mistake(
        "ReLU for GELU",
        "The activation is ReLU. GELU lets small negative numbers through a little; ReLU makes all of them 0.",
        ("nn.GELU() if", "nn.ReLU() if"),
    ),
    Mistake(
        "ReLU in the layer",
        "The activation is ReLU, which the Transformer of 2017 had; BERT took GELU. self.activation is the right one.",
        ("hidden = self.activation(hidden)", "hidden = F.relu(hidden)"),
    ),
    Mistake(
        "no activation",
        "Nothing stands between lin1 and lin2, and two linear layers in a row are no more than one.",
        ("hidden = self.activation(hidden)", "hidden = hidden"),
    ),
    Mistake(
        "activation after lin2",
        "The activation came after lin2. It belongs where the layer is wide, between lin1 and lin2.",
        ("hidden = self.activation(hidden)", "hidden = hidden", "self.lin2(hidden)", "self.activation(self.lin2(hidden))"),
    ),
    Mistake(
        "feed-forward dropout left on",
        "Numbers were dropped outside training: F.dropout drops until it is told that training is over.",
        ("output = self.dropout(output)           #", "output = F.dropout(output, 0.1)           #"),
    ),
    Mistake(
        "feed-forward dropout forgotten",
        "self.dropout was not applied to the output. Outside training it does nothing, so only training shows it.",
        ("output = self.dropout(output)           #", "output = output           #"),
    ),
    Mistake(
        "residual inside the feed-forward",
        "The input was added back here. TransformerBlock does that, so it would be added twice.",
        ("output = self.lin2(hidden)", "output = hidden_states + self.lin2(hidden)"),
    ),
    # The block
    Mistake(
        "mask not passed to attention",
        "The block did not hand the mask on, so attention looks at padding. Without padding nothing shows.",
        ("self.attention(hidden_states, attention_mask)  #", "self.attention(hidden_states)  #"),
    ),
    Mistake(
        "no attention residual",
        "What attention gathered replaced the token's vector, where it should be added to it.",
        ("self.sa_layer_norm(hidden_states + attn_output)", "self.sa_layer_norm(attn_output)"),
    ),
    Mistake(
        "no FFN residual",
        "What the feed-forward layer made replaced its input, where it should be added to it.",
        ("self.output_layer_norm(sa_output + ffn_output)", "self.output_layer_norm(ffn_output)"),
    ),
    Mistake(
        "FFN residual from the block's input",
        "The second residual came from the block's input, and so what attention gathered is lost. Add what the feed-forward "
        "layer read.",
        ("self.output_layer_norm(sa_output + ffn_output)", "self.output_layer_norm(hidden_states + ffn_output)"),
    ),
    Mistake(
        "FFN reads the block's input",
        "The feed-forward layer read the block's input, where it should read what attention and the first LayerNorm made.",
        ("self.ffn(sa_output)", "self.ffn(hidden_states)"),
    ),
    Mistake(
        "second LayerNorm used twice",
        "Both sums were normalised by output_layer_norm; after attention it is sa_layer_norm, with weights of its own.",
        ("sa_output = self.sa_layer_norm(", "sa_output = self.output_layer_norm("),
    ),
    Mistake(
        "first LayerNorm used twice",
        "Both sums were normalised by sa_layer_norm; after the feed-forward layer it is output_layer_norm.",
        ("output = self.output_layer_norm(", "output = self.sa_layer_norm("),
    ),
    Mistake(
        "LayerNorms swapped",
        "sa_layer_norm (sa: self-attention) comes after attention, output_layer_norm at the block's end.",
        (
            "self.sa_layer_norm(hidden_states + attn_output)", "self.output_layer_norm(hidden_states + attn_output)",
            "self.output_layer_norm(sa_output + ffn_output)", "self.sa_layer_norm(sa_output + ffn_output)",
        ),
    ),
    Mistake(
        "norm before the addition",
        "What attention gathered was normalised alone and then added. Post-LN normalises the sum: LayerNorm(x + sublayer(x)).",
        ("self.sa_layer_norm(hidden_states + attn_output)", "hidden_states + self.sa_layer_norm(attn_output)"),
    ),
    Mistake(
        "pre-LN",
        "Attention read a normalised input, as later models have it (pre-LN). BERT normalises after the addition (post-LN).",
        (
            "self.attention(hidden_states, attention_mask)  #",
            "self.attention(self.sa_layer_norm(hidden_states), attention_mask)  #",
        ),
    ),
    # The stack
    Mistake(
        "layers reversed",
        "The last block came first. Each was trained to read what the one before it wrote.",
        ("for block in self.layer:", "for block in reversed(self.layer):"),
    ),
    Mistake(
        "one layer too few",
        "The last block was left out.",
        ("for block in self.layer:", "for block in self.layer[:-1]:"),
    ),
    Mistake(
        "one block for all",
        "The first block was used again and again. Blocks share their form, not their weights.",
        ("for block in self.layer:", "for block in [self.layer[0]] * len(self.layer):"),
    ),
    Mistake(
        "mask not passed to blocks",
        "The blocks were not given the mask, so their attention looks at padding. Without padding nothing shows.",
        ("block(hidden_states, attention_mask)", "block(hidden_states)"),
    ),
    Mistake(
        "every block reads the embeddings",
        "Each block read the embeddings, where it should read what the block before it wrote: only the last one counts then.",
        ("attention = block(hidden_states, attention_mask)", "attention = block(all_hidden_states[0], attention_mask)"),
    ),
    Mistake(
        "embeddings handed back",
        "The last hidden state is the stack's input, as if no block had run.",
        (
            "last_hidden_state=hidden_states,\n            hidden",
            "last_hidden_state=all_hidden_states[0],\n            hidden",
        ),
    ),
    Mistake(
        "hidden states without the embeddings",
        "The hidden states are those of the blocks alone. The embeddings come first: n_layers + 1 tensors.",
        ("all_hidden_states = [hidden_states]", "all_hidden_states = []"),
    ),
    # The head
    Mistake(
        "last token",
        "The last token's vector was read; it is [SEP], or padding. The head was trained on the first, [CLS].",
        ("base.last_hidden_state[:, 0]", "base.last_hidden_state[:, -1]"),
    ),
    Mistake(
        "mean pooling",
        "The mean over all tokens was read, padding among them. The head was trained on the first token alone.",
        ("base.last_hidden_state[:, 0]", "base.last_hidden_state.mean(1)"),
    ),
    Mistake(
        "max pooling",
        "The largest number over all tokens was read, one for each dimension. The head was trained on the first token alone.",
        ("base.last_hidden_state[:, 0]", "base.last_hidden_state.amax(1)"),
    ),
    Mistake(
        "tanh in the head",
        "The activation is tanh, as in BERT's pooler. DistilBERT's head has ReLU.",
        ("pooled = F.relu(pooled)", "pooled = torch.tanh(pooled)"),
    ),
    Mistake(
        "no relu in the head",
        "Nothing stands between pre_classifier and classifier; expected ReLU there.",
        ("pooled = F.relu(pooled) ", "pooled = pooled "),
    ),
    Mistake(
        "no pre_classifier",
        "The classifier read [CLS] itself. pre_classifier comes first.",
        ("pooled = self.pre_classifier(first)", "pooled = first"),
    ),
    Mistake(
        "softmax in the head",
        "Probabilities were handed out as logits. The loss takes a softmax of its own: the second one flattens everything.",
        ("logits = self.classifier(pooled)", "logits = self.classifier(pooled).softmax(-1)"),
    ),
    Mistake(
        "head dropout forgotten",
        "self.dropout was not applied before the classifier. Outside training it does nothing, so only training shows it.",
        ("pooled = self.dropout(pooled)", "pooled = pooled"),
    ),
    # Folding a BERT
    Mistake(
        "type of the second sentence",
        "Row 1 of the token types was added. Row 0 is the first sentence's, and single sentences are first sentences.",
        ('tensors.pop("embeddings.token_type_embeddings.weight")[0]', 'tensors.pop("embeddings.token_type_embeddings.weight")[1]'),
        module="minibert.bert",
    ),
    Mistake(
        "token types thrown away",
        "The token types were removed and added to nothing. BERT adds row 0 to every token: the sum lacks it.",
        ("= positions + first_sentence ", "= positions "),
        module="minibert.bert",
    ),
    Mistake(
        "both token types folded in",
        "Both rows of token types were added to each position. A token is of one sentence, and has one type.",
        (
            'tensors.pop("embeddings.token_type_embeddings.weight")[0]',
            'tensors.pop("embeddings.token_type_embeddings.weight").sum(0)',
        ),
        module="minibert.bert",
    ),
    # Dropout: what is dropped, how often and at which rate
    Mistake(
        "attention dropout before softmax",
        "Scores were dropped, and softmax came after. A score of 0 is a score like any other: no weight becomes 0 by it.",
        (
            "attention = F.softmax(scores, dim=-1)", "attention = F.softmax(self.dropout(scores), dim=-1)",
            "attention = self.dropout(attention)", "attention = attention",
        ),
    ),
    Mistake(
        "attention dropout twice",
        "self.dropout was applied to the weights twice: each is dropped with a probability of 1 - (1 - p)^2, almost 2 p.",
        ("attention = self.dropout(attention)", "attention = self.dropout(self.dropout(attention))"),
    ),
    Mistake(
        "attention dropout of 0.5",
        "Weights were dropped with p = 0.5, PyTorch's default. self.dropout has the config's p.",
        ("attention = self.dropout(attention)", "attention = F.dropout(attention, 0.5, self.training)"),
    ),
    Mistake(
        "values dropped",
        "Numbers of the values were dropped, where weights should be. A query then loses a part of each token, not whole tokens.",
        (
            "attention = self.dropout(attention)", "attention = attention",
            "context = attention @ values", "context = attention @ self.dropout(values)",
        ),
    ),
    Mistake(
        "context dropped",
        "What was gathered was dropped, where the weights should be, before the sum.",
        (
            "attention = self.dropout(attention)", "attention = attention",
            "context = attention @ values", "context = self.dropout(attention @ values)",
        ),
    ),
    Mistake(
        "dropped weights not used",
        "Dropout made new weights, which were handed out, and the sum was taken with the weights as they were before.",
        (
            "attention = self.dropout(attention)", "undropped, attention = attention, self.dropout(attention)",
            "context = attention @ values", "context = undropped @ values",
        ),
    ),
    Mistake(
        "dropout on what attention gathered",
        "BERT drops what attention gathered, before it is added. DistilBERT has no dropout there.",
        (
            "self.sa_layer_norm(hidden_states + attn_output)",
            "self.sa_layer_norm(hidden_states + F.dropout(attn_output, 0.1, self.training))",
        ),
    ),
    Mistake(
        "feed-forward dropout between the layers",
        "self.dropout came between lin1 and lin2, as in the Transformer of 2017. DistilBERT has it at the end, behind lin2.",
        (
            "output = self.lin2(hidden)", "output = self.lin2(self.dropout(hidden))",
            "output = self.dropout(output)           #", "output = output           #",
        ),
    ),
    Mistake(
        "feed-forward dropout in two places",
        "self.dropout came between lin1 and lin2 and at the end. DistilBERT has it at the end alone.",
        ("output = self.lin2(hidden)", "output = self.lin2(self.dropout(hidden))"),
    ),
    Mistake(
        "feed-forward dropout twice",
        "self.dropout was applied to the output twice: each number is dropped with a probability of 1 - (1 - p)^2, almost 2 p.",
        ("output = self.dropout(output)           #", "output = self.dropout(self.dropout(output))           #"),
    ),
    Mistake(
        "feed-forward dropout of 0.5",
        "The output was dropped with p = 0.5, PyTorch's default. self.dropout has the config's p.",
        ("output = self.dropout(output)           #", "output = F.dropout(output, 0.5, self.training)           #"),
    ),
    Mistake(
        "head dropout on the first vector",
        "The vector of [CLS] was dropped, before pre_classifier. self.dropout comes after the ReLU.",
        (
            "pooled = self.pre_classifier(first)", "pooled = self.pre_classifier(self.dropout(first))",
            "pooled = self.dropout(pooled)", "pooled = pooled",
        ),
    ),
    Mistake(
        "head dropout on the logits",
        "Logits were dropped: then a label is not to be told from another. self.dropout comes before the classifier.",
        (
            "pooled = self.dropout(pooled)", "pooled = pooled",
            "logits = self.classifier(pooled)", "logits = self.dropout(self.classifier(pooled))",
        ),
    ),
    Mistake(
        "head dropout twice",
        "self.dropout was applied twice: each number is dropped with a probability of 1 - (1 - p)^2, almost 2 p.",
        ("pooled = self.dropout(pooled)", "pooled = self.dropout(self.dropout(pooled))"),
    ),
    Mistake(
        "head dropout of 0.5",
        "Numbers were dropped with p = 0.5, PyTorch's default. self.dropout has the config's p.",
        ("pooled = self.dropout(pooled)", "pooled = F.dropout(pooled, 0.5, self.training)"),
    ),
    # The block, further: each of these may come together with one of those above
    Mistake(
        "FFN norm before the addition",
        "What the feed-forward layer made was normalised alone and then added. Post-LN normalises the sum: "
        "LayerNorm(x + sublayer(x)).",
        ("self.output_layer_norm(sa_output + ffn_output)", "sa_output + self.output_layer_norm(ffn_output)"),
    ),
    Mistake(
        "no LayerNorm after attention",
        "The sum of the token's vector and what attention gathered was not normalised; expected sa_layer_norm of it.",
        ("self.sa_layer_norm(hidden_states + attn_output)", "(hidden_states + attn_output)"),
    ),
    Mistake(
        "no LayerNorm at the block's end",
        "The block's last sum was not normalised; expected output_layer_norm of it.",
        ("self.output_layer_norm(sa_output + ffn_output)", "(sa_output + ffn_output)"),
    ),
    Mistake(
        "pre-LN in the feed-forward half",
        "The feed-forward layer read a normalised input and the sums stayed as they were, as later models have it (pre-LN). BERT "
        "normalises after each addition (post-LN).",
        (
            "self.sa_layer_norm(hidden_states + attn_output)", "(hidden_states + attn_output)",
            "self.ffn(sa_output)", "self.ffn(self.output_layer_norm(sa_output))",
            "self.output_layer_norm(sa_output + ffn_output)", "(sa_output + ffn_output)",
        ),
    ),
    Mistake(
        "mask filled with float32's lowest",
        "The lowest number was taken from float32 and not from the type of the scores. The numbers are the same, until somebody "
        "loads the model in float16 or bfloat16: there PyTorch refuses a fill value that the type does not have.",
        ("torch.finfo(scores.dtype).min)", "torch.finfo(torch.float32).min)"),
        invisible="a check computes in float64, where both are far below every score and get a weight of exactly 0.",
    ),
)

# Shown by no number in float64 or float32: the tests of half precision have to see them. No exercise knows them, since for a
# check, which computes in float64, they are right.
SEEN_IN_HALF = (
    Mistake(
        "softmax in three rounded steps",
        "F.softmax computes in float32 within and rounds once. exp, sum and division round three times in half precision.",
        (
            "attention = F.softmax(scores, dim=-1) ",
            "attention = (scores - scores.amax(-1, True)).exp(); attention = attention / attention.sum(-1, True) ",
        ),
    ),
    Mistake(
        "mask filled with -1e9",
        "Float16 ends at 65504: PyTorch refuses -1e9 as a fill value there. The lowest number of the scores' own type always fits.",
        ("torch.finfo(scores.dtype).min)", "-1e9)"),
    ),
    Mistake(
        "LayerNorm in rounded steps",
        "nn.LayerNorm computes in float32 within and rounds once. Mean, variance, root and division each round in half precision.",
        (
            "embeddings = self.LayerNorm(embeddings) ",
            "embeddings = self.LayerNorm.weight * (embeddings - embeddings.mean(-1, True)) / (embeddings.var(-1, unbiased=False, "
            "keepdim=True) + LAYER_NORM_EPS).sqrt() + self.LayerNorm.bias ",
        ),
    ),
    Mistake(
        "GELU in rounded steps",
        "F.gelu computes in float32 within and rounds once. Division, erf, sum and products each round in half precision.",
        ("hidden = self.activation(hidden)", "hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))"),
    ),
    Mistake(
        "loss from rounded probabilities",
        "F.cross_entropy takes the logarithm before it rounds. Softmax rounds a small probability, perhaps to 0, and the logarithm "
        "of that is far off.",
        ("loss = F.cross_entropy(logits, labels.long())", "loss = F.nll_loss(logits.softmax(-1).log(), labels.long())"),
    ),
)
