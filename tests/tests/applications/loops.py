"""asyncio at both ends: streams with flow control, protocols, thirty connections in one thread."""

import asyncio
import hashlib
import sys


def message(i):
    return hashlib.sha256(b"%d" % i).digest() * (1 + i * i % 800)


async def serve(reader, writer):
    try:
        while size := await reader.readexactly(4):
            data = await reader.readexactly(int.from_bytes(size, "big"))
            writer.write(hashlib.sha256(data).digest() + data)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def server(port):
    listening = await asyncio.start_server(serve, "127.0.0.1", port)
    async with listening:
        await listening.serve_forever()


async def client(port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    digest = hashlib.sha256()

    async def send():
        for i in range(60):
            data = message(number * 100 + i)
            writer.write(len(data).to_bytes(4, "big") + data)
            await writer.drain()
            if i % 10 == 0:
                await asyncio.sleep(0.001)
        writer.write_eof()

    async def receive():
        while data := await reader.read(65536):
            digest.update(data)

    await asyncio.wait_for(asyncio.gather(send(), receive()), 60)
    writer.close()
    return digest.hexdigest()


async def clients(port):
    for line in await asyncio.gather(*(client(port, n) for n in range(30))):
        print(line)


asyncio.run(server(int(sys.argv[2])) if sys.argv[1] == "server" else clients(int(sys.argv[2])))
