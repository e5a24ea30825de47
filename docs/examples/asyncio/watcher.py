"""Waits for the end of a machine, and connects again where the connection breaks."""

from __future__ import annotations

import asyncio
import json


async def wait_for_shutdown(path: str, pause: float = 0.01) -> str:
    """The reason of the machine's shutdown."""
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(pause)
            continue
        try:
            writer.write(b'{"execute": "qmp_capabilities"}\n')
            async for line in reader:
                message = json.loads(line)
                if message.get("event") == "SHUTDOWN":
                    return str(message["data"]["reason"])
        except ConnectionError:
            pass
        finally:
            writer.close()
