"""Plausible mistakes in what has no lines of its own here: the tokenizer's steps, LayerNorm, softmax, GELU, the loss.

Each is a body for the stub of an exercise; see mistakes_in_source.py for the others.
"""

from .mistakes_in_source import Mistake

MISTAKES_BY_HAND = (
    # WordPiece
    Mistake(
        "shortest piece first",
        "The shortest piece was taken at each step. Greedy means the longest that the vocabulary has.",
        exercise="wordpiece",
        body="""
            if len(word) > 100:
                return ["[UNK]"]
            pieces, start = [], 0
            while start < len(word):
                for end in range(start + 1, len(word) + 1):
                    piece = ("##" if start else "") + word[start:end]
                    if piece in vocabulary:
                        break
                else:
                    return ["[UNK]"]
                pieces.append(piece)
                start = end
            return pieces
        """,
    ),
    Mistake(
        "no ## inside a word",
        "Pieces inside a word were looked up without ##. \"able\" is a word of its own, \"##able\" is the end of one.",
        exercise="wordpiece",
        body="""
            if len(word) > 100:
                return ["[UNK]"]
            pieces = []
            while word:
                length = next((n for n in range(len(word), 0, -1) if word[:n] in vocabulary), 0)
                if not length:
                    return ["[UNK]"]
                pieces.append(word[:length])
                word = word[length:]
            return pieces
        """,
    ),
    Mistake(
        "[UNK] for the rest alone",
        "The pieces that were found stayed, and [UNK] stands for the rest. A word that cannot be cut whole is one [UNK].",
        exercise="wordpiece",
        body="""
            if len(word) > 100:
                return ["[UNK]"]
            pieces, mark = [], ""
            while word:
                length = next((n for n in range(len(word), 0, -1) if mark + word[:n] in vocabulary), 0)
                if not length:
                    return [*pieces, "[UNK]"]
                pieces.append(mark + word[:length])
                word, mark = word[length:], "##"
            return pieces
        """,
    ),
    Mistake(
        "no limit of 100 characters",
        "A word of more than 100 characters was cut. BERT's tokenizer gives it up unread: one [UNK].",
        exercise="wordpiece",
        body="""
            pieces, mark = [], ""
            while word:
                length = next((n for n in range(len(word), 0, -1) if mark + word[:n] in vocabulary), 0)
                if not length:
                    return ["[UNK]"]
                pieces.append(mark + word[:length])
                word, mark = word[length:], "##"
            return pieces
        """,
    ),
    Mistake(
        "a limit of 99 characters",
        "A word of exactly 100 characters was given up. More than 100 are too many: > 100, not >= 100.",
        exercise="wordpiece",
        body="""
            if len(word) >= 100:
                return ["[UNK]"]
            pieces, mark = [], ""
            while word:
                length = next((n for n in range(len(word), 0, -1) if mark + word[:n] in vocabulary), 0)
                if not length:
                    return ["[UNK]"]
                pieces.append(mark + word[:length])
                word, mark = word[length:], "##"
            return pieces
        """,
    ),
    # Special tokens and padding
    Mistake(
        "no [SEP]",
        "[SEP] is missing at the ends. It tells where a sentence ends, even where only one is given.",
        exercise="special-tokens",
        body="""
            length = max(map(len, sentences)) + 1
            return torch.tensor([[cls_id, *ids] + (length - 1 - len(ids)) * [pad_id] for ids in sentences])
        """,
    ),
    Mistake(
        "[SEP] behind the padding",
        "[SEP] came last of all. It follows the sentence's own last token; padding fills what is left.",
        exercise="special-tokens",
        body="""
            length = max(map(len, sentences)) + 2
            return torch.tensor([[cls_id, *ids] + (length - 2 - len(ids)) * [pad_id] + [sep_id] for ids in sentences])
        """,
    ),
    Mistake(
        "padding on the left",
        "Padding came first. Positions are counted from the left, so every token would get a later position than it was "
        "trained with, and [CLS] would not be first.",
        exercise="special-tokens",
        body="""
            length = max(map(len, sentences)) + 2
            return torch.tensor([(length - 2 - len(ids)) * [pad_id] + [cls_id, *ids, sep_id] for ids in sentences])
        """,
    ),
    Mistake(
        "padded with [SEP]",
        "The rest was filled with [SEP], where [PAD] was wanted.",
        exercise="special-tokens",
        body="""
            length = max(map(len, sentences)) + 2
            return torch.tensor([[cls_id, *ids] + (length - 1 - len(ids)) * [sep_id] for ids in sentences])
        """,
    ),
    # The attention mask
    Mistake(
        "1 for padding",
        "The mask is the wrong way round: 1 marks a token, 0 marks padding.",
        exercise="attention-mask",
        body="return (input_ids == pad_id).long()",
    ),
    Mistake(
        "[SEP] masked too",
        "The last token of each sentence was masked. [SEP] is a token like the others; only [PAD] is padding.",
        exercise="attention-mask",
        body="""
            lengths = (input_ids != pad_id).sum(dim=1, keepdim=True)
            return (torch.arange(input_ids.shape[1]) < lengths - 1).long()
        """,
    ),
    Mistake(
        "as long as the first sentence",
        "Every row has the mask of the first sentence. Each sentence has a length of its own.",
        exercise="attention-mask",
        body="return (input_ids[:1] != pad_id).long().repeat(len(input_ids), 1)",
    ),
    # Heads
    Mistake(
        "transposed before the view",
        "The axes changed places first and were split then, and so numbers of several tokens are in one head. Split the last axis "
        "while the numbers of a token still stand together, then transpose.",
        exercise="splitting-heads",
        body="""
            queries = queries.transpose(1, 2).reshape(batch, self.n_heads, tokens, self.head_dim)
            keys = keys.transpose(1, 2).reshape(batch, self.n_heads, tokens, self.head_dim)
            values = values.transpose(1, 2).reshape(batch, self.n_heads, tokens, self.head_dim)
        """,
    ),
    # LayerNorm
    Mistake(
        "unbiased variance",
        "The variance was divided by n - 1, as torch.var and torch.std do unless told unbiased=False. LayerNorm divides by n.",
        exercise="layer-norm",
        body="""
            mean, variance = input.mean(-1, keepdim=True), input.var(-1, keepdim=True)
            return (input - mean) / torch.sqrt(variance + eps) * weight + bias
        """,
    ),
    Mistake(
        "eps outside the root",
        "eps was added to the standard deviation. It is added to the variance, under the root.",
        exercise="layer-norm",
        body="""
            mean, variance = input.mean(-1, keepdim=True), input.var(-1, unbiased=False, keepdim=True)
            return (input - mean) / (torch.sqrt(variance) + eps) * weight + bias
        """,
    ),
    Mistake(
        "another eps",
        "The eps that was handed in was not used, but 1e-5, PyTorch's default. BERT's is 1e-12.",
        exercise="layer-norm",
        body="""
            mean, variance = input.mean(-1, keepdim=True), input.var(-1, unbiased=False, keepdim=True)
            return (input - mean) / torch.sqrt(variance + 1e-5) * weight + bias
        """,
    ),
    Mistake(
        "no scale and shift",
        "The result has mean 0 and variance 1, and weight and bias were not applied to it.",
        exercise="layer-norm",
        body="""
            mean, variance = input.mean(-1, keepdim=True), input.var(-1, unbiased=False, keepdim=True)
            return (input - mean) / torch.sqrt(variance + eps)
        """,
    ),
    Mistake(
        "normalised over tokens",
        "Mean and variance went over the tokens of a sentence. LayerNorm looks at one token's numbers alone: the last axis.",
        exercise="layer-norm",
        body="""
            axis = max(input.dim() - 2, 0)
            mean, variance = input.mean(axis, keepdim=True), input.var(axis, unbiased=False, keepdim=True)
            return (input - mean) / torch.sqrt(variance + eps) * weight + bias
        """,
    ),
    Mistake(
        "normalised over everything",
        "One mean and one variance were taken of the whole tensor. Each token has its own, over the last axis.",
        exercise="layer-norm",
        body="return (input - input.mean()) / torch.sqrt(input.var(unbiased=False) + eps) * weight + bias",
    ),
    Mistake(
        "mean not subtracted",
        "It was divided by the root mean square, and the mean stayed. That is RMSNorm, which later models have.",
        exercise="layer-norm",
        body="return input / torch.sqrt((input * input).mean(-1, keepdim=True) + eps) * weight + bias",
    ),
    Mistake(
        "variance under no root",
        "It was divided by the variance. The standard deviation is its root.",
        exercise="layer-norm",
        body="""
            mean, variance = input.mean(-1, keepdim=True), input.var(-1, unbiased=False, keepdim=True)
            return (input - mean) / (variance + eps) * weight + bias
        """,
    ),
    # Softmax
    Mistake(
        "softmax of the last axis always",
        "The argument dim was not used: it went over the last axis whatever was asked for.",
        exercise="softmax",
        body="""
            exponentials = torch.exp(input - input.amax(-1, keepdim=True))
            return exponentials / exponentials.sum(-1, keepdim=True)
        """,
    ),
    Mistake(
        "divided by everything",
        "The sum went over the whole tensor. Along dim alone the results have to sum to 1.",
        exercise="softmax",
        body="""
            exponentials = torch.exp(input - input.max())
            return exponentials / exponentials.sum()
        """,
    ),
    Mistake(
        "no exponential",
        "The numbers themselves were divided by their sum; negative ones stay negative. Softmax takes exp first.",
        exercise="softmax",
        body="return input / input.sum(dim, keepdim=True)",
    ),
    Mistake(
        "the largest of all subtracted",
        "The largest number of the whole tensor was subtracted. Where a row lies far below it, exp makes 0 of all of the row, and "
        "0 / 0 is not a number. Subtract the largest along dim.",
        exercise="softmax",
        body="""
            exponentials = torch.exp(input - input.max())
            return exponentials / exponentials.sum(dim, keepdim=True)
        """,
    ),
    Mistake(
        "overflow",
        "exp of a large number is infinite, and infinite by infinite is not a number. Subtract the largest first: it cancels.",
        exercise="softmax",
        body="""
            exponentials = torch.exp(input)
            return exponentials / exponentials.sum(dim, keepdim=True)
        """,
    ),
    Mistake(
        "powers of 2",
        "2 was raised to the numbers, where e should be: torch.exp.",
        exercise="softmax",
        body="""
            powers = torch.pow(2.0, input - input.amax(dim, keepdim=True))
            return powers / powers.sum(dim, keepdim=True)
        """,
    ),
    # GELU
    Mistake(
        "tanh approximation",
        "This is the tanh approximation of GELU, off by up to 5e-4. BERT has the exact one, with erf.",
        exercise="gelu",
        body="return 0.5 * input * (1 + torch.tanh(math.sqrt(2 / math.pi) * (input + 0.044715 * input**3)))",
    ),
    Mistake(
        "sigmoid approximation",
        "This is x * sigmoid(1.702 x), the coarser approximation of the paper. BERT has the exact one, with erf.",
        exercise="gelu",
        body="return input * torch.sigmoid(1.702 * input)",
    ),
    Mistake(
        "SiLU",
        "This is x * sigmoid(x), called SiLU or Swish. GELU has the normal distribution function in place of the sigmoid.",
        exercise="gelu",
        body="return input * torch.sigmoid(input)",
    ),
    Mistake(
        "ReLU",
        "This is ReLU, 0 for every negative number. GELU lets small ones through a little.",
        exercise="gelu",
        body="return input.clamp(min=0)",
    ),
    Mistake(
        "erf without sqrt(2)",
        "The argument of erf was not divided by sqrt(2): Phi(x) is (1 + erf(x / sqrt(2))) / 2.",
        exercise="gelu",
        body="return 0.5 * input * (1 + torch.erf(input))",
    ),
    Mistake(
        "half forgotten",
        "The factor 1/2 is missing: erf runs from -1 to 1, and Phi from 0 to 1.",
        exercise="gelu",
        body="return input * (1 + torch.erf(input / math.sqrt(2)))",
    ),
    Mistake(
        "Phi alone",
        "This is Phi(x), which says how much is let through. GELU is x times that.",
        exercise="gelu",
        body="return 0.5 * (1 + torch.erf(input / math.sqrt(2)))",
    ),
    # From logits to label
    Mistake(
        "argmax before softmax",
        "argmax says which label is largest; softmax of that number says nothing. Softmax first, then the largest.",
        exercise="label",
        body="""
            best = logits.argmax(dim=-1)
            scores = best.double().softmax(dim=-1)
            return [(id2label[int(number)], score) for number, score in zip(best, scores.tolist())]
        """,
    ),
    Mistake(
        "softmax over sentences",
        "Softmax went over dim=0, and the sentences of the batch share the probability. Each row has to sum to 1.",
        exercise="label",
        body="""
            rows = logits.softmax(dim=0)
            return [(id2label[int(row.argmax())], row.max().item()) for row in rows]
        """,
    ),
    Mistake(
        "logit as score",
        "The score is the logit itself, which can be any number. A probability lies between 0 and 1.",
        exercise="label",
        body="return [(id2label[int(row.argmax())], row.max().item()) for row in logits]",
    ),
    Mistake(
        "sigmoid of the logit",
        "Each logit went through a sigmoid of its own, as where several labels may be right. Here one of them is: softmax.",
        exercise="label",
        body="return [(id2label[int(row.argmax())], row.max().item()) for row in logits.sigmoid()]",
    ),
    Mistake(
        "the least likely label",
        "The label with the lowest probability was picked.",
        exercise="label",
        body="return [(id2label[int(row.argmin())], row.min().item()) for row in logits.softmax(dim=-1)]",
    ),
    # Cross-entropy
    Mistake(
        "sum in place of the mean",
        "The losses of the sentences were summed, so a larger batch means a larger step. The mean does not depend on the batch.",
        exercise="cross-entropy",
        body="""
            kept = target != -100
            logs = input[kept].log_softmax(dim=-1)
            return -logs[torch.arange(len(logs)), target[kept]].sum()
        """,
    ),
    Mistake(
        "padding counted in the loss",
        "What is marked -100 is left out of the sum, yet the sum is divided by all. Divide by how many were counted.",
        exercise="cross-entropy",
        body="""
            kept = target != -100
            logs = input[kept].log_softmax(dim=-1)
            return -logs[torch.arange(len(logs)), target[kept]].sum() / len(target)
        """,
    ),
    Mistake(
        "-100 taken for a class",
        "A target of -100 was counted, as class 0 for want of another. It means: leave this one out.",
        exercise="cross-entropy",
        body="""
            logs = input.log_softmax(dim=-1)
            return -logs[torch.arange(len(logs)), target.clamp(min=0)].mean()
        """,
    ),
    Mistake(
        "two softmaxes",
        "Softmax was taken before log_softmax, which takes its own. Give it the logits.",
        exercise="cross-entropy",
        body="""
            kept = target != -100
            logs = input[kept].softmax(dim=-1).log_softmax(dim=-1)
            return -logs[torch.arange(len(logs)), target[kept]].mean()
        """,
    ),
    Mistake(
        "no logarithm",
        "This is the mean of the probabilities, with a minus. The loss is the mean of their logarithms, with a minus.",
        exercise="cross-entropy",
        body="""
            kept = target != -100
            probabilities = input[kept].softmax(dim=-1)
            return -probabilities[torch.arange(len(probabilities)), target[kept]].mean()
        """,
    ),
    Mistake(
        "no minus",
        "The sign is missing: the logarithm of a probability is negative, and a loss is to be made small.",
        exercise="cross-entropy",
        body="""
            kept = target != -100
            logs = input[kept].log_softmax(dim=-1)
            return logs[torch.arange(len(logs)), target[kept]].mean()
        """,
    ),
    Mistake(
        "logarithm of 0",
        "log(softmax(x)) of an unlikely class is log(0), which is infinite. log_softmax never makes the 0.",
        exercise="cross-entropy",
        body="""
            kept = target != -100
            logs = input[kept].softmax(dim=-1).log()
            return -logs[torch.arange(len(logs)), target[kept]].mean()
        """,
    ),
    # Training
    Mistake(
        "gradients never reset",
        "backward() adds to the gradients that are there. Without zero_grad() each step follows those of all batches so far.",
        exercise="training-steps",
        body="""
            losses = []
            for inputs, labels in batches:
                loss = model(**inputs, labels=labels).loss
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            return losses
        """,
    ),
    Mistake(
        "no step",
        "The losses are those of the untrained model. step() is not called, or finds no gradients: zero_grad() removes them, and "
        "backward() makes them.",
        exercise="training-steps",
        body="""
            losses = []
            for inputs, labels in batches:
                optimizer.zero_grad()
                loss = model(**inputs, labels=labels).loss
                loss.backward()
                losses.append(loss.item())
            return losses
        """,
    ),
    Mistake(
        "step before backward",
        "The optimizer stepped along the gradients of the batch before: each step comes one batch late, the last one never.",
        exercise="training-steps",
        body="""
            losses = []
            for inputs, labels in batches:
                optimizer.step()
                optimizer.zero_grad()
                loss = model(**inputs, labels=labels).loss
                loss.backward()
                losses.append(loss.item())
            return losses
        """,
    ),
    Mistake(
        "loss after the step",
        "The loss was computed anew after the step. Wanted is the one that the step was made from.",
        exercise="training-steps",
        body="""
            losses = []
            for inputs, labels in batches:
                optimizer.zero_grad()
                model(**inputs, labels=labels).loss.backward()
                optimizer.step()
                losses.append(model(**inputs, labels=labels).loss.item())
            return losses
        """,
    ),
    Mistake(
        "gradients clipped",
        "The gradients were scaled down to a norm of 1 before the step. Many recipes do that; it was not asked for here.",
        exercise="training-steps",
        body="""
            losses = []
            for inputs, labels in batches:
                optimizer.zero_grad()
                loss = model(**inputs, labels=labels).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                losses.append(loss.item())
            return losses
        """,
    ),
    Mistake(
        "labels of the first batch",
        "Every batch was trained on the labels of the first. Each batch has its own.",
        exercise="training-steps",
        body="""
            losses = []
            for inputs, _ in batches:
                optimizer.zero_grad()
                loss = model(**inputs, labels=batches[0][1]).loss
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            return losses
        """,
    ),
    # LayerNorm, further
    Mistake(
        "unbiased variance and another eps",
        "Two things at once: the variance was divided by n - 1, as torch.var does unless told unbiased=False, and the eps that was "
        "handed in was not used, but 1e-5.",
        exercise="layer-norm",
        body="""
            mean, variance = input.mean(-1, keepdim=True), input.var(-1, keepdim=True)
            return (input - mean) / torch.sqrt(variance + 1e-5) * weight + bias
        """,
    ),
)
