"""ZeroMQ in three patterns: requests, pushed work, publications. `server` or `client`, then three ports."""

import hashlib
import sys
import threading

import zmq

context = zmq.Context()


def socket(kind, port=None, bind=False):
    made = context.socket(kind)
    made.setsockopt(zmq.RCVHWM, 0)
    made.setsockopt(zmq.SNDHWM, 0)
    if bind:
        made.bind(f"tcp://127.0.0.1:{port}")
    else:
        made.connect(f"tcp://127.0.0.1:{port}")
    return made


def message(i):
    return hashlib.sha256(b"%d" % i).digest() * (1 + i * i % 900)


def serve(requests, work, news):
    replies, sink, publisher = (
        socket(zmq.REP, requests, True), socket(zmq.PULL, work, True), socket(zmq.XPUB, news, True))
    publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
    poller = zmq.Poller()
    for each in (replies, sink, publisher):
        poller.register(each, zmq.POLLIN)
    sums = [0, 0]
    while True:
        for ready, _ in poller.poll():
            if ready is replies:
                request = replies.recv()
                answer = b"%d %d" % tuple(sums) if request == b"sum" else hashlib.sha256(request).digest() + request
                replies.send(answer)
            elif ready is sink:
                part = sink.recv()
                sums = [sums[0] + 1, (sums[1] + int.from_bytes(hashlib.sha256(part).digest()[:6], "big")) % (1 << 60)]
            else:
                publisher.recv()  # a client has subscribed
                for i in range(1500):
                    publisher.send(message(i))


def ask(port, number, results):
    requester, digest = socket(zmq.REQ, port), hashlib.sha256()
    for i in range(250):
        requester.send(message(number * 1000 + i))
        digest.update(requester.recv())
    results[number] = digest.hexdigest()


def push(port, number):
    pusher = socket(zmq.PUSH, port)
    for i in range(800):
        pusher.send(message(number * 1000 + i))


def main(requests, work, news):
    results = {}
    jobs = [threading.Thread(target=ask, args=(requests, n, results)) for n in range(3)]
    jobs += [threading.Thread(target=push, args=(work, n)) for n in range(3)]
    for job in jobs:
        job.start()
    subscriber, digest = socket(zmq.SUB, news), hashlib.sha256()
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    for i in range(1500):
        digest.update(subscriber.recv())
    for job in jobs:
        job.join()
    requester, total = socket(zmq.REQ, requests), b""
    while not total.startswith(b"2400 "):
        requester.send(b"sum")
        total = requester.recv()
    print(total, digest.hexdigest())
    for number in sorted(results):
        print(number, results[number])


if sys.argv[1] == "server":
    serve(*map(int, sys.argv[2:]))
else:
    main(*map(int, sys.argv[2:]))
    # The pushed messages have all arrived.
    context.destroy(linger=0)
