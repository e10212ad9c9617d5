"""Averages the weights of several fine-tuned runs into one model and stores it in half precision.

    python scripts/average.py RUN [RUN ...] --to FOLDER

Runs that start from one base and one new head (train.py --seed) and differ in the rest, such as the order of the sentences
(--order), end near each other, each with errors of its own. The mean of their weights is one model of the same size and
cost in which part of those errors cancels (Wortsman et al. 2022, arXiv 2203.05482). With heads that started apart it does
not work: unit 7 of the one has nothing to do with unit 7 of the other, and their mean is neither.

float16 halves the file. It keeps 11 significant bits of all but the tiniest weights, far more than a trained weight is sure
of; minibert and transformers compute with it in float32.
"""

from pathlib import Path

from minibert import AutoModelForSequenceClassification, AutoTokenizer, save_pretrained
from minibert.command.exit_status import Parser, run_and_exit
from minibert.storage.tensors import check_finite
from minibert.storage.vocabulary import check_vectors

import torch


def run() -> int:
    parser = Parser(description="Average the weights of several runs, and store them in float16.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that train.py wrote, from one base model")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    models = [AutoModelForSequenceClassification.from_pretrained(run, dtype=torch.float64) for run in args.runs]
    if any(model.config != models[0].config for model in models):
        raise ValueError("the runs differ in config.json; expected runs of one base model.")
    weights = [model.state_dict() for model in models]
    for run, tensors in zip(args.runs, weights, strict=True):
        check_finite(tensors, run)
    mean = {name: torch.stack([each[name] for each in weights]).mean(dim=0) for name in weights[0]}
    models[0].load_state_dict(mean)
    tokenizer = AutoTokenizer.from_pretrained(args.runs[0])
    check_vectors(tokenizer.vocab, models[0].config.vocab_size)
    save_pretrained(models[0].half(), args.to, tokenizer)
    print(f"{args.to}: the mean of {len(models)} runs, in float16")
    return 0


def main() -> None:
    run_and_exit("average", run)


if __name__ == "__main__":
    main()
