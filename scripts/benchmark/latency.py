"""A proxy that makes a server on loopback as far away as one across a network, and counts what comes through.

Bytes of a client that come after an answer wait for the latency, so each round trip takes that much longer; the rate at
which bytes flow stays what it was. `python -m benchmark.latency PORT SECONDS` serves until it is terminated: its first line
names its own port, its last one is the account.
"""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

from benchmark.measure import ROOT

HOST: Final = "127.0.0.1"
STEP: Final = 1 << 18
METHODS: Final = (b"GET ", b"PUT ", b"HEAD ", b"POST ", b"DELETE ")


@dataclass(slots=True)
class Account:
    """What came through: counts; `most_at_once` is of requests whose answer had not begun."""

    connections: int = 0
    requests: int = 0
    most_at_once: int = 0


@contextmanager
def far_away(port: int, latency: float) -> Iterator[tuple[int, Account]]:
    """A proxy before that port, in a process of its own; its port, and its account, which is filled in at the end."""
    command = [sys.executable, "-m", "benchmark.latency", str(port), str(latency)]
    folders = f"{ROOT / 'scripts'}"
    account = Account()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": folders}) as proxy:
        assert proxy.stdout is not None
        try:
            yield int(proxy.stdout.readline()), account
        finally:
            proxy.terminate()
            counted = json.loads(proxy.stdout.readline() or "{}")
            for name, count in counted.items():
                setattr(account, name, count)


class Proxy:
    """Links clients to the server."""

    def __init__(self, port: int, latency: float) -> None:
        self._port, self._latency = port, latency
        self._waiting = 0
        self.account = Account()

    async def link(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self.account.connections += 1
        server, requests = await asyncio.open_connection(HOST, self._port, limit=STEP)
        link = _Link()
        try:
            await asyncio.gather(self._forth(link, client, requests), self._back(link, server, answers))
        except ConnectionError:
            pass  # one side has hung up: so does the other
        finally:
            self._answered(link)
            for side in (requests, answers):
                side.close()

    async def _forth(self, link: "_Link", client: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        while piece := await client.read(STEP):
            if link.is_answered:
                self._asked(link, is_request=piece.startswith(METHODS))
                await asyncio.sleep(self._latency)
            requests.write(piece)
            await requests.drain()
        requests.write_eof()

    async def _back(self, link: "_Link", server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        while piece := await server.read(STEP):
            self._answered(link)
            answers.write(piece)
            await answers.drain()
        answers.write_eof()

    def _asked(self, link: "_Link", *, is_request: bool) -> None:
        link.is_answered = False
        self._waiting += 1
        self.account.requests += is_request
        self.account.most_at_once = max(self.account.most_at_once, self._waiting)

    def _answered(self, link: "_Link") -> None:
        self._waiting -= not link.is_answered
        link.is_answered = True


@dataclass(slots=True)
class _Link:
    """Whose turn it is on one connection."""

    is_answered: bool = True


async def serve(port: int, latency: float) -> Account:
    """Until the process is terminated."""
    proxy, ended = Proxy(port, latency), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(proxy.link, HOST, 0, limit=STEP, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    return proxy.account


def main(words: Sequence[str]) -> None:
    """The process that `far_away` starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us terminates us, and wants the account
    print(json.dumps(asdict(asyncio.run(serve(int(words[0]), float(words[1]))))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
