"""The project's exceptions: what a user can mend, said in one line."""


class TrackerError(Exception):
    """Base of all errors whose message names the file or key and the remedy."""


class InputError(TrackerError):
    """Bad input: a missing or damaged file, an unknown config key, a value out of range (exit code 1)."""


class SubjectError(TrackerError):
    """A subject could not be tracked although its input is well formed, e.g. no face in the video (exit code 2)."""
