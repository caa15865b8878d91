"""A redis client: pipelines, transactions, blocking commands, subscriptions, and a server that forks meanwhile."""

import hashlib
import socket
import sys
import threading
import time


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(w), w) for w in words]
        self.socket.sendall(b"".join(parts))

    def receive(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in (b"+", b"-"):
            return line[:-2]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.receive() for _ in range(int(rest))]
        raise SystemExit(f"a reply that begins with {line!r}")

    def call(self, *words):
        self.send(*words)
        return self.receive()


def value(i):
    return hashlib.sha256(b"%d" % i).digest() * (1 + i * i % 700)


def pipelines(port, name, count, results):
    client, digest = Client(port), hashlib.sha256()
    for start in range(0, count, 20):
        for i in range(start, start + 20):
            client.send("SET", f"{name}:{i}", value(i))
            client.send("GET", f"{name}:{i}")
        for i in range(start, start + 20):
            assert client.receive() == b"+OK"
            digest.update(client.receive())
    client.call("MULTI")
    for i in range(50):
        client.call("INCRBY", f"{name}:sum", i)
    results[name] = (digest.hexdigest(), client.call("EXEC")[-1])


def producer(port, count):
    client = Client(port)
    for i in range(count):
        client.call("RPUSH", "queue", f"item {i}")


def consumer(port, count, results):
    client, digest = Client(port), hashlib.sha256()
    for _ in range(count):
        digest.update(client.call("BLPOP", "queue", 30)[1])
    results["queue"] = digest.hexdigest()


def subscriber(port, count, ready, results):
    client, digest = Client(port), hashlib.sha256()
    assert client.call("SUBSCRIBE", "news")[0] == b"subscribe"
    ready.set()
    for _ in range(count):
        digest.update(client.receive()[2])
    results["news"] = digest.hexdigest()


def main(master, replica):
    results, ready = {}, threading.Event()
    jobs = [threading.Thread(target=pipelines, args=(master, f"p{n}", 400, results)) for n in range(3)]
    jobs.append(threading.Thread(target=consumer, args=(master, 500, results)))
    jobs.append(threading.Thread(target=producer, args=(master, 500)))
    jobs.append(threading.Thread(target=subscriber, args=(master, 300, ready, results)))
    for job in jobs:
        job.start()
    client = Client(master)
    # The save that the replica asked for may still be going on.
    while (answer := client.call("BGSAVE")).startswith(b"-ERR Background save"):
        time.sleep(0.01)
    print("bgsave", answer[:18])
    ready.wait(30)
    for i in range(300):
        assert client.call("PUBLISH", "news", f"number {i}") == 1
    for job in jobs:
        job.join()
    while b"rdb_bgsave_in_progress:1" in client.call("INFO", "persistence"):
        time.sleep(0.01)
    print("saved", b"rdb_last_bgsave_status:ok" in client.call("INFO", "persistence"))
    client.call("SET", "last", "one")
    other = Client(replica)
    while b"master_link_status:up" not in other.call("INFO", "replication"):
        time.sleep(0.01)
    print("replicas", client.call("WAIT", 1, 30000))
    print("same data", client.call("DEBUG", "DIGEST") == other.call("DEBUG", "DIGEST"))
    print("digest", client.call("DEBUG", "DIGEST"))
    for name in sorted(results):
        print(name, results[name])


main(int(sys.argv[1]), int(sys.argv[2]))
