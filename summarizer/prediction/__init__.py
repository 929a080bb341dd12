"""Texts in, summaries out: reading input, fitting long documents to the model, writing results.

Must not know how the model was trained or evaluated.
"""

from summarizer.prediction.inputs import Document, read_documents
from summarizer.prediction.outputs import write_predictions
from summarizer.prediction.summarize import Prediction, predict_texts

__all__ = ["Document", "Prediction", "predict_texts", "read_documents", "write_predictions"]
