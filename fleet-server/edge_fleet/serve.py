"""`edge-fleet serve`: puts the parts of a server together, runs them, and takes them apart in order.

Order matters: the home is held first, ports are taken before anything is started, the broker is proven
to deliver before devices may come, and at the end ingest works off what it has before the broker goes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from edge_contracts.errors import one_line
from edge_fleet import unused_memory
from edge_fleet.access.audit_head import Sealer
from edge_fleet.access.certificates import broker_tls, counting, revoked, write_revocations
from edge_fleet.access.directors import begin
from edge_fleet.access.https import http_tls
from edge_fleet.access.logins import Patience
from edge_fleet.accounts import Accounts
from edge_fleet.alerts.watch import Watch
from edge_fleet.app import create_app
from edge_fleet.auth import Attempts, Role, is_known, make_token
from edge_fleet.brokers.choose import choose_broker, device_door, is_managed
from edge_fleet.brokers.external import ExternalBroker
from edge_fleet.collector import settle
from edge_fleet.config import Address, ServerConfig, parse_address
from edge_fleet.dispatch import Dispatcher
from edge_fleet.errors import BrokerFailed, HomeInvalid
from edge_fleet.events import EventBus
from edge_fleet.giving_way import GivingWay
from edge_fleet.home import Home, announce, locked, making
from edge_fleet.http_server import HttpServer, listening
from edge_fleet.ingest import Ingest
from edge_fleet.keys import read_keys, write_secret
from edge_fleet.link import CONNECT_TIMEOUT_S, Link
from edge_fleet.republish import Republisher
from edge_fleet.rollouts.conductor import Conductor
from edge_fleet.services import Server
from edge_fleet.standings.work import Standings
from edge_fleet.storage.housekeeping import Housekeeper, parse_age
from edge_fleet.store import Store, open_store
from edge_fleet.supervision import Supervisor
from edge_fleet.webhooks.sender import Sender

if TYPE_CHECKING:
    from edge_fleet.access.oidc_provider import Provider

log = logging.getLogger(__name__)

WORKS_END_S = 5.0
WATCH_S = 5.0
BROKER_STARTS_S = 30.0  # one that somebody else runs may start after us
STUCK_S = 20.0  # a broker that runs but does not let us in for so long is started afresh


def now_ms() -> int:
    """The server's clock."""
    return time.time_ns() // 1_000_000


def initialise(home: Home, config: ServerConfig) -> None:
    """Make a home, its database and an admin token for this machine.

    Raises:
        RequestInvalid: A setting that no server could run with; nothing was made.
        HomeInvalid: It is one already, or cannot be written.
        DatabaseUnreachable, DatabaseTooNew: See `store.open_store`; it can be made anew.
    """
    parse_address(config.http, "--http")
    choose_broker(config, home.broker, lambda: None)
    with making(home, config), closing(open_store(home.database_url(config))) as store:
        ensure_admin(home, store)


def ensure_admin(home: Home, store: Store) -> None:
    """See that this database knows the admin token of this machine's command line; make one first of all.

    A home may be served with another database than the one that it was made with.
    """
    try:
        secret = home.admin_token.read_text().strip()
    except FileNotFoundError:
        secret = None
    except OSError as error:
        raise HomeInvalid(f"cannot read {home.admin_token}: {error.strerror}") from None
    with store.write() as connection:
        if secret and is_known(connection, secret):
            return
        token = make_token(connection, Role.ADMIN, "local", now_ms(), secret=secret or None)
        if not secret:
            write_secret(home.admin_token, token.secret.encode() + b"\n")


@contextmanager
def running(home: Home, config: ServerConfig) -> Iterator[Server]:
    """A server without its HTTP side: store, broker, link, ingest, dispatch and conductor at work.

    Raises:
        FleetError: The home is held, or a part does not start.
    """
    with ExitStack() as stack:
        stack.enter_context(locked(home))
        keys = read_keys(home.keys)
        provider = identity_provider(config)
        store = open_store(home.database_url(config))
        stack.callback(store.close)
        ensure_admin(home, store)
        directors = begin(store, home.keys, now_ms())
        bus = EventBus()
        stack.callback(bus.close)
        tls, authority = broker_tls(config, home, now_ms())
        broker = choose_broker(config, home.broker, lambda: bus.publish("broker", up=False), tls)

        def list_revoked() -> None:
            if authority is not None and tls is not None:
                with store.read() as connection:
                    serials = revoked(connection, now_ms())
                write_revocations(Path(tls.crl), authority, serials, now_ms())

        def listed(connection: Connection) -> dict[str, tuple[str, ...]]:
            return {} if authority is None else counting(connection, now_ms())

        accounts = Accounts(store, keys, config.fleet, broker, now_ms, list_revoked, listed)
        list_revoked()
        broker.start(accounts.listed())
        stack.callback(broker.stop)
        own = accounts.server()
        user, password, patience_s = own.user, own.password, CONNECT_TIMEOUT_S
        if isinstance(broker, ExternalBroker):
            patience_s = BROKER_STARTS_S
            if broker.user or not broker.keeps_accounts:
                user, password = broker.user, broker.password

        def connected() -> None:
            bus.publish("broker", up=True)
            dispatch.unanswered()

        # the link calls ingest and dispatch, which publish through the link: made before it is started
        link = Link(
            broker.door,
            config.fleet,
            user,
            password,
            lambda messages: ingest.received(messages),
            connected,
        )
        dispatch = Dispatcher(store, bus, directors, config.fleet, link.publish, now_ms)
        ingest = Ingest(store, bus, dispatch, directors, config.fleet, link.publish, now_ms)
        stack.callback(link.stop)
        link.start(patience_s)
        for part in (dispatch, ingest):
            part.start()
            stack.callback(part.stop)
        server = Server(
            store,
            bus,
            dispatch,
            now_ms,
            config,
            home,
            keys,
            broker,
            accounts,
            link,
            ingest,
            directors,
            Attempts(),
            Patience(),
            tls,
            authority,
            provider,
        )
        sealer = Sealer(server, lambda: directors.current, home.audit_head)
        keep_raw_ms = parse_age(config.keep_raw, "--keep-raw") if config.keep_raw else None
        housekeeper = Housekeeper(store, keep_raw_ms, now_ms, GivingWay(lambda: ingest.waiting_bytes))
        alerts = Watch(server, lambda: link.is_up)
        sender = Sender(server, keys.webhook_secret)
        republisher = Republisher(
            store,
            config.fleet,
            link.publish,
            GivingWay(lambda: ingest.waiting_bytes),
            lambda: accounts.may_subscribe,
        )
        works: tuple[Callable[[threading.Event], None], ...] = (
            Conductor(server).run,
            sealer.run,
            housekeeper.run,
            alerts.run,
            sender.run,
            Standings(server, GivingWay(lambda: ingest.waiting_bytes)).run,
            unused_memory.run,
        )
        if config.verified == "on":
            republisher.begin()
            works = (*works, republisher.run)
        stack.enter_context(_at_work((*works, lambda stopping: watch(server, stopping))))
        yield server


def identity_provider(config: ServerConfig) -> Provider | None:
    """Where people log in besides here; what it needs is imported only where it is asked for.

    Raises:
        RequestInvalid: The settings or the secret cannot be read.
        ContractError: The settings have a fault.
        ModuleNotFoundError: The extra is missing.
    """
    if not config.oidc:
        return None
    from edge_fleet.access.oidc_provider import Provider
    from edge_fleet.access.oidc_settings import read_client

    return Provider(read_client(Path(config.oidc)))


def serve(home: Home, config: ServerConfig, ready: Callable[[str], None]) -> None:
    """Run a server until it is told to stop.

    Args:
        ready: Called with the URL when it serves.

    Raises:
        FleetError: It cannot start; nothing is left running.
    """
    unused_memory.share_heaps()
    tls = http_tls(config, home, now_ms())
    with listening(parse_address(config.http, "--http")) as listener, running(home, config) as server:
        host, port = listener.getsockname()[:2]
        url = f"{'https' if tls else 'http'}://{Address(Address(host, port).reachable_host, port)}"
        supervisor = Supervisor()

        def started() -> None:
            settle()
            announce(home, url, tls.ca if tls else "")
            supervisor.ready(f"serves {url}")
            ready(url)

        def stopping() -> None:
            supervisor.stopping()
            server.bus.close()  # consoles that watch would otherwise hold the server up

        def working() -> None:
            if server.ingest.works:
                supervisor.alive()

        try:
            HttpServer(create_app(server), tls, started, stopping, working).run(sockets=[listener])
        finally:
            home.running.unlink(missing_ok=True)


def watch(server: Server, stopping: threading.Event) -> None:
    """Start a managed broker afresh when it runs but has not let the server in for long; end what is over.

    A device that fills nats-server's store locks everybody out, the server too; an empty store lets
    all in again, and nothing that counts was in it.
    """
    last_up = time.monotonic()
    while not stopping.wait(WATCH_S):
        try:
            server.accounts.expire()
        except (OperationalError, BrokerFailed) as error:  # at the next turn
            log.warning("accounts not looked at", extra={"reason": one_line(error)})
        if server.link.is_up or server.broker.pid is None:
            last_up = time.monotonic()
        elif time.monotonic() - last_up > STUCK_S:
            log.warning("broker lets nobody in, starting it afresh")
            server.broker.restart()
            last_up = time.monotonic()


@contextmanager
def _at_work(works: Iterable[Callable[[threading.Event], None]]) -> Iterator[None]:
    """Works in threads; at the end all are told at once, and none is waited for beyond a bound.

    What one is in the middle of is a transaction, which is whole or not there.
    """
    stopping = threading.Event()
    threads = [threading.Thread(target=work, args=(stopping,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        deadline = time.monotonic() + WORKS_END_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("a part does not end, left behind", extra={"part": thread.name})


def devices_at(config: ServerConfig) -> str:
    """Where devices connect, without the credentials that a broker's URL may hold."""
    return str(device_door(config))


def warnings(config: ServerConfig) -> list[str]:
    """What an operator should know of settings that open a port to others without TLS."""
    found = []
    plain_http = not (config.https or config.http_cert)
    if plain_http and not parse_address(config.http, "--http").is_loopback:
        found.append(
            f"http {config.http} is open to the network without TLS: tokens and passwords can be read on "
            "their way; give --https, or put a proxy with TLS before it"
        )
    plain = not config.tls_cert and not config.client_certificates
    if is_managed(config) and plain and not parse_address(config.mqtt, "--mqtt").is_loopback:
        found.append(
            f"mqtt {config.mqtt} is open to the network without TLS: passwords can be read on their way; "
            "give --tls-cert and --tls-key"
        )
    return found
