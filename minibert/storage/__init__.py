"""Bytes on a disk and on the Hub, checked before anything is made of them.

Read in this order:

    errors.py       the errors of a checkpoint
    messages.py     text for people: shortened, made printable, printed as an error
    files.py        files are read and written completely or not at all
    tensors.py      the tensors of a file, compared strictly with those that a model has
    vocabulary.py   the vocabulary's files, and the tokenizer that is built from them
    client.py       calls of the Hub's client: they end after a stated time, and fail with one sentence
    hub.py          the Hub's files: cached or downloaded, always compared with their hash
"""
