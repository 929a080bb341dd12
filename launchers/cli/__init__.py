"""`python -m launchers`: one module a family of commands; each can print JSON."""
