// SPDX-License-Identifier: Apache-2.0
//
// A server of tests/images/README.md over HTTP: the event loop with setInterval and setTimeout, two worker
// threads that share memory with it, sleep in Atomics.wait and make garbage, and work for libuv's thread pool.
'use strict';
const http = require('http');
const crypto = require('crypto');
const { Worker, isMainThread, workerData } = require('worker_threads');

if (!isMainThread) {
	const shared = new Int32Array(workerData);
	let kept = [];
	for (let n = 0; ; n++) {
		Atomics.wait(shared, 1, 0, 20);
		kept.push(JSON.parse(JSON.stringify({ n, hash: crypto.createHash('sha256').update(String(n)).digest('hex') })));
		if (kept.length > 2000)
			kept = kept.slice(1000);
		for (let i = kept.length > 10 ? kept.length - 10 : 0; i < kept.length; i++) {
			const { n, hash } = kept[i];
			if (crypto.createHash('sha256').update(String(n)).digest('hex') !== hash)
				throw new Error(`the hash of ${n} has changed`);
		}
		Atomics.add(shared, 0, 1);
	}
}

const memory = new SharedArrayBuffer(8);
const shared = new Int32Array(memory);
for (let i = 0; i < 2; i++)
	new Worker(__filename, { workerData: memory }).on('error', (e) => { throw e; });

let ticks = 0, back = 0, pool = 0, mono = process.hrtime.bigint(), wall = Date.now();
setInterval(() => {
	const m = process.hrtime.bigint(), w = Date.now();
	if (m < mono || w < wall)
		back++;
	mono = m;
	wall = w;
	if (++ticks % 5 === 0)
		crypto.pbkdf2('ferry', String(ticks), 10, 32, 'sha256', () => { pool++; });
}, 10);

const numbers = new Map(), texts = new Map();
function answer(line, reply) {
	const [op, key, value] = line.split(' ');
	switch (op) {
	case 'add':
		numbers.set(key, (numbers.get(key) || 0) + Number(value));
		return reply(numbers.get(key));
	case 'put':
		texts.set(key, value);
		return reply('ok');
	case 'get':
		return reply(texts.get(key) || '');
	case 'after':
		return setTimeout(() => reply('ok'), Number(key));
	case 'ticks':
		return reply(`${ticks} ${Math.min(shared[0], pool)} ${back} ${process.hrtime.bigint() / 1000n}`);
	default:
		return reply('what?');
	}
}

const server = http.createServer((req, res) => {
	const parts = [];
	req.on('data', (d) => parts.push(d));
	req.on('end', () => answer(Buffer.concat(parts).toString(), (text) => {
		const body = `${text}\n`;
		res.writeHead(200, { 'Content-Length': Buffer.byteLength(body) });
		res.end(body);
	}));
});
server.keepAliveTimeout = 0;
server.requestTimeout = 0;
server.headersTimeout = 0;
server.listen(7000, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
