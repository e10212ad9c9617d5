"""How often a checkpoint is right, on a GLUE file with the columns `sentence` and `label`.

    python scripts/evaluate.py --model mini-sst2 --data ../shared/data/SST-2/dev.tsv

accuracy    share of right answers
precision   of the sentences called POSITIVE, the share that is
recall      of the sentences that are POSITIVE, the share that was called so
F1          their harmonic mean, 2 * precision * recall / (precision + recall)
loss        mean cross-entropy, -ln(probability given to the right label), in nats; what training makes small

With n sentences an accuracy of p is uncertain by a standard error of sqrt(p (1 - p) / n): 0.010 on SST-2's dev set.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from minibert import pipeline
from minibert.command.exit_status import Parser, run_and_exit


def read_glue(path: Path) -> tuple[list[str], list[int]]:
    """Sentences and labels of a GLUE file. Raises OSError or ValueError where it is none."""
    with path.open("rb") as file:
        reader = csv.DictReader(decoded(file, path), delimiter="\t", quoting=csv.QUOTE_NONE)
        sentences, labels = [], []
        try:
            for row in reader:
                if not row.get("sentence") or row.get("label") not in ("0", "1"):
                    raise csv.Error("it has no sentence with a label 0 or 1; expected the columns sentence and label")
                sentences.append(row["sentence"].strip())
                labels.append(int(row["label"]))
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num} of {path} cannot be read: {error}.") from error
    if not sentences:
        raise ValueError(f"{path} holds no sentences; expected the columns sentence and label, tab-separated.")
    return sentences, labels


def decoded(file: Iterable[bytes], path: Path) -> Iterator[str]:
    """The lines, one by one, so that a bad one is known by its number."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"line {number} of {path} is not UTF-8 (byte {error.start + 1}); save it as UTF-8.") from error


def measure(right: list[int], positive: list[float]) -> dict[str, float]:
    """The figures, from the right labels (0 or 1) and the probability of label 1 that was given to each."""
    called = [int(p > 0.5) for p in positive]
    pairs = list(zip(right, called, strict=True))
    table = {(r, c): pairs.count((r, c)) for r in (0, 1) for c in (0, 1)}  # (is, was called): sentences
    precision = table[1, 1] / max(1, table[1, 1] + table[0, 1])
    recall = table[1, 1] / max(1, table[1, 1] + table[1, 0])
    given = [p if r else 1 - p for r, p in zip(right, positive, strict=True)]
    return {
        "sentences": len(right),
        "accuracy": (table[0, 0] + table[1, 1]) / len(right),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(1e-12, precision + recall),
        "loss": sum(-math.log(max(p, 1e-12)) for p in given) / len(given),
        "true_negative": table[0, 0],
        "false_positive": table[0, 1],
        "false_negative": table[1, 0],
        "true_positive": table[1, 1],
    }


def run() -> int:
    parser = Parser(description="Accuracy and its kin of a checkpoint on a GLUE file.")
    parser.add_argument("--model", help="Hub id, folder or mini-sst2; by default the Hub's SST-2 checkpoint")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--data", type=Path, required=True, help="GLUE file, such as dev.tsv")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    args = parser.parse_args()
    sentences, labels = read_glue(args.data)
    classifier = pipeline(model=args.model, revision=args.revision, top_k=None)
    names = classifier.model.config.id2label
    if len(names) != 2:
        raise ValueError(f"{classifier.name} has {len(names)} labels; the figures here are for two, 0 and 1.")
    scores = [{s["label"]: s["score"] for s in result} for result in classifier(sentences)]
    found = measure(labels, [score[names[1]] for score in scores])
    if args.json:
        print(json.dumps({"model": classifier.name, "data": args.data.name, **found}))
        return 0
    print(f"{classifier.name} on {args.data.name}, {found['sentences']} sentences")
    for figure in ("accuracy", "precision", "recall", "f1", "loss"):
        print(f"  {figure:<10}{found[figure]:.4f}")
    width = max(len(name) for name in names.values()) + 2
    print(f"\n  {'':<{width}}called {names[0]}   called {names[1]}")
    for name, cells in ((names[0], ("true_negative", "false_positive")), (names[1], ("false_negative", "true_positive"))):
        row = [f"{found[cell]:>{len('called ') + len(label)}}" for cell, label in zip(cells, names.values(), strict=True)]
        print(f"  {name:<{width}}{'   '.join(row)}")
    return 0


def main() -> None:
    run_and_exit("evaluate", run)


if __name__ == "__main__":
    main()
