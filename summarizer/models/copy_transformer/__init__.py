"""The default model: a small transformer, trained from scratch, that can copy from the document.

Importing the package registers it with transformers' Auto classes. Must not know corpora, training or job folders.
"""

from transformers import AutoConfig, AutoModelForSeq2SeqLM

from summarizer.models.copy_transformer.configuration_copy_transformer import CopyTransformerConfig
from summarizer.models.copy_transformer.modeling_copy_transformer import CopyTransformerForConditionalGeneration

AutoConfig.register(CopyTransformerConfig.model_type, CopyTransformerConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(CopyTransformerConfig, CopyTransformerForConditionalGeneration, exist_ok=True)
# the code is saved beside the weights: a model folder loads (trust_remote_code) where the project is not installed
CopyTransformerConfig.register_for_auto_class()
CopyTransformerForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")

__all__ = ["CopyTransformerConfig", "CopyTransformerForConditionalGeneration"]
