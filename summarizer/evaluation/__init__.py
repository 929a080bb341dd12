"""What a summary is worth: generation, ROUGE with intervals, baselines, text statistics, the tables a person reads.

Must not know how a model was trained, where its data came from, or which machine it runs on.
"""
