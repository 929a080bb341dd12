"""Docstrings of the installed Python packages: the first line as summary of the body. No network, any machine.

    installed.py   which packages are there, and the docstrings in their source
    text.py        docstring -> document and summary
    selection.py   which rows stay, and in which split
    build.py       all of it, into the user's cache

Nothing here knows of models or training, and nothing is imported from the packages: their source is only parsed.
"""
