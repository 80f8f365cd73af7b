"""One exception tree that says whose fault it was.

`ConfigError` is the operator's, `RecordError` is the writer's of a registry record, `RegistryError` is etcd's or the
network's on the way to it, `DockerError` is the Docker daemon's, `ProxyHeaderError` is that of whoever connected to us,
`IllegalStepError` is ours. Edges translate foreign errors into these and keep the cause.
"""


class AmbassadorError(Exception):
    """Root of everything this project raises on purpose."""


class ConfigError(AmbassadorError):
    """An argument or environment variable cannot be used. Ends the program with exit code 2.

    `option` is what the operator typed or should have typed (`--park`, `AMB_PARK`, `PORT`).
    """

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"{option}: {why}")
        self.option = option


class RecordError(AmbassadorError):
    """A registry record was refused. `reason` is a short slug from a fixed set, usable as a metric label.

    `detail` may quote the record, so it is cut: a hostile one shall not fill logs and memory with its refusal.
    """

    LONGEST = 300  # characters of detail; our own words take less than half

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail if len(detail) <= self.LONGEST else detail[: self.LONGEST] + '…'}")
        self.reason = reason


class RegistryError(AmbassadorError):
    """Something between us and etcd; the subclasses say what to do about it."""


class RegistryUnavailableError(RegistryError):
    """No answer worth having from this endpoint: try the next one. A write's outcome is unknown."""


class RegistryDeniedError(RegistryError):
    """Credentials or permissions are wrong: retrying soon is useless, somebody must act."""


class RegistryRefusedError(RegistryError):
    """etcd answered that this request cannot be served (no space, too large): existing state stays, retry slowly."""


class CompactedError(RegistryError):
    """The revision asked for is gone (or not there yet): list anew."""


class LeaseLostError(RegistryError):
    """The lease does not exist any more: grant another and put every owned key again."""


class DockerError(AmbassadorError):
    """The Docker daemon cannot be reached or answered with an error."""


class ProxyHeaderError(AmbassadorError):
    """What came first on a connection is not the PROXY protocol, which it has to be there."""


class IllegalStepError(AmbassadorError):
    """A state machine was asked for a step its table does not have: a defect of ours."""
