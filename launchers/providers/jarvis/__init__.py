"""JarvisLabs through its official SDK: `mapping.py` translates words, `client.py` calls, `provider.py` is the interface."""
