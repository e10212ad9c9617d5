"""What happens inside `pipeline("sentiment-analysis")`, one step a cell.

    python scripts/pipeline_explained.py [WHERE]      WHERE: Hub id, folder or mini-sst2

Runs from top to bottom as a script; editors that know `# %%` open it as a notebook. It is the course lab
"Pipeline explained"; what is between the explanations runs on `transformers` too, with that name in the import.
"""

# %%
import sys
import textwrap

from minibert import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, CheckpointError, pipeline


def step(title: str, meaning: str) -> None:
    print(f"\n== {title} ==")
    print(textwrap.fill(" ".join(meaning.split()), 100))
    print()


def ended(kind, error, trace):
    """After Ctrl-C, no traceback; for a script alone, since a notebook does not ask here."""
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(130)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = ended
asked_for = sys.argv[1] if len(sys.argv) == 2 and not sys.argv[0].endswith("ipykernel_launcher.py") else None

# %%
step(
    "1. The pipeline, all in one",
    """A pipeline takes text and gives labels. Its score is the probability that the model gives to the label: 1 means
    sure, 0.5 means that it could as well have said the other. The steps below do the same by hand.""",
)
raw_inputs = [
    "I've been waiting for a HuggingFace course my whole life.",
    "I hate this so much!",
]
try:
    classifier = pipeline("sentiment-analysis", model=asked_for)
except CheckpointError as error:
    sys.exit(f"pipeline_explained: {error}")
by_pipeline = classifier(raw_inputs)
checkpoint = asked_for or classifier.name.split("@")[0]  # without the commit
print(f"model: {classifier.name}")
for text, result in zip(raw_inputs, by_pipeline, strict=True):
    print(f"  {result}  {text}")

# %%
import torch

torch.set_printoptions(sci_mode=False, linewidth=100)
step(
    "2. Tokenizer: from text to numbers",
    """The tokenizer cuts each sentence into pieces of its vocabulary, puts [CLS] before and [SEP] after them, and looks up
    their ids. The shorter sentence is filled up with [PAD] so that both fit into one tensor; attention_mask has a 0
    wherever that was done, and the model will not look there.""",
)
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
inputs = tokenizer(raw_inputs, padding=True, truncation=True, return_tensors="pt")
print(inputs)
for row in inputs["input_ids"]:
    print(" ".join(tokenizer.convert_ids_to_tokens(row)))

# %%
step(
    "3. Base model: from numbers to meaning",
    """The base model turns each token into a vector of `dim` numbers that depends on the whole sentence: the same word
    in another sentence gets another vector. The axes are (batch, tokens, dim); none of the numbers has a name, what
    they stand for was learnt.""",
)
model = AutoModel.from_pretrained(checkpoint)
with torch.no_grad():
    outputs = model(**inputs)
print("last_hidden_state", tuple(outputs.last_hidden_state.shape))
print(outputs.last_hidden_state[:, 0, :4], " <- [CLS] of each sentence, its first four numbers")

# %%
step(
    "4. Classifier: from meaning to scores",
    """The classification head takes the vector of [CLS] alone and makes one number per label out of it, the logits. They
    can be any number; only which one is larger, and by how much, means something. The axes are (batch, labels).""",
)
classification_model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
with torch.no_grad():
    outputs = classification_model(**inputs)
print("logits", tuple(outputs.logits.shape))
print(outputs.logits)

# %%
step(
    "5. Softmax: from scores to probabilities",
    """Softmax is exp(logit) divided by the sum of all exp(logit) of the sentence: every number becomes positive and each
    row sums to 1. A logit that is larger by d is exp(d) times as probable.""",
)
predictions = torch.nn.functional.softmax(outputs.logits, dim=-1)
print(predictions)

# %%
step(
    "6. id2label: from probabilities to words",
    """The columns are labels, named in the checkpoint's config.json. The label with the highest probability is the answer,
    and the probability is its score: what the pipeline said in step 1.""",
)
print(classification_model.config.id2label)
for text, row, expected in zip(raw_inputs, predictions, by_pipeline, strict=True):
    best = int(row.argmax())
    print(f"  {classification_model.config.id2label[best]} {row[best]:.7f}  (the pipeline: {expected['score']:.7f})  {text}")
