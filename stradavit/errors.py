"""The errors a user can cause, each saying what was found, where, what was expected, what to do."""


class StradavitError(Exception):
    """Base of all errors the command line prints as one message instead of a traceback."""


class SettingsError(StradavitError):
    """The configuration is wrong; the message lists every fault with its dotted path."""


class DataError(StradavitError):
    """A file is missing, damaged, or not what its name promises."""


class DiskError(StradavitError):
    """The system refuses to read or write a file; the message names it and says what to do."""


class MalformedProductError(DataError):
    """A product cannot be cut; `reason` is the short name it is counted under.

    Parameters
    ----------
    reason : one of `stradavit.cutouts.fits.SKIP_REASONS`
    detail : what was found and where, for the log
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class LabelError(DataError):
    """Labels and images of a benchmark do not fit together."""


class TrainingError(StradavitError):
    """A run cannot go on: a non-finite loss, or a checkpoint that belongs to other settings."""
