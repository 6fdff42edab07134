"""The one exception for input that cannot be used."""


class InputError(ValueError):
    """Bad input: one line that names the argument, what came, and how to mend it.

    Every room raises it for what a caller can mend; the command turns it into one line on standard
    error and exit code 2. Anything else that escapes is a defect of ours and keeps its traceback.
    """


class DivergenceError(RuntimeError):
    """Training has come to a loss that is not finite; one line with the step, terms, and advice."""
