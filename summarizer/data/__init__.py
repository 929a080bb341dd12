"""From a `data` option to batches of token ids.

    corpus.py       one function that loads any option: splits of the columns id, document, summary
    debsum/ docstrings/ hub.py files.py   where pairs come from
    tokenized.py    text -> token ids, once, in Arrow files of the user's cache
    batches.py collate.py datamodule.py   token ids -> the tensors of a forward pass

Must not know of models' weights, training or clouds.
"""
