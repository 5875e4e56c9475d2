# SPDX-License-Identifier: Apache-2.0
#
# A server of tests/images/README.md: one event loop, its timers, and its executor's threads.
import asyncio
from common import State

state = State()


async def serve(reader, writer):
    while line := await reader.readline():
        line = line.decode().rstrip('\n')
        reply = state.answer(line)
        if reply is None:
            await asyncio.sleep(int(line.split(' ')[1]) / 1000)
            reply = 'ok'
        writer.write(f'{reply}\n'.encode())
        await writer.drain()
    writer.close()


async def main():
    loop = asyncio.get_running_loop()
    due = loop.time()

    def tick():
        nonlocal due
        state.tick()
        due += 0.01
        loop.call_at(due, tick)

    async def chores():
        n = 0
        while True:
            await loop.run_in_executor(None, state.chores, n)
            await asyncio.sleep(0.02)
            n += 1

    tick()
    work = [asyncio.create_task(chores()) for _ in range(2)]
    server = await asyncio.start_server(serve, '0.0.0.0', 7000, limit=1 << 20)
    await asyncio.gather(server.serve_forever(), *work)

asyncio.run(main())
