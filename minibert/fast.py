"""The same numbers in less time: model.py's own forward pass with faster matrix products.

    model = AutoModelForSequenceClassification.from_pretrained("mini-sst2")
    quick = fast(model)        # the same logits, to rounding, in a third of the time or in nine tenths: see below

Where the time goes. Nine tenths of a forward pass are the products of six Linear layers a block: each number of the
output is a row of the input times a row of the weights, multiplied pair by pair and summed. A token costs 2 * 768 * 768
operations in each of four layers and 2 * 768 * 3072 in each of two, 85 million for six blocks.

What a processor does with it. A core does not multiply numbers one by one: its vector registers hold 8 (AVX2) or 16
(AVX-512) float32 numbers, and each tick one or two instructions multiply a whole register by another and add the
result to a third ("fused multiply-add"). Two cores that start two such instructions of 16 lanes in each of 3.8 billion
ticks a second reach 2 cores * 2 instructions * 16 lanes * 2 operations * 3.8e9 = 486 GFLOP/s, and no program does more.
Three things keep a program from that:

- Half-wide registers. PyTorch hands a float32 Linear to the library MKL, which, on processors of another maker than its
  own, uses 8 lanes where there are 16. (On its own maker's it uses all of them, and less is left to gain here.) oneDNN, a
  library that comes with the same PyTorch, writes its inner loop when it starts, for the processor that it finds.
- Waiting for memory. A number from main memory is some hundred ticks away, from the nearest cache five. So a product is
  cut into tiles: a few rows of the input stay in registers while a strip of weights that fits into the cache streams by.
  The strip is only fast to read if its numbers lie in the order in which the loop wants them, and in a checkpoint they
  do not: there a strip of 64 outputs is 64 pieces of memory, 768 numbers apart. Copying them into order at each call is
  lost time, most of all for a single sentence, which uses each weight for a few tokens only. Weights do not change from
  call to call: here they are packed into that order once, which takes about as long as two sentences save.
- Going there and back. GELU alone reads and writes every number of the widest layer once more. oneDNN applies it to a
  tile before that leaves the cache.

A layer's multiplications are the same and as many; only the order of the sums differs, and with it the rounding, 1e-6 in the
logits.

bfloat16 halves the bytes, and processors that have instructions for it multiply two pairs in each lane: twice the speed
again. It keeps float32's range and 8 of its 24 bits of precision, so only the products get it: their inputs are rounded,
their sums are float32, and all between them (residuals, LayerNorm, softmax) stays float32. Logits change in the third
decimal.

Attention needs no weights. For long texts its time goes into writing and reading the scores, (batch, heads, query, key);
`scaled_dot_product_attention` makes them tile by tile, with a running softmax, and never writes them whole
(Dao et al. 2022, "FlashAttention", arXiv 2205.14135). For short ones that is not a gain, and model.py's lines run.

The fastest product is the one that is not computed. The classifier reads one vector of the last block's output, that of [CLS].
So the last block computes keys and values of every token, for [CLS] looks at all, and everything else of [CLS] alone: ten
twelfths of a block's products are never made. Hidden states and attention maps are complete if you ask for them.

On a GPU, PyTorch's own Linear is as fast as it gets: there it is the dtype, the fused attention and, as an option,
torch.compile that save time.
"""

import copy
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as of_all
from torch.optim.optimizer import register_optimizer_step_post_hook

from . import model as architecture
from .model import BaseModelOutput, DistilBertForSequenceClassification, MultiHeadSelfAttention, Transformer, TransformerBlock
from .storage.tensors import check_finite

PLAIN = {int, float, str}
KINDS: list[Any] = [kind for kind in vars(architecture).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
FORWARDS = {kind: kind.forward for kind in (*KINDS, nn.Linear)}  # the lines that are made fast
FUSED_FROM = 128  # tokens from which fused attention wins on a CPU; measured: equal at 64, a third less time at 512


def fast(
    model: DistilBertForSequenceClassification, dtype: torch.dtype = torch.float32, compile: bool = False
) -> DistilBertForSequenceClassification:
    """A classifier for inference that gives the logits of `model` sooner; `model` itself stays as it is.

    model    in float32, without forward hooks, on the CPU or a GPU; its parameters are shared on the CPU, not copied. What
             changes them in place, there or in the result (an optimizer, load_state_dict), is seen, and they are packed
             again; what writes to `parameter.data` is not, since PyTorch does not count it. Where `model` gets other
             parameters or modules, the result stays what it was
    dtype    what the products are computed in: float32 (the same logits to 1e-5) or bfloat16; on a GPU the whole model
             is cast to it, float16 too
    compile  on a GPU, let torch.compile fuse what is left between the products; the first call then takes long

    The result has the same modules and parameter names, and no gradients. Attention maps come out where model.py's own
    attention ran, below 128 tokens on a CPU, and are None elsewhere; its base model's last_hidden_state holds [CLS] alone
    unless hidden states are asked for. If the processor or this PyTorch cannot pack (see unsupported_reason), a warning says so
    and the Linear layers stay PyTorch's. Raises TypeError or ValueError for a model or a dtype that it cannot take, CheckpointError
    for attention weights that are no numbers.
    """
    if not isinstance(model, DistilBertForSequenceClassification):
        raise TypeError(f"model is a {type(model).__name__}; expected a loaded DistilBertForSequenceClassification.")
    if any(map(hooked, model.modules())):
        raise ValueError("the model has forward hooks, or a forward of another's, which would not run here; remove them.")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError("the model was made under torch.inference_mode, so nobody counts its changes; load it outside of that.")
    weight = model.classifier.weight
    if weight.dtype != torch.float32:
        raise ValueError(f"the model is in {weight.dtype}; load it in float32, and say dtype={weight.dtype} here.")
    on_cpu = weight.device.type == "cpu"
    dtypes = (torch.float32, torch.bfloat16) if on_cpu else (torch.float32, torch.bfloat16, torch.float16)
    if dtype not in dtypes:
        raise ValueError(f"dtype is {dtype!r}; on {weight.device.type}, expected one of {', '.join(map(str, dtypes))}.")
    if compile and on_cpu:
        raise ValueError("compile=True is for a GPU: on a CPU torch.compile cannot see into packed weights; leave it out.")
    reason = unsupported_reason(dtype) if on_cpu else None
    if reason and dtype != torch.float32:
        warnings.warn(f"no {dtype} here: {reason}. The model computes in float32.", stacklevel=2)
        dtype, reason = torch.float32, unsupported_reason()
    if reason:
        warnings.warn(f"no faster products here: {reason}. The Linear layers stay PyTorch's.", stacklevel=2)

    stored = torch.float32 if on_cpu else dtype
    shared = {id(p): nn.Parameter(p.detach().to(stored), requires_grad=False) for p in model.parameters()}
    quick = copy.deepcopy(model, shared).eval()  # new modules around the parameters that `shared` holds
    for module in list(quick.modules()):
        if type(module) is MultiHeadSelfAttention:
            # The fused kernel takes a row of scores that are all -inf for one that is masked, and makes numbers of it.
            check_finite(module.q_lin.state_dict(prefix="q_lin.") | module.k_lin.state_dict(prefix="k_lin."), "the model")
            module.__class__ = FusedAttention  # the same projections, another forward
        if not on_cpu or reason:
            continue
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                follows = getattr(module, "activation", None) if name == "lin1" else None
                gelu = type(follows) is nn.GELU and follows.approximate == "none"
                setattr(module, name, PackedLinear(child, dtype, gelu))
                if gelu:
                    module.activation = GeluInTheProduct(dtype)
    transformer = quick.distilbert.transformer
    if type(transformer) is Transformer and type(transformer.layer[-1]) is TransformerBlock:
        transformer.__class__ = FirstTokenTransformer
    if compile:
        quick.distilbert.transformer.compile(dynamic=True)
    return quick


def hooked(module: nn.Module) -> bool:
    """Whether a call of the module does something beside what its class's forward did when this file was imported."""
    kind: Any = type(module)
    hooks = module._forward_hooks or module._forward_pre_hooks or of_all._global_forward_hooks or of_all._global_forward_pre_hooks
    return bool(hooks or "forward" in vars(module) or kind.forward is not FORWARDS.get(kind, kind.forward))


def state_of(model: nn.Module) -> list[Any]:
    """What differs after whatever changes the numbers that a model computes, `parameter.data` written to apart."""
    state: list[Any] = [_fused_steps]
    modules: list[nn.Module | None] = [model]  # nn.Module.modules(), in a third of its time: it is asked before each batch
    for module in modules:
        if module is not None:
            state += module, type(module), hooked(module)
            state += [value for value in vars(module).values() if type(value) in PLAIN]  # such as eps
            for parameter in module._parameters.values():
                state += _version(parameter) if parameter is not None else ()
            modules += module._modules.values()
    return state


def _version(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor lies, and how often PyTorch has seen it changed in place; views and detached tensors share that counter."""
    counted = -1 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), counted, _fused_steps


def _count_a_fused_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    global _fused_steps
    _fused_steps += any(group.get("fused") for group in optimizer.param_groups)


_fused_steps = 0  # of any optimizer: PyTorch does not count what a fused one changes
register_optimizer_step_post_hook(_count_a_fused_step)


def unsupported_reason(dtype: torch.dtype = torch.float32) -> str | None:
    """None where products of this dtype can be packed on this CPU; else the reason, in words.

    The operators are those that PyTorch's own compiler emits for frozen weights. They are not in its documentation, so they
    are looked for and tried on a small product before anything relies on them.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this PyTorch was built without oneDNN"
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return f"PyTorch {torch.__version__} lacks oneDNN's packed Linear"
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this processor has no instructions for bfloat16"
    layer, x = nn.Linear(64, 32), torch.linspace(-1, 1, 5 * 64).view(5, 64)
    layer.weight.data = torch.linspace(-1, 1, 32 * 64).sin().view(32, 64)
    layer.bias.data = torch.linspace(-1, 1, 32)
    try:
        with torch.no_grad():
            packed, plain = PackedLinear(layer, dtype, gelu=True)(x).float(), F.gelu(layer(x))
    except RuntimeError as error:
        return f"oneDNN's packed Linear fails ({str(error).splitlines()[0]})"
    if not torch.allclose(packed, plain, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.3):
        return "oneDNN's packed Linear gives other numbers"
    return None


class PackedLinear(nn.Module):
    """nn.Linear with the weights in the order in which oneDNN reads them, and GELU on its result where asked.

    x       (..., in)    float32 or `dtype`, on the CPU; anything else takes PyTorch's own way, in the parameters' dtype,
                         without GELU
    return  (..., out)   the dtype of x; with GELU it is `dtype`, which the next product wants: the widest layer is not
                         rewritten in float32 and back
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32, gelu: bool = False):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias  # as the checkpoint has them: names, state_dict and float64 stay
        self.dtype, self.gelu = dtype, gelu
        self.packed: tuple[Tensor, Tensor, Any, Any] | None = None
        self.pack()

    def pack(self) -> tuple[Tensor, Tensor]:
        """The packed weights and the bias, anew where these have changed."""
        packed, state = self.packed, (_version(self.weight), _version(self.bias))
        if packed is None or packed[2] != state:
            kept = self.weight.detach(), self.bias.detach()  # while they are kept, no others can lie in their place
            weight, bias = (one.to(self.dtype) for one in kept)
            self.packed = packed = torch.ops.mkldnn._reorder_linear_weight(weight), bias, state, kept
        return packed[:2]

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype not in (torch.float32, self.dtype) or x.device.type != "cpu":  # oneDNN has no float64
            return F.linear(x, self.weight, self.bias)
        weight, bias = self.pack()
        follows, exact = ("gelu", "none") if self.gelu else ("none", "")  # GELU with algorithm "none" is the exact one
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), weight, bias, follows, [], exact)
        return output if self.gelu else output.to(x.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": None}  # it cannot be copied: a copy packs its own, at its first call


class GeluInTheProduct(nn.GELU):
    """Stands where GELU stood, behind a PackedLinear of this dtype, which applies it unless it takes PyTorch's own way."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden if hidden.dtype == self.dtype and hidden.device.type == "cpu" else super().forward(hidden)


class FusedAttention(MultiHeadSelfAttention):
    """Self-attention that never writes its map, where the map would be large. Shapes as in the original; the map is None then."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Any]:
        if hidden_states.shape[1] < FUSED_FROM and hidden_states.device.type == "cpu":
            return super().forward(hidden_states, attention_mask)
        return self.gather(hidden_states, hidden_states, attention_mask), None

    def gather(self, looking: Tensor, hidden_states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """What the tokens `looking`, (batch, query, dim), gather from all of them, (batch, tokens, dim): (batch, query, dim)."""
        queries = self._heads(self.q_lin(looking))          # (batch, heads, query, head_dim)
        keys = self._heads(self.k_lin(hidden_states))       # (batch, heads, key, head_dim)
        values = self._heads(self.v_lin(hidden_states))     # (batch, heads, key, head_dim)
        visible = None if attention_mask is None else attention_mask[:, None, None, :] != 0     # (batch, 1, 1, key)
        context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)      # (batch, heads, query, head_dim)
        output: Tensor = self.out_lin(context.transpose(1, 2).flatten(2))                       # (batch, query, dim)
        return output

    def _heads(self, tensor: Tensor) -> Tensor:
        return tensor.view(*tensor.shape[:2], self.n_heads, self.head_dim).transpose(1, 2)


class FirstTokenTransformer(Transformer):
    """The blocks, of whose last only the first token is computed, unless all of it is asked for.

    return  BaseModelOutput; last_hidden_state is (batch, 1, dim) then
    """

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None,
        output_hidden_states: bool = False, output_attentions: bool = False,
    ) -> BaseModelOutput:
        last: Any = self.layer[-1]
        whole = output_hidden_states or output_attentions or hooked(last) or hooked(last.attention)
        if whole or not isinstance(last.attention, FusedAttention):
            return super().forward(hidden_states, attention_mask, output_hidden_states, output_attentions)
        for block in self.layer[:-1]:
            hidden_states, _ = block(hidden_states, attention_mask)                # (batch, tokens, dim)
        first = hidden_states[:, :1]                                               # (batch, 1, dim)  [CLS]
        attn_output = last.attention.gather(first, hidden_states, attention_mask)  # (batch, 1, dim)
        sa_output = last.sa_layer_norm(first + attn_output)                        # (batch, 1, dim)
        output = last.output_layer_norm(sa_output + last.ffn(sa_output))           # (batch, 1, dim)
        return BaseModelOutput(output)
