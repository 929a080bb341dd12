"""DebSum: the one-line synopsis of Debian packages as summaries of their long descriptions, built at first use.

    archive.py     the package lists of an archive, through the machine's apt or from a mirror
    lists.py       lists -> one description per binary package
    text.py        description -> document and summary
    selection.py   which rows stay, and in which split
    build.py       all of it, into the user's cache

Nothing here knows of models or training. The rules are those of the reference corpus: the same lists give the same rows,
and what the reference leaves out is left out here.
"""
