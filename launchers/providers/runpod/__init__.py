"""RunPod over plain HTTPS: `mapping.py` translates words, `client.py` calls, `provider.py` is the interface.

No SDK: the official package `runpod` (1.12) is made for workers that run at RunPod. It requires 18 packages, among them FastAPI
with all extras, boto3 and a terminal prompt, and its calls for pods use the older GraphQL API.
"""
