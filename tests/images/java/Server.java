// SPDX-License-Identifier: Apache-2.0

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * A server of tests/images/README.md over com.sun.net.httpserver: a pool of threads, a ScheduledExecutor for
 * ticks and single shots, and workers that keep the JIT compiler and the garbage collector busy.
 */
public final class Server {
	private static final ConcurrentHashMap<String, Long> numbers = new ConcurrentHashMap<>();
	private static final ConcurrentHashMap<String, String> texts = new ConcurrentHashMap<>();
	private static final AtomicLong ticks = new AtomicLong(), work = new AtomicLong(), back = new AtomicLong();
	private static final ScheduledExecutorService timers = Executors.newScheduledThreadPool(2);
	private static final long start = System.nanoTime();
	private static long mono = start, wall = System.currentTimeMillis();

	private static void tick() {
		long m = System.nanoTime(), w = System.currentTimeMillis();
		if (m - mono < 0 || w < wall)
			back.incrementAndGet();
		mono = m;
		wall = w;
		ticks.incrementAndGet();
	}

	/** Vectors (the compiler uses AVX), garbage of all ages, and sums that must stay what they are. */
	private static void chores(int id) {
		double[] a = new double[4096];
		ArrayDeque<long[]> kept = new ArrayDeque<>();
		for (long n = 0; ; n++) {
			double sum = 0;
			for (int i = 0; i < a.length; i++)
				a[i] = i * (double) (n % 1000);
			for (int i = 0; i < a.length; i++)
				sum += a[i];
			double want = (n % 1000) * (a.length * (a.length - 1.0) / 2);
			if (sum != want)
				die("the sum of round " + n + " is " + sum + ", not " + want);
			long[] block = new long[2048];
			java.util.Arrays.fill(block, n * 31 + id);
			kept.add(block);
			if (kept.size() > 500) {
				long[] old = kept.remove();
				for (long v : old)
					if (v != (n - 500) * 31 + id)
						die("an old block has changed: " + v);
			}
			work.incrementAndGet();
			try {
				Thread.sleep(5);
			} catch (InterruptedException e) {
				die(e.toString());
			}
		}
	}

	private static void die(String why) {
		System.err.println(why);
		Runtime.getRuntime().halt(1);
	}

	private static void reply(HttpExchange x, String text) {
		byte[] body = (text + "\n").getBytes(StandardCharsets.US_ASCII);
		try {
			x.sendResponseHeaders(200, body.length);
			x.getResponseBody().write(body);
		} catch (IOException e) {
			System.err.println(e);
		}
		x.close();
	}

	private static void serve(HttpExchange x) throws IOException {
		String[] f = new String(x.getRequestBody().readAllBytes(), StandardCharsets.US_ASCII).split(" ");
		switch (f[0]) {
		case "add" -> reply(x, numbers.merge(f[1], Long.parseLong(f[2]), Long::sum).toString());
		case "put" -> {
			texts.put(f[1], f[2]);
			reply(x, "ok");
		}
		case "get" -> reply(x, texts.getOrDefault(f[1], ""));
		case "after" -> timers.schedule(() -> reply(x, "ok"), Long.parseLong(f[1]), TimeUnit.MILLISECONDS);
		case "ticks" -> reply(x, ticks + " " + work + " " + back + " " + (System.nanoTime() - start) / 1000);
		default -> reply(x, "what?");
		}
	}

	public static void main(String[] args) throws IOException {
		timers.scheduleAtFixedRate(Server::tick, 10, 10, TimeUnit.MILLISECONDS);
		for (int i = 0; i < 2; i++) {
			int id = i;
			Thread t = new Thread(() -> chores(id));
			t.setDaemon(true);
			t.start();
		}
		HttpServer server = HttpServer.create(new InetSocketAddress(7000), 100);
		server.createContext("/", Server::serve);
		server.setExecutor(Executors.newFixedThreadPool(8));
		server.start();
	}
}
