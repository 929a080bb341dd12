"""Texts in, summaries out: reading input, fitting long documents to the model, writing results.

Must not know how the model was trained or evaluated.
"""
