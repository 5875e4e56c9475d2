// SPDX-License-Identifier: Apache-2.0

//! A server of tests/images/README.md on std alone and the kernel's own calls: one thread with an
//! edge-triggered epoll, a timerfd for the ticks, one for each `after`, and an eventfd through which two
//! threads that compute tell what they have done.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::io::{AsRawFd, FromRawFd};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

#[repr(C, packed)]
struct EpollEvent {
    events: u32,
    data: u64,
}
#[repr(C)]
struct Itimerspec {
    interval: [i64; 2],
    value: [i64; 2],
}
extern "C" {
    fn epoll_create1(flags: i32) -> i32;
    fn epoll_ctl(ep: i32, op: i32, fd: i32, ev: *mut EpollEvent) -> i32;
    fn epoll_wait(ep: i32, ev: *mut EpollEvent, max: i32, timeout: i32) -> i32;
    fn timerfd_create(clock: i32, flags: i32) -> i32;
    fn timerfd_settime(fd: i32, flags: i32, new: *const Itimerspec, old: *mut Itimerspec) -> i32;
    fn eventfd(value: u32, flags: i32) -> i32;
}
const IN: u32 = 1;
const OUT: u32 = 4;
const ET: u32 = 1 << 31;
const MONOTONIC: i32 = 1;
const NONBLOCK: i32 = 0o4000;

fn must(n: i32, what: &str) -> i32 {
    if n < 0 {
        panic!("{}: {}", what, std::io::Error::last_os_error());
    }
    n
}

fn timer(first_ms: i64, every_ms: i64) -> File {
    let at = |ms: i64| [ms / 1000, ms % 1000 * 1_000_000];
    let spec = Itimerspec { interval: at(every_ms), value: at(first_ms) };
    unsafe {
        let fd = must(timerfd_create(MONOTONIC, NONBLOCK), "timerfd_create");
        must(timerfd_settime(fd, 0, &spec, std::ptr::null_mut()), "timerfd_settime");
        File::from_raw_fd(fd)
    }
}

/// The counter that a timerfd or an eventfd holds; 0 where there is nothing.
fn count(f: &mut File) -> u64 {
    let mut n = [0; 8];
    match f.read(&mut n) {
        Ok(8) => u64::from_ne_bytes(n),
        Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
        other => panic!("reading a counter: {:?}", other),
    }
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    pause: Option<File>, // an `after` that runs; what follows waits
}

struct Server {
    epoll: i32,
    numbers: HashMap<String, i64>,
    texts: HashMap<String, String>,
    ticks: u64,
    work: u64,
    back: u64,
    start: Instant,
}

impl Server {
    fn watch(&self, fd: i32, events: u32) {
        let mut ev = EpollEvent { events: events | ET, data: fd as u64 };
        must(unsafe { epoll_ctl(self.epoll, 1, fd, &mut ev) }, "epoll_ctl");
    }

    fn answer(&mut self, line: &str) -> String {
        let f: Vec<&str> = line.split(' ').collect();
        match f[..] {
            ["add", key, n] => {
                let v = self.numbers.entry(key.to_string()).or_insert(0);
                *v += n.parse::<i64>().unwrap_or(0);
                v.to_string()
            }
            ["put", key, text] => {
                self.texts.insert(key.to_string(), text.to_string());
                "ok".to_string()
            }
            ["get", key] => self.texts.get(key).cloned().unwrap_or_default(),
            ["ticks"] => {
                format!("{} {} {} {}", self.ticks, self.work, self.back, self.start.elapsed().as_micros())
            }
            _ => "what?".to_string(),
        }
    }

    /// Does what can be done for a connection; false where it has ended.
    fn serve(&mut self, c: &mut Connection, pauses: &mut HashMap<i32, i32>) -> bool {
        let mut block = [0; 16384];
        loop {
            match c.stream.read(&mut block) {
                Ok(0) => return false,
                Ok(n) => c.input.extend_from_slice(&block[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        while c.pause.is_none() {
            let end = match c.input.iter().position(|b| *b == b'\n') {
                Some(end) => end,
                None => break,
            };
            let line: Vec<u8> = c.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).to_string();
            if let Some(ms) = line.strip_prefix("after ") {
                let t = timer(ms.parse::<i64>().unwrap_or(1).max(1), 0);
                self.watch(t.as_raw_fd(), IN);
                pauses.insert(t.as_raw_fd(), c.stream.as_raw_fd());
                c.pause = Some(t);
            } else {
                c.output.extend_from_slice(self.answer(&line).as_bytes());
                c.output.push(b'\n');
            }
        }
        while !c.output.is_empty() {
            match c.stream.write(&c.output) {
                Ok(n) => drop(c.output.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Hashes a chain twice: both must come to the same. Waits on a condition with a timeout in between.
fn chores(mut done: File, id: u64) {
    let pair = Arc::new((Mutex::new(()), Condvar::new()));
    for n in 0u64.. {
        let chain = |rounds| (0..rounds).fold(n ^ id, |x: u64, i| (x ^ i).wrapping_mul(0x100000001b3).rotate_left(7));
        let words: Vec<u64> = (0..512).map(|i| chain(100 + i)).collect();
        assert!(words.iter().enumerate().all(|(i, w)| *w == chain(100 + i as u64)), "a sum has changed");
        done.write_all(&1u64.to_ne_bytes()).expect("eventfd");
        let guard = pair.0.lock().unwrap();
        let _ = pair.1.wait_timeout(guard, Duration::from_millis(20)).unwrap();
    }
}

fn main() {
    let listener = TcpListener::bind("0.0.0.0:7000").expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    let epoll = must(unsafe { epoll_create1(0) }, "epoll_create1");
    let mut s = Server {
        epoll,
        numbers: HashMap::new(),
        texts: HashMap::new(),
        ticks: 0,
        work: 0,
        back: 0,
        start: Instant::now(),
    };
    let mut ticker = timer(10, 10);
    let mut done = unsafe { File::from_raw_fd(must(eventfd(0, NONBLOCK), "eventfd")) };
    for id in 0..2 {
        let done = done.try_clone().expect("dup");
        thread::spawn(move || chores(done, id));
    }
    for fd in [listener.as_raw_fd(), ticker.as_raw_fd(), done.as_raw_fd()] {
        s.watch(fd, IN);
    }
    let mut connections: HashMap<i32, Connection> = HashMap::new();
    let mut pauses: HashMap<i32, i32> = HashMap::new(); // timer -> connection
    let (mut mono, mut wall) = (Instant::now(), SystemTime::now());
    loop {
        let mut events: [EpollEvent; 64] = unsafe { std::mem::zeroed() };
        let n = unsafe { epoll_wait(epoll, events.as_mut_ptr(), 64, -1) };
        for ev in events.iter().take(n.max(0) as usize) {
            let mut fd = ev.data as i32;
            if fd == ticker.as_raw_fd() {
                s.ticks += count(&mut ticker);
                let (m, w) = (Instant::now(), SystemTime::now());
                s.back += (m < mono || w < wall) as u64;
                mono = m;
                wall = w;
                continue;
            }
            if fd == done.as_raw_fd() {
                s.work += count(&mut done);
                continue;
            }
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("nonblocking");
                    stream.set_nodelay(true).expect("nodelay");
                    s.watch(stream.as_raw_fd(), IN | OUT);
                    connections.insert(
                        stream.as_raw_fd(),
                        Connection { stream, input: Vec::new(), output: Vec::new(), pause: None },
                    );
                }
                continue;
            }
            if let Some(owner) = pauses.get(&fd).copied() {
                let c = connections.get_mut(&owner).expect("owner of a timer");
                // Reported without having fired: a level that was seen before.
                if count(c.pause.as_mut().expect("timer")) == 0 {
                    continue;
                }
                pauses.remove(&fd);
                c.pause = None;
                c.output.extend_from_slice(b"ok\n");
                fd = owner;
            }
            if let Some(mut c) = connections.remove(&fd) {
                if s.serve(&mut c, &mut pauses) {
                    connections.insert(fd, c);
                } else if let Some(t) = c.pause {
                    pauses.remove(&t.as_raw_fd());
                }
            }
        }
    }
}
