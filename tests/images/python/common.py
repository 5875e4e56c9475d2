# SPDX-License-Identifier: Apache-2.0
#
# What the two Python servers of tests/images/README.md share: state, clocks, background work.
import gc
import hashlib
import threading
import time


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.numbers, self.texts = {}, {}
        self.ticks = self.work = self.back = 0
        self.mono, self.wall = time.monotonic(), time.time()

    def tick(self):
        mono, wall = time.monotonic(), time.time()
        if mono < self.mono or wall < self.wall:
            self.back += 1
        self.mono, self.wall = mono, wall
        self.ticks += 1

    def answer(self, line):
        """The answer to one request; None for what is not this class's business (after)."""
        op, *args = line.split(' ')
        if op == 'add':
            with self.lock:
                value = self.numbers.get(args[0], 0) + int(args[1])
                self.numbers[args[0]] = value
            return str(value)
        if op == 'put':
            self.texts[args[0]] = args[1]
            return 'ok'
        if op == 'get':
            return self.texts.get(args[0], '')
        if op == 'ticks':
            return f'{self.ticks} {self.work} {self.back} {time.monotonic_ns() // 1000}'
        return None if op == 'after' else 'what?'

    def chores(self, n):
        """Garbage with cycles, and a hash that must be what it was."""
        junk = []
        for i in range(200):
            junk.append({'self': junk, 'text': str(i) * 20})
        data = str(n).encode() * 100
        if hashlib.sha256(data).digest() != hashlib.sha256(bytes(data)).digest():
            raise RuntimeError('a hash has changed')
        if n % 50 == 0:
            gc.collect()
        with self.lock:
            self.work += 1
