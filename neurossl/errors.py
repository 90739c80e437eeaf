"""What can go wrong, in one hierarchy.

Every message is one line: what is wrong, where, and what would be right. An error is also the built-in one that a Python
user expects (``ValueError``, ``ImportError``, ``ArithmeticError``). The command line prints the message and exits
with ``exit_status``: 2 for something that the user can put right before starting, 1 for a run that could not finish.
"""


class NeurosslError(Exception):
    """Base of everything that neurossl raises on purpose."""

    exit_status = 2


class OptionError(NeurosslError, ValueError):
    """An option, name or value that does not exist or does not fit."""


class MissingLibrary(NeurosslError, ImportError):
    """A library that is not installed: reading and analysing need few, simulating needs more."""


class NetworkError(NeurosslError, ValueError):
    """Populations and pathways that cannot be joined as described."""


class StimulusError(NeurosslError, ValueError):
    """A data set or image folder that cannot be shown."""


class EventError(NeurosslError, ValueError):
    """A moment that lacks what the rule waits for, or whose rows do not match."""


class LocalityError(NeurosslError, RuntimeError):
    """A rule reached for information that it has not declared in ``needs``."""


class TrajectoryError(NeurosslError, ValueError):
    """A stored run that is missing, damaged or inconsistent."""


class StorageError(NeurosslError):
    """A run that could not be written any further (disk full, folder gone)."""

    exit_status = 1


class DivergenceError(NeurosslError, ArithmeticError):
    """NaN or infinity during learning."""

    exit_status = 1


class Interrupted(NeurosslError, KeyboardInterrupt):
    """A signal asked for the end of a run, which has been stored up to the last moment.

    Parameters
    ----------
    message : str
    number : int
        Of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + number
