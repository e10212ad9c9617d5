"""The known mistakes that the comparison has to find at their line, further ones of the kind, and where each shows."""

import minibert.model
from minibert.learn.course.mistakes_in_source import MASKED_FILL
from minibert.learn.course.mistakes_in_source import MISTAKES as KNOWN

# These make numbers that another one of the list makes too; an exercise could not tell them apart, a line can.
FURTHER = {
    "scale 1": ("scores = scores / math.sqrt(self.head_dim)", "scores = scores / 1.0"),
    "mask computed, not applied": (MASKED_FILL, "scores = scores"),
    "q and k swapped": ("queries = self.q_lin(", "queries = self.k_lin(", "keys = self.k_lin(", "keys = self.q_lin("),
    "attention hands back context": ("found\n        return output, attention", "found\n        return context, attention"),
    "LayerNorm unbiased": (
        "embeddings = self.LayerNorm(embeddings) ",
        "embeddings = (embeddings - embeddings.mean(-1, True)) / embeddings.std(-1, keepdim=True) * self.LayerNorm.weight ",
    ),
}

# Of these the forward pass makes the right numbers: gradients show them, or training, or nothing does.
RIGHT_NUMBERS = {
    "key bias dropped", "queries without gradient", "mask of -10000", "mask filled with float32's lowest",
    "attention dropout forgotten",
    "feed-forward dropout forgotten", "head dropout forgotten",
    "attention dropout before softmax", "attention dropout twice", "attention dropout of 0.5", "values dropped", "context dropped",
    "dropped weights not used", "dropout on what attention gathered", "feed-forward dropout between the layers",
    "feed-forward dropout in two places", "feed-forward dropout twice", "feed-forward dropout of 0.5",
    "head dropout on the first vector", "head dropout on the logits", "head dropout twice", "head dropout of 0.5",
}  # fmt: skip
# And this hands back another number of tensors, which cannot be compared one by one.
OTHER_NUMBER_OF_STAGES = {"hidden states without the embeddings"}

# name: (what stands in model.py, what stands there then; and perhaps a second such pair)
MISTAKES = FURTHER | {
    one.name: one.edit for one in KNOWN
    if one.module == minibert.model.__name__ and one.name not in RIGHT_NUMBERS | OTHER_NUMBER_OF_STAGES
}  # fmt: skip

# A mistake shows at its own line or at its neighbour, but for these: a constant shows where it is used, and what is left out
# where it is missed. The beginning of that line:
SHOWS_AT = {
    "LayerNorm eps 1e-5": "embeddings = self.LayerNorm(",
    "tanh GELU": "hidden = self.activation(",
    "ReLU for GELU": "hidden = self.activation(",
    "no scale": "scores = scores.masked_fill(",
    "mask ignored": "attention = F.softmax(",
    "residual inside the feed-forward": "output = self.output_layer_norm(",  # the sum is right, until it is added once more
    "one block for all": "attn_output, attention = self.attention(",  # each line of the block is right, what it reads is not
}
