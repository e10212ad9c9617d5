"""Right answers to the exercises in other words than the real source: what a check must not call wrong.

Each is what stands in an exercise's gap. No two are written alike, and none as model.py has it.
"""

SOLUTIONS: dict[str, tuple[str, ...]] = {
    "wordpiece": (
        """
        def rest(letters, mark):
            if not letters:
                return []
            for length in reversed(range(1, len(letters) + 1)):
                if mark + letters[:length] in vocabulary:
                    further = rest(letters[length:], "##")
                    return None if further is None else [mark + letters[:length], *further]
            return None

        found = rest(word, "") if len(word) <= 100 else None
        return ["[UNK]"] if found is None else found
        """,
    ),
    "special-tokens": (
        """
        widest = 2 + max(len(ids) for ids in sentences)
        table = torch.full((len(sentences), widest), pad_id)
        for row, ids in zip(table, sentences):
            row[0] = cls_id
            row[1 : len(ids) + 1] = torch.tensor(ids, dtype=torch.int64)
            row[len(ids) + 1] = sep_id
        return table
        """,
        """
        rows = [torch.tensor([cls_id, *ids, sep_id]) for ids in sentences]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
        """,
        """
        from itertools import zip_longest

        columns = zip_longest(*([cls_id] + ids + [sep_id] for ids in sentences), fillvalue=pad_id)
        return torch.tensor(list(columns)).T
        """,
    ),
    "attention-mask": (
        "return torch.where(input_ids == pad_id, 0, 1)",
        "return torch.tensor([[int(number != pad_id) for number in row] for row in input_ids.tolist()])",
        "return input_ids.ne(pad_id).to(input_ids.dtype)",
    ),
    "embedding-sum": (
        """
        import torch.nn.functional as functional

        count = input_ids.size(-1)
        rows = functional.embedding(input_ids, self.word_embeddings.weight)
        embeddings = self.position_embeddings.weight[:count].unsqueeze(0) + rows
        """,
        """
        table = self.word_embeddings.weight
        chosen = F.one_hot(input_ids, table.shape[0]).to(table.dtype)
        which = torch.ones_like(input_ids).cumsum(dim=1) - 1
        embeddings = torch.einsum("btv,vd->btd", chosen, table) + self.position_embeddings(which)
        """,
    ),
    "layer-norm": (
        """
        variance, mean = torch.var_mean(input, dim=-1, correction=0, keepdim=True)
        return torch.addcmul(bias, (input - mean) * torch.rsqrt(variance + eps), weight)
        """,
        """
        n = input.size(-1)
        centred = input - input.sum(-1, keepdim=True) / n
        squares = torch.einsum("...d,...d->...", centred, centred).unsqueeze(-1)
        return bias + weight * centred / (squares / n + eps) ** 0.5
        """,
        """
        axes = tuple(range(-len(normalized_shape), 0))
        deviation = torch.std(input, dim=axes, unbiased=False, keepdim=True)
        return weight * ((input - input.mean(dim=axes, keepdim=True)) / (deviation**2 + eps).sqrt()) + bias
        """,
    ),
    "splitting-heads": (
        """
        queries, keys, values = (
            torch.stack(one.split(self.head_dim, dim=-1), dim=1) for one in (queries, keys, values)
        )
        """,
        """
        def heads_first(x):
            return x.reshape(batch, tokens, -1, self.head_dim).permute(0, 2, 1, 3).contiguous()

        queries = heads_first(queries)
        keys = heads_first(keys)
        values = heads_first(values)
        """,
        """
        queries = queries.unflatten(-1, (self.n_heads, -1)).movedim(2, 1)
        keys = torch.stack([keys[..., h * self.head_dim : (h + 1) * self.head_dim] for h in range(self.n_heads)], 1)
        values = values.mT.reshape(batch, self.n_heads, self.head_dim, tokens).mT
        """,
    ),
    "scaled-scores": (
        """
        root = self.head_dim ** -0.5
        scores = torch.einsum("bhqd,bhkd->bhqk", queries * root, keys)
        """,
        """
        scores = (queries.unsqueeze(3) * keys.unsqueeze(2)).sum(-1).div(self.head_dim**0.5)
        """,
        """
        q, k = (x.flatten(0, 1) / self.head_dim**0.25 for x in (queries, keys))
        scores = torch.bmm(q, k.mT).unflatten(0, (batch, self.n_heads))
        """,
    ),
    "masking": (
        """
        if attention_mask is not None:
            hidden = torch.zeros(batch, 1, 1, tokens, dtype=scores.dtype, device=scores.device)
            hidden[(attention_mask == 0)[:, None, None]] = float("-inf")
            scores = scores + hidden
        """,
        """
        seen = torch.ones(batch, tokens) if attention_mask is None else attention_mask
        scores = torch.where(seen.bool().view(batch, 1, 1, tokens), scores, -math.inf)
        """,
        """
        if attention_mask is not None:
            for number in range(batch):
                sentence = scores[number]
                sentence[:, :, attention_mask[number] == 0] = -1e9
        """,
        """
        if attention_mask is not None:  # padding looks nowhere either, as some libraries have it
            pairs = torch.einsum("bq,bk->bqk", attention_mask, attention_mask).unsqueeze(1)
            scores = scores - 1e12 * (1 - pairs)
        """,
        """
        if attention_mask is not None:
            scores.masked_fill_(~attention_mask.bool()[:, None, None, :], torch.finfo(scores.dtype).min)
        """,
    ),
    "softmax": (
        """
        import functools

        total = functools.reduce(torch.logaddexp, input.unbind(dim)).unsqueeze(dim)
        return (input - total).exp()
        """,
        """
        last = input.movedim(dim, -1)
        powers = (last - last.max(-1, keepdim=True).values.detach()).exp()
        return torch.einsum("...k,...->...k", powers, powers.sum(-1).reciprocal()).movedim(-1, dim)
        """,
    ),
    "weighted-sum": (
        """
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        attention = self.dropout(powers / powers.sum(-1, keepdim=True))
        context = torch.einsum("bhqk,bhkd->bhqd", attention, values)
        """,
        """
        maps, sums = [], []
        for head in range(self.n_heads):
            weights = self.dropout(scores[:, head].softmax(2))
            maps.append(weights)
            sums.append(torch.bmm(weights, values[:, head]))
        attention, context = torch.stack(maps, 1), torch.stack(sums, 1)
        """,
        """
        attention = self.dropout(scores.mT.softmax(2).mT)
        context = (values.mT @ attention.mT).mT
        """,
        """
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        attention = torch.dropout(powers, self.dropout.p, self.training) / powers.sum(-1, keepdim=True)
        context = attention @ values
        """,
        """
        weights = torch.softmax(scores, -1)
        attention = F.dropout(torch.ones_like(weights.mT), p=self.dropout.p, training=self.training).mT * weights
        context = torch.matmul(attention, values)
        """,
    ),
    "merging-heads": (
        """
        side_by_side = torch.cat(context.unbind(dim=1), dim=-1)
        output = side_by_side @ self.out_lin.weight.T + self.out_lin.bias
        """,
        """
        weight = self.out_lin.weight.view(dim, self.n_heads, self.head_dim)
        output = torch.einsum("bhqd,ohd->bqo", context, weight).add(self.out_lin.bias)
        """,
        """
        output = self.out_lin.bias.expand(batch, tokens, dim)
        for part, weight in zip(context.unbind(1), self.out_lin.weight.split(self.head_dim, dim=1)):
            output = output + F.linear(part, weight)
        """,
    ),
    "self-attention": (
        """
        batch, tokens, dim = hidden_states.shape
        q, k, v = (
            F.linear(hidden_states, one.weight, one.bias).unflatten(-1, (self.n_heads, self.head_dim))
            for one in (self.q_lin, self.k_lin, self.v_lin)
        )
        fit = torch.einsum("bqhd,bkhd->bhqk", q, k) * self.head_dim**-0.5
        if attention_mask is not None:
            fit = torch.where(attention_mask[:, None, None].bool(), fit, float("-inf"))
        weights = self.dropout(torch.softmax(fit, 3))
        found = torch.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.out_lin(found.flatten(2)), weights
        """,
        """
        output, maps = self.out_lin.bias, []
        for head in range(self.n_heads):
            own = slice(head * self.head_dim, (head + 1) * self.head_dim)
            query = hidden_states @ self.q_lin.weight[own].T + self.q_lin.bias[own]
            key = hidden_states @ self.k_lin.weight[own].T + self.k_lin.bias[own]
            value = hidden_states @ self.v_lin.weight[own].T + self.v_lin.bias[own]
            fit = query @ key.mT / math.sqrt(self.head_dim)
            if attention_mask is not None:
                fit = fit + (attention_mask[:, None] - 1) * 1e9
            powers = torch.exp(fit - fit.amax(-1, keepdim=True))
            maps.append(self.dropout(powers / powers.sum(-1, keepdim=True)))
            output = output + maps[-1] @ value @ self.out_lin.weight[:, own].T
        return output, torch.stack(maps, dim=1)
        """,
        """
        x, layers = hidden_states.transpose(0, 1), (self.q_lin, self.k_lin, self.v_lin)
        output, attention = F.multi_head_attention_forward(
            x, x, x, x.shape[-1], self.n_heads, torch.cat([one.weight for one in layers]), torch.cat([one.bias for one in layers]),
            None, None, False, self.dropout.p, self.out_lin.weight, self.out_lin.bias, training=self.training,
            key_padding_mask=None if attention_mask is None else attention_mask == 0, average_attn_weights=False,
        )
        return output.transpose(0, 1), attention
        """,
    ),
    "gelu": (
        "return torch.special.ndtr(input) * input",
        "return input / 2 * torch.erfc(-input * 0.5**0.5)",
    ),
    "feed-forward": (
        """
        wide = torch.einsum("btd,hd->bth", hidden_states, self.lin1.weight) + self.lin1.bias
        return self.dropout(F.linear(self.activation(wide), self.lin2.weight, self.lin2.bias))
        """,
        """
        each = [self.lin2(self.activation(self.lin1(token))) for token in hidden_states.unbind(1)]
        return self.dropout(torch.stack(each, dim=1))
        """,
        """
        narrow = torch.addmm(self.lin2.bias, self.activation(self.lin1(hidden_states)).flatten(0, 1), self.lin2.weight.T)
        return F.dropout(narrow.view_as(hidden_states), self.dropout.p, self.training)
        """,
    ),
    "residual": (
        """
        first, second = self.sa_layer_norm, self.output_layer_norm
        x = F.layer_norm(attn_output + hidden_states, attn_output.shape[-1:], first.weight, first.bias, first.eps)
        x = x + self.ffn(x)
        output = F.layer_norm(x, x.shape[-1:], second.weight, second.bias, second.eps)
        """,
        """
        output = torch.add(hidden_states, attn_output)
        for norm, sublayer in ((self.sa_layer_norm, self.ffn), (self.output_layer_norm, None)):
            centred = output - output.mean(-1, keepdim=True)
            output = centred * (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight + norm.bias
            output = output if sublayer is None else sublayer(output) + output
        """,
    ),
    "block": (
        """
        x = hidden_states
        found, weights = self.attention(hidden_states=x, attention_mask=attention_mask)
        x = self.sa_layer_norm(found.add_(x))
        return self.output_layer_norm(torch.add(self.ffn(x), x)), weights
        """,
        """
        def normalised(x, norm):
            variance, mean = torch.var_mean(x, -1, unbiased=False, keepdim=True)
            return norm.bias + norm.weight * (x - mean) / torch.sqrt(variance + norm.eps)

        both = self.attention(hidden_states, attention_mask)
        middle = normalised(both[0] + hidden_states, self.sa_layer_norm)
        return (normalised(middle + self.ffn(middle), self.output_layer_norm), both[1])
        """,
    ),
    "stack": (
        """
        states, maps = (hidden_states,), ()
        for number in range(len(self.layer)):
            state, weights = self.layer[number](states[-1], attention_mask=attention_mask)
            states, maps = (*states, state), (*maps, weights)
        return BaseModelOutput(states[-1], states if output_hidden_states else None, maps if output_attentions else None)
        """,
        """
        def through(blocks, state):
            if not blocks:
                return [state], []
            after, weights = blocks[0](state, attention_mask)
            states, maps = through(blocks[1:], after)
            return [state] + states, [weights] + maps

        states, maps = through(list(self.layer), hidden_states)
        output = BaseModelOutput(states[-1])
        if output_hidden_states:
            output.hidden_states = tuple(states)
        if output_attentions:
            output.attentions = tuple(maps)
        return output
        """,
    ),
    "head": (
        """
        wide = base.last_hidden_state.select(1, 0) @ self.pre_classifier.weight.mT + self.pre_classifier.bias
        logits = self.classifier(self.dropout(wide.clamp(min=0)))
        """,
        """
        every = self.classifier(self.dropout(torch.relu(self.pre_classifier(base.last_hidden_state))))
        logits = every[:, 0]
        """,
        """
        cls, *_ = base.last_hidden_state.unbind(1)
        hidden = F.linear(cls, self.pre_classifier.weight, self.pre_classifier.bias)
        hidden = F.dropout(torch.where(hidden > 0, hidden, 0.0), self.dropout.p, self.training)
        logits = torch.einsum("bd,ld->bl", hidden, self.classifier.weight) + self.classifier.bias
        """,
    ),
    "label": (
        """
        scores, columns = logits.softmax(1).max(1)
        return [(id2label[column], score) for column, score in zip(columns.tolist(), scores.tolist())]
        """,
        """
        answers = []
        for row in logits.tolist():
            powers = [math.exp(one - max(row)) for one in row]
            best = max(range(len(row)), key=row.__getitem__)
            answers.append((id2label[best], powers[best] / sum(powers)))
        return answers
        """,
    ),
    "cross-entropy": (
        """
        chosen = input.gather(1, target.clamp(min=0)[:, None]).squeeze(1)
        counts = (target != -100).to(input.dtype)
        return ((input.logsumexp(1) - chosen) * counts).sum() / counts.sum()
        """,
        """
        losses = [torch.logsumexp(row, 0) - row[right] for row, right in zip(input, target.tolist()) if right != -100]
        return torch.stack(losses).mean()
        """,
        """
        rows, right = input[target >= 0], target[target >= 0]
        one_hot = torch.eye(input.size(1))[right]
        return -(one_hot * torch.log_softmax(rows, -1)).sum() / len(rows)
        """,
    ),
    "training-steps": (
        """
        losses = []
        for inputs, labels in batches:
            loss = model(**inputs, labels=labels).loss
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss)
        return [float(loss.detach()) for loss in losses]
        """,
        """
        def step(inputs, labels):
            loss = model(labels=labels, **inputs).loss
            parameters = list(model.parameters())
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
                parameter.grad = gradient
            optimizer.step()
            return loss.item()

        return [step(*batch) for batch in batches]
        """,
        """
        model.train()
        losses = []
        for inputs, labels in batches:
            outputs = model(**inputs, labels=labels)
            outputs.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(outputs.loss.item())
        return losses
        """,
    ),
    "fold-bert": (
        """
        words, places, types = (f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type"))
        tensors = {
            name: tensor + tensors[types][:1] if name == places else tensor for name, tensor in tensors.items() if name != types
        }
        """,
        """
        types = tensors["embeddings.token_type_embeddings.weight"]
        tensors["embeddings.word_embeddings.weight"] = types[0].add(tensors["embeddings.word_embeddings.weight"])
        del tensors["embeddings.token_type_embeddings.weight"]
        """,
    ),
}
