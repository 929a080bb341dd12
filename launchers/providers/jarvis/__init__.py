"""JarvisLabs through its official SDK: `wire.py` translates words, `client.py` calls, `provider.py` is the interface."""
