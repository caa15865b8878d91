"""Servers of Python's library: a thread or a process for each client, HTTP, objects of another process, and children
that inherit the connection. `server` or `client`, the kind, the port."""

import hashlib
import http.client
import http.server
import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading

KEY = b"not secret"


def message(i):
    return hashlib.sha256(b"%d" % i).digest() * (1 + i * i % 900)


class Lines(socketserver.StreamRequestHandler):
    """Answers each line with its hash and itself."""

    def handle(self):
        for line in self.rfile:
            self.wfile.write(hashlib.sha256(line).hexdigest().encode() + b" " + line)


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        body = hashlib.sha256(data).hexdigest().encode() + data
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Manager(multiprocessing.managers.BaseManager):
    pass


class Table:
    def __init__(self):
        self.rows = {}

    def put(self, key, value):
        self.rows[key] = value
        return len(value)

    def get(self, key):
        return self.rows[key]


# The child, a program of its own: answers lines. The first has the connection as its standard input and
# output, the second is told its number.
CHILD = "import sys, hashlib\nfor line in sys.stdin.buffer:\n" \
        "    sys.stdout.buffer.write(hashlib.sha256(line).hexdigest().encode() + b' ' + line)\n" \
        "    sys.stdout.buffer.flush()\n"
TOLD = "import sys, hashlib, socket\nconnection = socket.socket(fileno=int(sys.argv[1]))\n" \
       "for line in connection.makefile('rb'):\n" \
       "    connection.sendall(hashlib.sha256(line).hexdigest().encode() + b' ' + line)\n"


def accept_for_ever(port, work):
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        work(listener.accept()[0])


def spawn(connection):
    """subprocess: the child has the connection as its standard input and output."""
    subprocess.Popen([sys.executable, "-c", CHILD], stdin=connection, stdout=connection)
    connection.close()


def fork_and_execute(connection):
    """Answers half of the lines, then executes a child for the others, with the connection under its number."""
    threading.Thread(target=begin_and_execute, args=(connection,)).start()


def begin_and_execute(connection):
    for _ in range(100):
        line = b""
        while not line.endswith(b"\n"):  # no byte follows the line before it is answered
            line += connection.recv(65536)
        connection.sendall(hashlib.sha256(line).hexdigest().encode() + b" " + line)
    if os.fork() == 0:
        connection.set_inheritable(True)
        os.execvp("python3", ["python3", "-c", TOLD, str(connection.fileno())])
    connection.close()


def serve_queues(port):
    with multiprocessing.connection.Listener(("127.0.0.1", port), authkey=KEY) as listener:
        while True:
            threading.Thread(target=answer_queue, args=(listener.accept(),)).start()


def answer_queue(connection):
    try:
        while True:
            data = connection.recv()
            connection.send((hashlib.sha256(data).hexdigest(), data))
    except EOFError:
        connection.close()


def serve(kind, port):
    address = ("127.0.0.1", port)
    socketserver.TCPServer.allow_reuse_address = True
    signal.signal(signal.SIGCHLD, signal.SIG_IGN if kind in ("child", "executed") else signal.SIG_DFL)
    if kind == "threads":
        socketserver.ThreadingTCPServer(address, Lines).serve_forever()
    elif kind == "forks":
        socketserver.ForkingTCPServer(address, Lines).serve_forever()
    elif kind == "http":
        http.server.ThreadingHTTPServer(address, Pages).serve_forever()
    elif kind == "manager":
        table = Table()
        Manager.register("table", callable=lambda: table)
        Manager(address, KEY).get_server().serve_forever()
    elif kind == "queues":
        serve_queues(port)
    elif kind == "child":
        accept_for_ever(port, spawn)
    elif kind == "executed":
        accept_for_ever(port, fork_and_execute)


def ask_lines(port, number):
    digest = hashlib.sha256()
    with socket.create_connection(("127.0.0.1", port), 30) as connection, connection.makefile("rb") as file:
        for i in range(200):
            line = message(number * 1000 + i).hex().encode() + b"\n"
            connection.sendall(line)
            digest.update(file.readline())
        connection.shutdown(socket.SHUT_WR)
        assert file.read() == b""
    return digest.hexdigest()


def ask_pages(port, number):
    digest, connection = hashlib.sha256(), http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for i in range(15):
        connection.request("POST", "/", message(number * 1000 + i))
        digest.update(connection.getresponse().read())
    connection.close()
    return digest.hexdigest()


def ask_manager(port, number):
    Manager.register("table")
    manager = Manager(("127.0.0.1", port), KEY)
    manager.connect()
    table, digest = manager.table(), hashlib.sha256()
    for i in range(15):
        assert table.put((number, i), message(i)) == len(message(i))
        digest.update(table.get((number, i)))
    return digest.hexdigest()


def ask_queue(port, number):
    digest = hashlib.sha256()
    with multiprocessing.connection.Client(("127.0.0.1", port), authkey=KEY) as connection:
        for i in range(12):
            connection.send(message(number * 1000 + i))
            name, data = connection.recv()
            digest.update(name.encode() + data)
    return digest.hexdigest()


def client(kind, port):
    ask = {"http": ask_pages, "manager": ask_manager, "queues": ask_queue}.get(kind, ask_lines)
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: ask(port, n)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        print(number, results[number])


{"server": serve, "client": client}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
