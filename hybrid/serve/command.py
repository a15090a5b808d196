"""`hybrid serve`: check what was asked for, load the models, and listen."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from hybrid.serve.app import create_app
from hybrid.serve.catalogue import load
from hybrid.serve.connection import BoundedConnection
from hybrid.serve.guard import Policy
from hybrid.serve.jobs import Relay
from hybrid.serve.service import Service, Settings
from hybrid.serve.worker import Worker
from hybrid.solving import NOBODY

TOKEN_VARIABLE = "HYBRID_TOKEN"
LEAST_TOKEN = 16  # characters
STOP_SECONDS = 5  # that requests under way get to end


class ServeError(ValueError):
    """Options that cannot be served with. One line for people."""


@dataclass(frozen=True)
class Options:
    """The command's options. token: the name of the environment variable that holds the token."""

    host: str = "127.0.0.1"
    port: int = 8000
    llms: Sequence[str] = ("qwen",)
    adapters: Sequence[str] = ("auto",)
    refiners: Sequence[str] = ("ckpt/trm.pt",)
    token: str = TOKEN_VARIABLE
    allowed_hosts: Sequence[str] = ()
    queue: int = 256
    limit_seconds: float = 300.0
    device: str = "auto"


def policy_of(options: Options) -> Policy:
    """Who may ask. Raises ServeError where others could reach the server without a token."""
    token = os.environ.get(options.token)
    if token is None and options.token != TOKEN_VARIABLE:  # it may be a token: it is not repeated
        raise ServeError("--token: expected the name of an environment variable that holds the token")
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ServeError(f"{options.token}: expected at least {LEAST_TOKEN} printable ASCII characters")
    loopback = is_loopback(options.host)
    if not loopback and not token:
        raise ServeError(
            f"--host {options.host}: others can reach it, expected a token in the environment's {options.token}"
        )
    hosts = (*options.allowed_hosts, *(() if loopback else (options.host,)))
    return Policy(token, tuple(host.lower() for host in hosts), loopback)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(options: Options) -> None:
    """Serve until interrupted. Raises ServeError and AdapterError, and MissingError where nothing can answer."""
    policy = policy_of(options)
    if not {*options.llms, *options.refiners} - {NOBODY}:
        raise ServeError("neither an LLM nor a refiner, expected one of them to answer")
    listening = _listen(options.host, options.port)  # before models load: a port in use is said at once
    with listening:
        logging.basicConfig(format="hybrid serve: %(message)s", stream=sys.stderr)
        relay = Relay()
        catalogue = load(options.llms, options.refiners, options.adapters, options.device, relay)
        service = Service(catalogue, Worker(relay, options.queue), Settings(policy, options.limit_seconds))
        config = server_config(create_app(service))
        host = f"[{options.host}]" if ":" in options.host else options.host
        names = ", ".join(model.name for model in catalogue.models)
        print(
            f"hybrid serve: http://{host}:{listening.getsockname()[1]}/ with {names}; Ctrl-C ends",
            file=sys.stderr,
        )
        uvicorn.Server(config).run(sockets=[listening])


def server_config(app: ASGIApp, log_level: str = "error", stop_seconds: int = STOP_SECONDS) -> uvicorn.Config:
    """How uvicorn serves. What a client sends is no warning: nobody can fill the log from outside."""
    return uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        log_level=log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=stop_seconds,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound and listens. Raises ServeError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(2048)
        except OSError:
            made.close()
            raise
        return made
    except OSError as error:
        raise ServeError(
            f"--host {host} --port {port}: {error.strerror}, expected a free port of this machine"
        ) from None
