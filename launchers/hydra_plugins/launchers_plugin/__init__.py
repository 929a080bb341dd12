"""The Hydra side of `launchers`: one thin class and one dataclass config a launcher, nothing else.

Hydra imports every module here at each start of every Hydra app of the environment, and only builds classes defined
here: so no heavy import, and the substance lives in the `launchers` package.
"""
