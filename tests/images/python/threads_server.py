# SPDX-License-Identifier: Apache-2.0
#
# A server of tests/images/README.md: a thread a connection, threading.Timer for single shots, a thread that
# waits for one point in time after the other as the ticking timer.
import socketserver
import threading
import time
from common import State

state = State()


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            line = line.decode().rstrip('\n')
            reply = state.answer(line)
            if reply is None:
                done = threading.Event()
                threading.Timer(int(line.split(' ')[1]) / 1000, done.set).start()
                done.wait()
                reply = 'ok'
            self.wfile.write(f'{reply}\n'.encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def ticking():
    due, never = time.monotonic(), threading.Event()
    while True:
        due += 0.01
        never.wait(max(0, due - time.monotonic()))
        state.tick()


def chores(first):
    n = first
    while True:
        state.chores(n)
        time.sleep(0.02)
        n += 1


for f, args in (ticking, ()), (chores, (0,)), (chores, (1000000,)):
    threading.Thread(target=f, args=args, daemon=True).start()
Server(('0.0.0.0', 7000), Connection).serve_forever()
