"""What goes wrong with a checkpoint. Each message says in one sentence what came, what was expected and what to do."""


class CheckpointError(OSError):
    """A checkpoint that cannot be had or cannot be used; the message says in one sentence what to do."""


class HubUnreachable(CheckpointError):
    """Neither in the cache nor to be had, because nobody answers in the Hub's name."""


class NoSuchFile(CheckpointError):
    """The repository is there, the file is not."""


class CorruptDownload(CheckpointError):
    """What arrived is not what the Hub states; the next try may be better."""


class TransientHubError(HubUnreachable):
    """The Hub is busy or down, or the connection broke; the next try may be better."""

    pause = 0.0  # seconds that the Hub asks us to wait


class HubTimeout(HubUnreachable):
    """The seconds are over, and the client has not returned."""
