"""Training and summarizing without padding: documents laid end to end in packs of one static shape.

Holds: which documents share a pack (`planning`), a pack's tensors (`collate`), attention that stays within a document
(`attention` and its back ends), the packed forward passes over the unchanged weights of transformers' models
(`anatomy`, `layers`, `seq2seq`, `causal`), the loss that never holds all logits (`cross_entropy`), one CUDA graph of a
step (`graphs`, whose gradients `gradients` hands over), and beam search over a packed encoder (`beam_search`).

Must not know: where documents come from, Lightning, the composed config. Everything takes plain values.

Names of sizes in docstrings: S source tokens of a pack, T target tokens, N document slots, H heads, D width of a head,
V vocabulary. A document's rows are `offsets[i]:offsets[i + 1]`.
"""
