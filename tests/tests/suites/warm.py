"""CPython's test_socket with connections that have been used before the test: they can have left TCP by then."""
import sys
import time
import unittest

import test.test_socket as suite

ROUNDS = 12


def warm(sock, first):
    """Both ends call this, one of them with `first`."""
    old = sock.gettimeout()
    sock.settimeout(30)
    for i in range(ROUNDS):
        # ipcd answers meanwhile. The two ends take turns in reading last, so that both directions move.
        time.sleep(0.002)
        if first:
            sock.sendall(b"ping")
        for _ in range(4):
            assert sock.recv(1)
        if not first:
            sock.sendall(b"pong")
    sock.settimeout(old)


def connected(case):
    server, client = case.setUp, case.clientSetUp

    def set_up(self):
        server(self)
        warm(getattr(self, "cli_conn", None) or self.conn, False)

    def client_set_up(self):
        client(self)
        warm(self.serv_conn, True)

    case.setUp, case.clientSetUp = set_up, client_set_up


for case in suite.SocketConnectedTest, suite.ConnectedStreamTestMixin:
    connected(case)

if __name__ == "__main__":
    unittest.main(module=None, argv=[sys.argv[0], *("test.test_socket." + name for name in sys.argv[1:])], verbosity=2)
