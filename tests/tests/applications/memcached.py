"""A memcached client: twelve threads, each with a connection, small and large values, pipelines."""

import hashlib
import socket
import sys
import threading


def value(i, large):
    return hashlib.sha256(b"%d" % i).digest() * (20_000 if large else 1 + i % 50)


def reader(file, digest):
    """Reads the answer to a get."""
    found = 0
    while (line := file.readline()) != b"END\r\n":
        _, key, _, size = line.split()
        digest.update(key + file.read(int(size)))
        assert file.read(2) == b"\r\n"
        found += 1
    return found


def work(port, number, results):
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        file, digest = connection.makefile("rb"), hashlib.sha256()
        for i in range(300):
            large, key = i % 60 == 59, b"%d-%d" % (number, i)
            data = value(i, large)
            connection.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(data), data))
            assert file.readline() == b"STORED\r\n"
            connection.sendall(b"get %s\r\n" % key)
            assert reader(file, digest) == 1
        # Many requests before the first answer is read.
        keys = [b"%d-%d" % (number, i) for i in range(0, 50)]
        connection.sendall(b"".join(b"get %s\r\n" % key for key in keys) + b"get " + b" ".join(keys) + b"\r\n")
        found = sum(reader(file, digest) for _ in range(51))
        connection.sendall(b"set n 0 0 1\r\n1\r\n" + b"delete %d-0\r\n" % number + b"get %d-0\r\n" % number)
        assert [file.readline() for _ in range(3)] == [b"STORED\r\n", b"DELETED\r\n", b"END\r\n"]
        results[number] = (found, digest.hexdigest())


results = {}
threads = [threading.Thread(target=work, args=(int(sys.argv[1]), n, results)) for n in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for n in sorted(results):
    print(n, *results[n])
