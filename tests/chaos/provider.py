"""The mock provider in a thread of the test's process, which lists what it was asked about."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator

from aiohttp import web

from benchmarks import mock_provider


class CountingProvider(mock_provider.Provider):
    """Lists the numbers of the items that it was asked about, in order: an item's text is `<number>`."""

    def __init__(self, *, latency: float) -> None:
        super().__init__(labels=2, latency=latency)
        self.asked: list[int] = []

    async def complete(self, request: web.Request) -> web.StreamResponse:
        number = re.search(r"&lt;(\d+)>|<(\d+)>", mock_provider.user_text(await request.json()))
        assert number is not None
        self.asked.append(int(number[1] or number[2]))
        return await super().complete(request)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """The base URL at which it answers meanwhile."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        async def start() -> web.AppRunner:
            runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
