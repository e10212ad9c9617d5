"""Turns a BERT encoder into a DistilBERT that computes the same hidden states.

    python scripts/import_bert.py WHERE --to FOLDER        WHERE: a folder or a Hub id with a BERT in safetensors

Why that is possible, and how, is told in minibert/bert.py.
"""

from pathlib import Path

from minibert.bert import fold, read_config
from minibert.checkpoint import locate, read_tokenizer, save_pretrained
from minibert.command.exit_status import Parser, run_and_exit
from minibert.model import DistilBertModel
from minibert.storage.files import path_inside
from minibert.storage.tensors import FLOATS, check_finite, check_fit, read_weights, weights_of
from minibert.storage.vocabulary import check_vectors


def run() -> int:
    parser = Parser(description="Turn a BERT encoder into a DistilBERT that computes the same.")
    parser.add_argument("where", help="a folder or a Hub id with config.json, model.safetensors and vocab.txt")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    folder = locate(args.where, args.revision).folder
    model = DistilBertModel(read_config(path_inside(folder, "config.json")))
    weights = weights_of(folder)
    bert = read_weights(weights)
    # Half precision would round the sum; what is not a floating-point number is left for check_fit to refuse.
    try:
        tensors = fold({name: tensor.float() if tensor.dtype in FLOATS else tensor for name, tensor in bert.items()})
    except KeyError as error:
        raise ValueError(f"{args.where} has no tensor {error}; expected a BERT encoder.") from error
    check_fit(model, tensors, weights)
    check_finite(tensors, weights)
    model.load_state_dict(tensors)
    tokenizer = read_tokenizer(folder)
    check_vectors(tokenizer.vocab, model.config.vocab_size)
    save_pretrained(model, args.to, tokenizer)
    print(f"{args.to}: {sum(p.numel() for p in model.parameters()):,} parameters; no classification head yet, train.py makes one.")
    return 0


def main() -> None:
    run_and_exit("import_bert", run)


if __name__ == "__main__":
    main()
