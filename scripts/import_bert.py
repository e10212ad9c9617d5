"""Turns a BERT encoder into a DistilBERT that computes the same hidden states.

    python scripts/import_bert.py WHERE --to FOLDER        WHERE: a folder or a Hub id with a BERT in safetensors

Why that is possible, and how, is told in minibert/bert.py.
"""

import argparse
import sys
from pathlib import Path

from minibert.bert import fold, read_config
from minibert.checkpoint import check_fit, locate, read_tensors, read_tokenizer, save_pretrained
from minibert.model import DistilBertModel


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a BERT encoder into a DistilBERT that computes the same.")
    parser.add_argument("where", help="a folder or a Hub id with config.json, model.safetensors and vocab.txt")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    try:
        folder = locate(args.where, args.revision).folder
        model = DistilBertModel(read_config(folder / "config.json"))
        bert = read_tensors(folder / "model.safetensors")
        tensors = fold({name: tensor.float() for name, tensor in bert.items()})  # half precision would round the sum
        check_fit(model, tensors, folder / "model.safetensors")
        model.load_state_dict(tensors)
        save_pretrained(model, args.to, read_tokenizer(folder))
    except KeyError as error:
        sys.exit(f"import_bert: {args.where} has no tensor {error}; wanted a BERT encoder.")
    except (OSError, ValueError) as error:
        sys.exit(f"import_bert: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{args.to}: {sum(p.numel() for p in model.parameters()):,} parameters; no classification head yet, train.py makes one.")


if __name__ == "__main__":
    main()
