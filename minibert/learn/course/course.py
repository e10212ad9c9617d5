"""The course: from text to label, an exercise a step, and what comes after that.

An exercise in minibert's own source needs only its first and its last line here. If a library does the work, the exercise has a
stub, and an answer is compared with the library's own result; see edge_cases.py.
"""

from . import edge_cases, puzzles
from .exercise import Exercise

ATTENTION = "minibert.model.MultiHeadSelfAttention.forward"
BLOCK = "minibert.model.TransformerBlock.forward"

EXERCISES = (
    Exercise(
        "wordpiece",
        "tokenizers.models.WordPiece.tokenize",
        title="Greedy WordPiece",
        teaches="how 30,522 pieces spell every word",
        difficulty=2,
        question="""
            A vocabulary of 30,522 pieces has "hugging" and "##face" and no "huggingface". Cut a word into pieces that it has.

            Greedy: take the longest piece that the rest of the word begins with, and go on behind it. Inside a word a piece is
            written with ## before it.
        """,
        hints=(
            "Two loops: the outer one moves along the word, the inner one tries ends from the far end back to the nearest.",
            "Except at the start of the word, look for \"##\" + word[start:end].",
            "If no end fits, the whole word is [\"[UNK]\"], whatever was found before.",
        ),
        stub='''
def wordpiece(word: str, vocabulary: dict[str, int]) -> list[str]:
    """Cuts a word into the longest pieces of a vocabulary, from left to right.

    word        in lower case, without spaces and punctuation: "huggingface"
    vocabulary  piece -> id; a piece that goes on inside a word is written with ##
    return      ["hugging", "##face"]; ["[UNK]"] where the word cannot be cut whole, or has more than 100 characters

    Wu et al. 2016 (arXiv 1609.08144), section 4.1.
    """
''',
        cases=edge_cases.words,
        answer="The `tokenizers` library does it, in Rust; there are no lines of Python to show.",
        in_model=False,
    ),
    Exercise(
        "special-tokens",
        "minibert.tokenizer.DistilBertTokenizer.__call__",
        title="Special tokens and padding",
        teaches="how sentences of several lengths become one tensor",
        needs=("wordpiece",),
        question="""
            The model reads a rectangle of ids. Put [CLS] before and [SEP] behind each sentence, and fill the shorter ones up.

            Each token has a position, counted from the left. What would become of the positions if padding came first?
        """,
        hints=(
            "The tensor is as wide as the longest sentence with its two special tokens.",
            "Make a list of lists of one length, then torch.tensor of it.",
        ),
        stub='''
def batch_of(sentences: list[list[int]], cls_id: int, sep_id: int, pad_id: int) -> Tensor:
    """Puts sentences into one tensor: [CLS], the sentence, [SEP], and [PAD] as often as it takes.

    sentences  the ids of each, without special tokens
    return     (batch, tokens)   int64
    """
''',
        cases=edge_cases.sentences,
        answer="The `tokenizers` library does it, in Rust; minibert/storage/vocabulary.py tells it which special tokens to add.",
        in_model=False,
    ),
    Exercise(
        "attention-mask",
        "minibert.tokenizer.DistilBertTokenizer.__call__",
        title="The attention mask",
        teaches="how the model is told what is padding",
        needs=("special-tokens",),
        question="""
            Attention lets each token look at every token, and nobody should look at padding. Say which is which: 1 or 0.
        """,
        hints=("Compare with pad_id; a comparison gives True and False, and wanted are integers.",),
        stub='''
def attention_mask(input_ids: Tensor, pad_id: int) -> Tensor:
    """Marks tokens and padding.

    input_ids  (batch, tokens)   int64
    return     (batch, tokens)   int64: 1 for a token, 0 for padding
    """
''',
        cases=edge_cases.masks,
        answer="The `tokenizers` library does it, in Rust, as it pads. Of ids alone: (input_ids != pad_id).long()",
        in_model=False,
    ),
    Exercise(
        "embedding-sum",
        "minibert.model.Embeddings.forward",
        first="positions = torch.arange(",
        last="embeddings = word_vectors + position_vectors",
        title="Word and position",
        teaches="what a token is to the model: a word and a place",
        needs=("special-tokens",),
        question="""
            Attention takes no notice of order. What has to be added to a word's vector, so that "dog bites man" differs from
            "man bites dog"?

            self.word_embeddings and self.position_embeddings are tables: called with integers, they give a row for each.
        """,
        cases=edge_cases.all_places,
        hints=(
            "The position table wants the numbers 0, 1, 2 ... of the tokens, on the device of input_ids: torch.arange.",
            "position_vectors has the axes (tokens, dim), word_vectors (batch, tokens, dim). Their sum gives each sentence the "
            "same position vectors.",
        ),
    ),
    Exercise(
        "layer-norm",
        "torch.nn.functional.layer_norm",
        title="LayerNorm",
        teaches="how numbers are kept in a range, token by token",
        needs=("embedding-sum",),
        question="""
            Give every token's numbers mean 0 and variance 1; then stretch and shift each dimension as was learnt.

            Which axis do mean and variance go over? By what does one divide: by n or by n - 1? What is eps for, and where?

            Write it by hand: an answer that calls layer_norm, or another norm of PyTorch's, is not accepted.
        """,
        hints=(
            "Mean and variance go over the last axis; keepdim=True keeps it, so that they can be subtracted.",
            "The variance is divided by n: torch.var(..., unbiased=False), or the mean of the squared differences.",
            "(input - mean) / sqrt(variance + eps), then * weight + bias.",
        ),
        stub='''
def layer_norm(input: Tensor, normalized_shape: tuple[int, ...], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts each dimension.

    input             (batch, tokens, dim)   or any other axes before dim
    normalized_shape  (dim,)                 as PyTorch has it; the tensors say it as well
    weight, bias      (dim)
    eps               is added to the variance, so that nothing is divided by 0
    return            as input

    Ba et al. 2016, "Layer Normalization" (arXiv 1607.06450), equation 3.
    """
''',
        cases=edge_cases.rows_to_normalise,
        by_hand=("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm"),
    ),
    Exercise(
        "splitting-heads",
        ATTENTION,
        first="queries = queries.view(",
        last="values = values.view(",
        title="Splitting heads",
        teaches="why view and then transpose",
        difficulty=2,
        needs=("layer-norm",),
        question="""
            Each head sees its own part of dim: the first head_dim numbers of a token belong to head 0, the next to head 1. Bring
            queries, keys and values to the axes in the comments.

            A view never moves a number, it only says where axes begin and end. Try it with torch.arange(24).
        """,
        hints=(
            "In memory the numbers of one token stand together: heads and head_dim are parts of the last axis. Split that first.",
            "Then exchange two axes: transpose(1, 2).",
        ),
    ),
    Exercise(
        "scaled-scores",
        ATTENTION,
        first="scores = queries @ keys",
        last="scores = scores / math.sqrt(",
        title="Scaled scores",
        teaches="how a query finds its keys",
        needs=("splitting-heads",),
        question="""
            How well does each query fit each key? One number for each pair, in each head: their dot product, scaled.

            If the numbers of a query and a key are independent with variance 1, what variance has their dot product? What would
            softmax make of such numbers?
        """,
        cases=edge_cases.low_scores,
        hints=(
            "A matrix product of (query, head_dim) and (head_dim, key) gives (query, key).",
            "The dot product of head_dim such terms has variance head_dim; divided by the root, it has variance 1.",
        ),
    ),
    Exercise(
        "masking",
        ATTENTION,
        first="if attention_mask is not None:",
        last="scores = scores.masked_fill(",
        shows=("scores.softmax(-1)",),
        title="Masking",
        teaches="how padding is hidden, and from whom",
        difficulty=2,
        needs=("scaled-scores", "attention-mask"),
        question="""
            Softmax comes next. Which scores have to be changed so that padding gets a weight of 0, and into what?

            attention_mask is (batch, tokens): 1 for a token, 0 for padding, or it is None, where there is no padding. What is
            compared is what softmax makes of your scores.
        """,
        hints=(
            "Nobody may look at padding: it is hidden on the key axis, the last. Indexing with None adds an axis of size 1.",
            "0 is a score like any other, and exp(0) is 1. What is as low as can be? See torch.finfo.",
            "scores.masked_fill(where, value) puts a value wherever a bool tensor is True.",
        ),
        cases=edge_cases.low_scores,
    ),
    Exercise(
        "softmax",
        "torch.nn.functional.softmax",
        title="Softmax",
        teaches="from any numbers to shares of 1",
        needs=("scaled-scores",),
        question="""
            Make shares of scores: all positive, summing to 1 along one axis, and larger where the score is larger.

            exp(1000) is infinite. What may be subtracted from all scores without changing a share?

            Write it by hand: an answer that calls softmax, log_softmax or logsumexp is not accepted.
        """,
        hints=(
            "exp of each, divided by their sum along dim; keepdim=True keeps the axis for the division.",
            "Subtract the largest along dim before exp: input.amax(dim, keepdim=True).",
        ),
        stub='''
def softmax(input: Tensor, dim: int) -> Tensor:
    """exp(x) divided by the sum of all exp(x) along an axis.

    input   any axes, any finite numbers
    dim     the axis along which the results sum to 1
    return  as input
    """
''',
        cases=edge_cases.scores,
        by_hand=("softmax", "softmin", "logsumexp", "logcumsumexp", "scaled_dot_product"),
    ),
    Exercise(
        "weighted-sum",
        ATTENTION,
        first="attention = F.softmax(",
        last="context = attention @ values",
        title="Weights and weighted sum",
        teaches="what attention hands over",
        needs=("masking", "softmax"),
        question="""
            Turn scores into weights and take the weighted sum of the values. Between the two, self.dropout drops weights in
            training.

            Whose weights sum to 1: those of one query, or those of one key? F.softmax takes the axis as dim.
        """,
        hints=(
            "Each query shares out its attention among the keys: softmax over the last axis.",
            "attention is (query, key) and values (key, head_dim): their matrix product is the weighted sum.",
        ),
    ),
    Exercise(
        "merging-heads",
        ATTENTION,
        first="context = context.transpose(",
        last="output = self.out_lin(",
        title="Merging heads",
        teaches="the way back, and why it copies",
        needs=("weighted-sum",),
        question="""
            Put what the heads found side by side again, one vector of dim numbers a token, and let self.out_lin mix it.

            After a transpose, view refuses ("not compatible with input tensor's size and stride"). Why, and what does reshape do
            that view does not?
        """,
        hints=(
            "First bring tokens before heads again, then join the last two axes.",
            "reshape copies where the numbers do not stand in memory as they have to; view never does.",
        ),
    ),
    Exercise(
        "self-attention",
        ATTENTION,
        title="Self-attention, whole",
        teaches="the equation of the paper, from the first line to the last",
        difficulty=3,
        needs=("splitting-heads", "scaled-scores", "masking", "weighted-sum", "merging-heads"),
        question="""
            Write all of it: queries, keys and values, heads, scores, mask, weights, sum, heads again, out_lin.

            softmax(Q K^T / sqrt(head_dim)) V, once per head. The names on the comments are model.py's; yours may be others.
        """,
        hints=("The exercises before this one are its parts; their files have the lines that come before each.",),
        cases=edge_cases.low_scores,
    ),
    Exercise(
        "gelu",
        "torch.nn.functional.gelu",
        title="GELU",
        teaches="the activation between the two layers",
        needs=("layer-norm",),
        question="""
            x times the probability that a standard normal number is below x. Write it with torch.erf.

            There are two approximations, with tanh and with a sigmoid; BERT has neither.

            Write it by hand: an answer that calls PyTorch's gelu is not accepted.
        """,
        hints=("The normal distribution function is Phi(x) = (1 + erf(x / sqrt(2))) / 2.",),
        stub='''
def gelu(input: Tensor) -> Tensor:
    """x * Phi(x), with the distribution function Phi of the normal distribution.

    input   (batch, tokens, hidden_dim)   or any other axes
    return  as input

    Hendrycks and Gimpel 2016, "Gaussian Error Linear Units" (arXiv 1606.08415), section 2.
    """
''',
        cases=edge_cases.numbers,
    ),
    Exercise(
        "feed-forward",
        "minibert.model.FeedForward.forward",
        title="Feed-forward",
        teaches="what each token does alone",
        needs=("gelu",),
        question="""
            Two linear layers with self.activation between them, and self.dropout at the end. Which layer widens, which narrows?
        """,
        hints=("lin1 goes from dim to hidden_dim, lin2 back.",),
    ),
    Exercise(
        "residual",
        BLOCK,
        first="sa_output = self.sa_layer_norm(",
        last="output = self.output_layer_norm(",
        title="Residuals and norms, in order",
        teaches="post-LN: what is added, what is normalised",
        difficulty=2,
        needs=("self-attention", "feed-forward"),
        question="""
            Attention has gathered something for each token. Add the token's own vector and normalise; let self.ffn transform
            that; add what it read and normalise again.

            Which of the two LayerNorms comes first? What exactly is added the second time?
        """,
        hints=(
            "LayerNorm(x + sublayer(x)), twice; sa in sa_layer_norm is self-attention.",
            "The second x is what the feed-forward layer read, not what the block read.",
        ),
    ),
    Exercise(
        "block",
        BLOCK,
        title="The block",
        teaches="attention and feed-forward, joined",
        needs=("residual",),
        question="Write the whole block. What does attention need beside the hidden states, and what does a block hand back?",
        hints=("self.attention gives two things: what was gathered, and the attention map.",),
    ),
    Exercise(
        "stack",
        "minibert.model.Transformer.forward",
        title="The stack",
        teaches="one block after the other, and what is kept of each",
        difficulty=2,
        needs=("block",),
        question="""
            Each block reads what the one before it wrote. Keep the hidden states (the embeddings, then every block's output) and
            the attention maps where they are asked for; where they are not, those fields of the output are None.
        """,
        hints=(
            "self.layer can be looped over; each block is called with the hidden states and the mask.",
            "hidden_states has one tensor more than there are blocks; both fields are tuples.",
        ),
    ),
    Exercise(
        "head",
        "minibert.model.DistilBertForSequenceClassification.forward",
        first="first = base.last_hidden_state",
        last="logits = self.classifier(",
        title="The head on the first token",
        teaches="how one vector speaks for a sentence",
        needs=("stack",),
        question="""
            base.last_hidden_state has a vector for each token. Which of them speaks for the sentence? Take it through
            self.pre_classifier, ReLU, self.dropout and self.classifier.
        """,
        hints=("[CLS] is the first token of every sentence.", "x[:, 0] takes the first along the second axis."),
    ),
    Exercise(
        "label",
        "minibert.text_classification.TextClassificationPipeline.__call__",
        title="Softmax to label",
        teaches="from logits to a word and a score",
        needs=("softmax", "head"),
        question="""
            Say of each sentence which label is the most likely, and how likely it is. In what order do softmax and argmax come?
        """,
        hints=("Softmax over the labels of each sentence; then the largest of each row, and where it stands.",),
        stub='''
def labels_of(logits: Tensor, id2label: dict[int, str]) -> list[tuple[str, float]]:
    """The best label of each sentence and its probability.

    logits    (batch, labels)
    id2label  the name of each column
    return    [("POSITIVE", 0.63), ...]
    """
''',
        cases=edge_cases.logits,
        answer="minibert/text_classification.py does it, in TextClassificationPipeline._scores and _results.",
        in_model=False,
    ),
    Exercise(
        "cross-entropy",
        "torch.nn.functional.cross_entropy",
        title="Cross-entropy",
        teaches="what training makes small",
        difficulty=2,
        needs=("label",),
        question="""
            How surprised is the model by the right label? Minus the logarithm of its probability; the mean over the sentences.

            A target of -100 leaves its sentence out, of the sum and of the count. And the logarithm of a probability that was
            rounded to 0 is infinite: input.log_softmax(dim) never makes the 0.

            Write the rest by hand: an answer that calls cross_entropy or nll_loss is not accepted.
        """,
        hints=(
            "kept = target != -100 picks the sentences that count: input[kept], target[kept].",
            "x[torch.arange(n), columns] picks one number of each row.",
        ),
        stub='''
def cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """The mean of -log(probability of the right class).

    input   (batch, labels)   logits
    target  (batch)           int64, the right class of each row; -100 leaves a row out
    return  ()
    """
''',
        cases=edge_cases.targets,
        by_hand=("cross_entropy", "nll_loss", "kl_div"),
    ),
    Exercise(
        "training-steps",
        "torch.optim.Optimizer.step",
        title="Training steps",
        teaches="the four lines that every training has",
        difficulty=2,
        needs=("cross-entropy",),
        question="""
            For each batch: forget the old gradients, compute the loss, compute its gradients, take a step. Hand back the losses,
            each as it was before its own step.

            model(**inputs, labels=labels).loss is the loss. What happens to gradients that nobody resets?
            Nothing else is asked for: no clipping of gradients, no schedule.
        """,
        hints=(
            "loss.backward() needs the loss, optimizer.step() needs its gradients. zero_grad() comes anywhere but between.",
            "loss.item() is the loss as a plain number.",
        ),
        stub='''
def training_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: list) -> list[float]:
    """Takes one training step a batch.

    batches  pairs of inputs, a dict, and labels, a Tensor (batch); model(**inputs, labels=labels).loss is ()
    return   the loss of each batch, as it was before its step
    """
''',
        cases=edge_cases.batches,
        answer="scripts/train.py does it, in its innermost loop.",
        in_model=False,
    ),
    Exercise(
        "fold-bert",
        "minibert.bert.fold",
        first="first_sentence = tensors.pop(",
        last='tensors["embeddings.position_embeddings.weight"] = ',
        shows=(
            "tensors['embeddings.word_embeddings.weight'][:, None] + tensors['embeddings.position_embeddings.weight']",
            "{*tensors}",
        ),
        title="Folding a BERT",
        teaches="why every BERT encoder is a DistilBERT",
        difficulty=2,
        needs=("embedding-sum",),
        question="""
            BERT adds three vectors: word, position, token type. DistilBERT adds two. With single sentences the type is always 0:
            make two tables out of three, so that every sum stays what it was.

            tensors has the three under "embeddings.word_embeddings.weight" (words, dim), "embeddings.position_embeddings.weight"
            (positions, dim) and "embeddings.token_type_embeddings.weight" (2, dim). The last has to be gone afterwards. What is
            compared is the sum of word and position.
        """,
        hints=(
            "word + position + type_0 = word + (position + type_0): the same vector is added to every position.",
            "dict.pop takes an entry out and hands it to you.",
        ),
        cases=edge_cases.berts,
        in_model=False,
    ),
    Exercise(
        "find-the-bug",
        "minibert.model.DistilBertForSequenceClassification",
        title="Find the bug",
        teaches="to read a model and find what is wrong with it",
        difficulty=3,
        needs=("head",),
        question="One line of this model is wrong. Which one?",
        hints=(
            "The names of the axes do not lie: read each line with its shape comment, and the docstring above it.",
            "After each wrong answer a check says at which stage the numbers first part; begin there.",
        ),
        page=puzzles.bug_page,
        judge=puzzles.judge_the_line,
        answer=puzzles.the_line,
    ),
    Exercise(
        "silent-bias",
        ATTENTION,
        title="Puzzle: the silent bias",
        teaches="what softmax takes no notice of",
        difficulty=3,
        needs=("self-attention",),
        question="One bias of attention can be any numbers, and nothing changes.",
        hints=(
            "Write a score out: (q + a) · (k + b) has four terms. Which of them are the same for all keys of one query?",
            "Softmax takes no notice of a number that is added to a whole row.",
        ),
        page=lambda: puzzles.BIAS_PAGE,
        judge=puzzles.judge_the_bias,
        answer="k_lin.bias. It adds query · bias to each score of a row, one number to all of them, and softmax takes no notice.",
    ),
    Exercise(
        "mild-mask",
        ATTENTION,
        title="Puzzle: the mild mask",
        teaches="how low is low enough",
        difficulty=3,
        needs=("masking",),
        question="Adding -10000 at padding is as good as the lowest number there is. Is it always?",
        hints=(
            "exp(-10000) is 0 beside scores of ordinary size. Beside which scores is -10000 not low?",
            "Only differences within a row count: what if the score at padding is far above the others?",
        ),
        page=lambda: puzzles.MASK_PAGE,
        judge=puzzles.judge_the_scores,
        answer="Scores such as [0, 0, 20000, 0]: 10,000 less than that is still far above the others. Scores of a trained model "
        "are nowhere near it.",
    ),
)
