"""What edge-fleet can refuse.

FleetError                       every refusal; its text is one line: found, expected, what to do
 +- RequestInvalid               a request that does not parse or does not fit              400
 |   +- ReleaseInvalid           bundles that do not make one release                      400
 +- Unauthorized                 no token, or one that is not known                        401
 +- Forbidden                    a token whose role does not allow this                    403
 |   +- LoginRefused             an identity provider's word that does not let anybody in  403
 +- NotFound                     a device, release, archive ... that is not there          404
 +- Conflict                     true already, or true of something else                   409
 +- TooLarge                     a body over its limit                                     413
 +- TooManyAttempts              failed too often; wait                                    429
 +- ProviderUnreachable          an identity provider that does not answer as one          503
 +- HomeInvalid                  a server home that is absent, damaged or in use
 |   +- DatabaseTooNew           written by a later release of edgefleet
 |   +- DatabaseMixed            tables that are not those of the revision that it says it has
 +- BackupInvalid                a backup that is not whole, not opened, or cannot be written
 +- MigrationFailed              the database could not be brought to this release's schema
 +- DatabaseUnreachable          the database does not answer, or the URL is wrong
 +- AuditBroken                  an audit log that is not as it was written
 +- BrokerFailed                 the broker does not start, or does not do what it must
 +- AddressInUse                 a port that another program holds
 +- ServerUnreachable            the CLI finds no server, or what it finds is not one
 +- NotReady                     a server that serves, and cannot do its work
 +- RolloutNotDone               a rollout that was waited for ends otherwise, or not in time

Each class has a `code`, the short word that HTTP answers carry, and those that a request can meet
have their `status`. Refusals at the contracts' boundary (`edge_contracts.errors`) become 400s.
"""

from __future__ import annotations


class FleetError(Exception):
    """Every refusal of the server and its command line."""

    code = "refused"
    status = 400


class RequestInvalid(FleetError):
    """A request that does not parse or does not fit."""

    code = "request-invalid"


class ReleaseInvalid(RequestInvalid):
    """Bundles that do not make one release."""

    code = "release-invalid"


class Unauthorized(FleetError):
    """No token, or one that is not known here."""

    code = "unauthorized"
    status = 401


class Forbidden(FleetError):
    """A token whose role does not allow this."""

    code = "forbidden"
    status = 403


class LoginRefused(Forbidden):
    """What an identity provider says, or somebody says in its name, and that lets nobody in."""

    code = "login-refused"


class ProviderUnreachable(FleetError):
    """An identity provider that does not answer, or not as one."""

    code = "provider-unreachable"
    status = 503


class NotFound(FleetError):
    """Something that is not there."""

    code = "not-found"
    status = 404


class Conflict(FleetError):
    """True already, or true of something else."""

    code = "conflict"
    status = 409


class TooLarge(FleetError):
    """A body over its limit."""

    code = "too-large"
    status = 413


class TooManyAttempts(FleetError):
    """Failed, or asked, too often.

    Args:
        retry_s: When to ask again.
    """

    code = "too-many-attempts"
    status = 429

    def __init__(self, message: str, retry_s: int = 60) -> None:
        """Take the message and the time to wait."""
        super().__init__(message)
        self.retry_s = retry_s


class HomeInvalid(FleetError):
    """A server home that is absent, damaged or in use."""

    code = "home-invalid"


class DatabaseTooNew(HomeInvalid):
    """A database that a later release of edgefleet has written."""

    code = "database-too-new"


class DatabaseMixed(HomeInvalid):
    """A database whose tables are not those of the revision that it says it has."""

    code = "database-mixed"


class BackupInvalid(FleetError):
    """A backup that is not whole, does not open, or cannot be written."""

    code = "backup-invalid"


class MigrationFailed(FleetError):
    """A database that could not be brought to this release's schema; it is as it was."""

    code = "migration-failed"


class DatabaseUnreachable(FleetError):
    """A database that does not answer, or a URL that is not one."""

    code = "database-unreachable"


class AuditBroken(FleetError):
    """An audit log that is not as it was written."""

    code = "audit-broken"
    status = 409


class BrokerFailed(FleetError):
    """A broker that does not start, or does not do what it must."""

    code = "broker-failed"


class AddressInUse(FleetError):
    """A port that another program holds."""

    code = "address-in-use"


class ServerUnreachable(FleetError):
    """No server where the command line looked for one, or one that cannot answer now."""

    code = "server-unreachable"


class NotReady(FleetError):
    """A server that serves, and cannot do its work."""

    code = "not-ready"


class RolloutNotDone(FleetError):
    """A rollout that ended otherwise than it was waited for, or has not ended in time."""

    code = "rollout-not-done"
