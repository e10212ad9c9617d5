"""The programs that benchmark.py sets beside each other, each made of the same checkpoint folder.

A model here is a function (input_ids, attention_mask) -> logits: int64 tensors (batch, tokens) in, float32 (batch, labels) out.
Making one raises ImportError where its library is not installed, RuntimeError where the processor cannot run it.
"""

import importlib.metadata
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minibert import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    pipeline,
    save_pretrained,
)
from minibert.fast import fast, unsupported_reason

import torch
from torch import Tensor, nn

Model = Callable[[Tensor, Tensor], Tensor]

LIBRARIES = ("torch", "transformers", "tokenizers", "onnxruntime", "onnx", "onnxscript", "openvino", "matplotlib")


def versions() -> dict[str, str]:
    """Library -> its version, or "absent"."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def random_weights(folder: Path, seed: int) -> None:
    """A checkpoint of the full shape: normal weights of deviation 0.02, biases 0, LayerNorm at 1 and 0, drawn from the seed."""
    torch.manual_seed(seed)
    model = DistilBertForSequenceClassification(DistilBertConfig(id2label={0: "NEGATIVE", 1: "POSITIVE"})).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.02)
        elif "orm" not in name:
            nn.init.zeros_(parameter)
    save_pretrained(model, folder, AutoTokenizer.from_pretrained("mini-sst2"))


def plain(folder: Path, device: str = "cpu") -> Model:
    """minibert, model.py as it stands, float32."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).to(device)
    return lambda ids, mask: model(ids, mask).logits


def quick(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Model:
    """minibert, made fast."""
    if device == "cpu" and (reason := unsupported_reason(dtype)):
        raise RuntimeError(reason)
    with torch.inference_mode(False):  # under which fast could not see whether the weights change
        model = fast(AutoModelForSequenceClassification.from_pretrained(folder).to(device), dtype)
    return lambda ids, mask: model(ids, mask).logits.float()


def minibert_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """minibert as people get it, on the CPU; in float32 also where it cannot be made fast, in bfloat16 only where it can."""
    if dtype != torch.float32 and (reason := unsupported_reason(dtype)):
        raise RuntimeError(reason)
    return pipeline(model=folder, device="cpu", dtype=dtype)


def inside(made: Any) -> Model:
    """The model that computes in a minibert pipeline by now."""
    return lambda ids, mask: (made.quick or made.model)(ids, mask).logits.float()


def transformers_model(folder: Path, attention: str, dtype: torch.dtype, device: str = "cpu") -> Model:
    """transformers' classifier; attention is "eager" or "sdpa"."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(folder, attn_implementation=attention, dtype=dtype).to(device).eval()
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits.float()


def transformers_pipeline(folder: Path) -> Any:
    """transformers' own pipeline on the CPU, in float32."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.pipeline("sentiment-analysis", model=str(folder), device="cpu", dtype=torch.float32)


def export(folder: Path) -> Path:
    """Writes the transformers model as ONNX into the folder, with any number of sentences and tokens; once."""
    import onnxscript  # noqa: F401  what PyTorch's exporter needs, named here so that its absence is
    import transformers

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of every library that it could export and does not find
    path = folder / "model.onnx"
    if not path.exists():
        kind = transformers.AutoModelForSequenceClassification
        model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        batch, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=512)
        ids, mask = torch.full((2, 9), 1000), torch.ones(2, 9, dtype=torch.int64)
        torch.onnx.export(
            model, kwargs={"input_ids": ids, "attention_mask": mask}, f=path, output_names=["logits"], dynamo=True,
            dynamic_shapes={"input_ids": {0: batch, 1: tokens}, "attention_mask": {0: batch, 1: tokens}}, verbose=False,
        )  # fmt: skip
    return path


def onnx(folder: Path, threads: int) -> Model:
    """ONNX Runtime on the CPU, float32, all of its graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(export(folder), options, providers=["CPUExecutionProvider"])

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0])

    return run


def openvino(folder: Path, threads: int, precision: str = "f32") -> Model:
    """OpenVINO on the CPU; precision is "f32" or "bf16"."""
    os.environ["OPENVINO_TELEMETRY"] = "0"
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeError("this processor has no bfloat16")
    wanted = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(core.read_model(export(folder)), "CPU", wanted)

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        return torch.from_numpy(compiled({"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0].copy())

    return run
