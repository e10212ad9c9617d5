"""Fine-tunes a base model on a GLUE folder.

    python scripts/train.py --base FOLDER --data ../shared/data/SST-2 --to FOLDER

In the order of this file: read and hold out -> batches of like length -> steps -> score on what was held out.

A step is forward, loss, backward, clipping, AdamW. The learning rate climbs for the first tenth of the steps and then
falls to 0; matrix products are computed in bfloat16; the model that is judged and kept is a running average of the
weights, which is steadier than the last ones. At every step, some words are hidden behind [MASK], others each time, so that
the sentence is learnt and not its words by heart.

dev.tsv is never opened: whoever chooses settings or an epoch by it has no honest figure left. The choice is made on
whole sentences held out of train.tsv, together with every phrase that stands in them, since SST-2's training set holds
each sentence along with its own pieces.

Sources: Loshchilov and Hutter 2017 (arXiv 1711.05101) for AdamW; Devlin et al. 2018 (arXiv 1810.04805), appendix A.3,
for the recipe; Polyak and Juditsky 1992 for averaging.
"""

import argparse
import math
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from minibert import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertForSequenceClassification,
    DistilBertTokenizer,
    save_pretrained,
)
from minibert.command.exit_status import Parser, run_and_exit
from minibert.storage.files import write_atomically
from minibert.storage.messages import print_error
from minibert.storage.tensors import check_finite
from minibert.storage.vocabulary import check_vectors

import torch
import torch.nn.functional as F
from evaluate import read_glue
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

LABELS = ("NEGATIVE", "POSITIVE")
Example = tuple[list[int], int]  # token ids and label


def hold_out(texts: list[str], count: int) -> tuple[list[int], list[int]]:
    """Row numbers to train on and row numbers to judge by: `count` whole sentences, and none of their pieces in training."""
    whole, joined = [], ""
    for text in sorted({text for text in texts if len(text.split()) >= 10}, key=lambda text: (-len(text), text)):
        if f" {text} " not in joined:  # else it is a piece of a longer one
            whole.append(text)
            joined += f"\n {text} "
    if not 0 <= count <= len(whole):
        there = f"there are {len(whole)} whole sentences of ten words or more, and 0 trains on all"
        raise ValueError(f"--hold-out {count} does not fit; {there}.")
    held = set(random.Random(0).sample(whole, count))
    pieces = "\n".join(f" {text} " for text in held)
    kept = [row for row, text in enumerate(texts) if f" {text} " not in pieces]
    return kept, [row for row, text in enumerate(texts) if text in held]


def batches(examples: list[Example], size: int, seed: int) -> list[list[Example]]:
    """Shuffled batches of sentences of like length, so that little work is spent on padding; the same for the same seed."""
    order = random.Random(seed)
    shuffled = order.sample(examples, len(examples))
    made = []
    for start in range(0, len(shuffled), 50 * size):
        alike = sorted(shuffled[start : start + 50 * size], key=lambda example: len(example[0]))
        made += [alike[i : i + size] for i in range(0, len(alike), size)]
    order.shuffle(made)
    return made


def as_tensors(batch: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """input_ids and attention_mask (batch, tokens), labels (batch)."""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in batch])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in batch])
    return ids, mask, torch.tensor([label for _, label in batch])


@torch.no_grad()
def probabilities(model: nn.Module, examples: list[Example]) -> Tensor:
    """(examples, labels), computed in order of length and given back in the order that came."""
    model.eval()
    order = sorted(range(len(examples)), key=lambda row: len(examples[row][0]))
    result = torch.empty(len(examples), len(LABELS))
    for start in tqdm(range(0, len(order), 64), desc="held out", leave=False, disable=None):
        rows = order[start : start + 64]
        ids, mask, _ = as_tensors([examples[row] for row in rows])
        result[rows] = model(ids, mask).logits.softmax(dim=-1)
    return result


def judge(model: nn.Module, examples: list[Example]) -> tuple[float, float]:
    """Accuracy and mean cross-entropy in nats."""
    given, right = probabilities(model, examples), torch.tensor([label for _, label in examples])
    accuracy = (given.argmax(-1) == right).float().mean()
    return accuracy.item(), F.nll_loss(given.clamp(min=1e-9).log(), right).item()


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForSequenceClassification.from_pretrained(args.base, new_head=LABELS)
    check_vectors(tokenizer.vocab, model.config.vocab_size)
    check_finite(model.state_dict(), args.base)
    texts, labels = read_glue(args.data / "train.tsv")
    ids = tokenizer(texts, truncation=True, max_length=min(128, model.config.max_position_embeddings))["input_ids"]
    examples: list[Example] = list(zip(ids, labels, strict=True))
    kept, held = hold_out(texts, args.hold_out)
    judged = [examples[row] for row in held]
    examples = [examples[row] for row in kept]

    steps_an_epoch = len(batches(examples, args.batch, seed=0))
    steps = args.epochs * steps_an_epoch
    warm_up = max(1, min(steps // 10, steps_an_epoch - 1))
    model.distilbert.embeddings.word_embeddings.requires_grad_(not args.freeze_words)
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() > 1]
    vectors = [p for p in trained if p.dim() == 1]  # biases and LayerNorms, which are not to decay
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up))
    )
    horizon = max(1, steps // 10)  # the average forgets what is this many steps ago
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / horizon))
    state = {"model": model, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    saved = args.to / "training.pt"
    best, total, done, log = -1.0, 0.0, 0, ""
    if not args.resume:
        saved.unlink(missing_ok=True)
    elif not saved.exists():
        tqdm.write(f"{args.to} holds no state to resume from; the run starts at its beginning.")
    else:
        found = load_state(saved, args)
        for name, part in state.items():
            part.load_state_dict(found[name])
        best, total, done, log = found["best"], found["total"], found["done"], found["log"]
        torch.set_rng_state(found["random"])
    prove_that_it_can_save(averaged.module, tokenizer, args.to)
    save_state(saved, state, args, best=best, total=total, done=done, log=log)
    load_state(saved, args)
    check_room(saved, averaged.module, optimizer)

    special = torch.tensor(tokenizer.all_special_ids)
    bar = tqdm(total=steps, initial=done, unit="step", mininterval=1, disable=None)
    while done < steps:
        epoch, start = divmod(done, steps_an_epoch)
        for batch in batches(examples, args.batch, seed=1000 * args.order + epoch)[start:]:
            model.train()
            input_ids, mask, right = as_tensors(batch)
            hidden = (torch.rand(input_ids.shape) < args.mask_tokens) & ~torch.isin(input_ids, special)
            input_ids = input_ids.masked_fill(hidden, tokenizer.vocab["[MASK]"])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids, mask).logits
            loss = F.cross_entropy(logits.float(), right)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if done >= warm_up:  # the first steps are too far from where it ends
                averaged.update_parameters(model)
            total, done = total + loss.item(), done + 1
            if not math.isfinite(total):
                raise ValueError(f"at step {done} the loss was no finite number any more; begin again with a smaller --lr.")
            bar.update()
            if done % args.save_every == 0 and done % steps_an_epoch:
                save_state(saved, state, args, best=best, total=total, done=done, log=log)
        report = f"epoch {epoch + 1}: training loss {total / steps_an_epoch:.4f}"
        if judged:
            accuracy, held_out_loss = judge(averaged.module, judged)
            report += f", held out: accuracy {accuracy:.4f}, loss {held_out_loss:.4f}"
        if not judged or accuracy > best:
            best = accuracy if judged else best
            save_pretrained(averaged.module, args.to, tokenizer)
            report += ", kept"
        tqdm.write(report)
        log += report + "\n"
        write_atomically(args.to / "log.txt", log.encode())
        total = 0.0
        save_state(saved, state, args, best=best, total=total, done=done, log=log)
    bar.close()


def prove_that_it_can_save(model: DistilBertForSequenceClassification, tokenizer: DistilBertTokenizer, to: Path) -> None:
    """Saves a checkpoint where the run will keep its own, reads it back and removes it: hours must not end in an error."""
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=to) as folder:
        save_pretrained(model, folder, tokenizer)
        read = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
        AutoTokenizer.from_pretrained(folder)
        for name, tensor in model.state_dict().items():
            if not torch.equal(tensor, read[name]):
                raise OSError(f"{name} is another one when it is read back from {to}; expected a disk that keeps what is written.")


def check_room(saved: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raises OSError where the disk has no room for the most that lies there at once: a checkpoint, a state, and the next state."""
    checkpoint = sum(parameter.nbytes for parameter in model.parameters())
    trained = sum(parameter.nbytes for group in optimizer.param_groups for parameter in group["params"])
    state = saved.stat().st_size + (0 if optimizer.state else 2 * trained)  # AdamW's two averages come with the first step
    there = sum(path.stat().st_size for path in (saved, saved.with_name("model.safetensors")) if path.exists())
    wanted, free = checkpoint + 2 * state - there, shutil.disk_usage(saved.parent).free
    if free < wanted:
        raise OSError(
            f"{saved.parent} has {free / 1e6:,.1f} MB free, and the run wants {wanted / 1e6:,.1f} MB more: "
            "for a checkpoint, a state, and the next state before the old one goes."
        )


def settings_of(args: argparse.Namespace) -> str:
    """What has to be the same for a run to be the same."""
    names = ("base", "data", "epochs", "lr", "batch", "seed", "order", "hold_out", "mask_tokens", "freeze_words")
    return ", ".join(f"{name} {getattr(args, name)}" for name in names)


def load_state(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What save_state wrote. Raises ValueError where the file is damaged or belongs to another run."""
    try:
        found = torch.load(path, weights_only=True)
        settings = found["settings"]
    except Exception as error:  # whatever a damaged file makes torch.load raise
        raise ValueError(f"{path} is not a state of a training run ({error}); start again without --resume.") from error
    if settings != settings_of(args):
        raise ValueError(f"{path} was made with other settings, {settings}; give the same ones to resume.")
    return found


def save_state(path: Path, state: dict[str, Any], args: argparse.Namespace, **progress: Any) -> None:
    """Everything that the next step depends on, in one file that is there whole or not at all."""
    content = {name: part.state_dict() for name, part in state.items()} | progress
    content |= {"random": torch.get_rng_state(), "settings": settings_of(args)}

    def write(file: BinaryIO) -> None:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a write that failed, of which PyTorch says something else
                raise error.__context__ from error
            raise

    write_atomically(path, write)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def rate(text: str) -> float:
    if not 0 < (number := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate; expected a number above 0")
    return number


def share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; expected a number from 0 to 1")
    return number


def run() -> int:
    parser = Parser(description="Fine-tune a base model on a GLUE folder.")
    parser.add_argument("--base", required=True, help="base model: a folder or a Hub id")
    parser.add_argument("--data", type=Path, required=True, help="GLUE folder with train.tsv")
    parser.add_argument("--to", type=Path, required=True, help="folder for the classifier, the log and the state to resume from")
    parser.add_argument("--epochs", type=positive, default=3)
    parser.add_argument("--lr", type=rate, default=5e-5, help="highest learning rate")
    parser.add_argument("--batch", type=positive, default=32, help="sentences a step")
    parser.add_argument("--seed", type=int, default=1, help="of the new head and of dropout; runs to be averaged share it")
    parser.add_argument("--order", type=int, default=1, help="seed of the order in which the sentences come")
    parser.add_argument("--hold-out", type=int, default=500, help="sentences of train.tsv to judge by; 0 trains on all")
    parser.add_argument("--mask-tokens", type=share, default=0.15, help="share of the words that are hidden behind [MASK]")
    parser.add_argument("--freeze-words", action="store_true", help="leave the word vectors as the base model has them")
    parser.add_argument("--save-every", type=positive, default=500, help="steps between two saved states")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --to")
    args = parser.parse_args()
    try:
        args.to.mkdir(parents=True, exist_ok=True)
        train(args)
    except KeyboardInterrupt:
        print_error(f"train: interrupted; --resume goes on from the last state saved in {args.to}.")
        raise
    return 0


def main() -> None:
    run_and_exit("train", run)


if __name__ == "__main__":
    main()
