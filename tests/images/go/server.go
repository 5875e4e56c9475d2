// SPDX-License-Identifier: Apache-2.0

// A server of tests/images/README.md over net/http: a goroutine a connection, a ticker, a timer for each
// `after`, and workers that loop without a call (the scheduler stops them by SIGURG) and that make garbage.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	lock       sync.Mutex
	numbers    = map[string]int64{}
	texts      = map[string]string{}
	ticks      int64
	work, back int64
	start      = time.Now()
)

func tick() {
	mono, wall := time.Duration(0), time.Now().Round(0)
	for range time.Tick(10 * time.Millisecond) {
		now := time.Now()
		if m, w := now.Sub(start), now.Round(0); m < mono || w.Before(wall) {
			atomic.AddInt64(&back, 1)
		} else {
			mono, wall = m, w
		}
		atomic.AddInt64(&ticks, 1)
	}
}

type node struct {
	left, right *node
	sum         [32]byte
}

func tree(depth int, seed string) *node {
	n := &node{sum: sha256.Sum256([]byte(seed))}
	if depth > 0 {
		n.left, n.right = tree(depth-1, seed+"l"), tree(depth-1, seed+"r")
	}
	return n
}

func (n *node) check(seed string) {
	if n == nil {
		return
	}
	if n.sum != sha256.Sum256([]byte(seed)) {
		log.Fatalf("the hash of %s has changed", seed)
	}
	n.left.check(seed + "l")
	n.right.check(seed + "r")
}

// A loop without calls: only a signal can take the processor from it.
func spin(rounds uint64) (x uint64) {
	for i := uint64(0); i < rounds; i++ {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return
}

func worker(id int) {
	want := spin(1000000)
	kept := map[int]*node{}
	for n := 0; ; n++ {
		seed := fmt.Sprint(id, n)
		t := tree(9, seed)
		kept[n] = t
		if n >= 100 {
			kept[n-100].check(fmt.Sprint(id, n-100))
			delete(kept, n-100)
		}
		if spin(1000000) != want {
			log.Fatal("a sum has changed")
		}
		if n%25 == 0 {
			spin(25000000)
		}
		t.check(seed)
		atomic.AddInt64(&work, 1)
		time.Sleep(20 * time.Millisecond)
	}
}

func answer(line string) string {
	f := strings.Split(line, " ")
	switch f[0] {
	case "add":
		n, _ := strconv.ParseInt(f[2], 10, 64)
		lock.Lock()
		defer lock.Unlock()
		numbers[f[1]] += n
		return fmt.Sprint(numbers[f[1]])
	case "put":
		lock.Lock()
		defer lock.Unlock()
		texts[f[1]] = f[2]
		return "ok"
	case "get":
		lock.Lock()
		defer lock.Unlock()
		return texts[f[1]]
	case "after":
		ms, _ := strconv.Atoi(f[1])
		<-time.After(time.Duration(ms) * time.Millisecond)
		return "ok"
	case "ticks":
		return fmt.Sprint(atomic.LoadInt64(&ticks), atomic.LoadInt64(&work), atomic.LoadInt64(&back),
			time.Since(start).Microseconds())
	}
	return "what?"
}

func main() {
	debug.SetGCPercent(20)
	go tick()
	for i := 0; i < 3; i++ {
		go worker(i)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		line, err := io.ReadAll(r.Body)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		text := answer(string(line)) + "\n"
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		io.WriteString(w, text)
	})
	log.Fatal(http.ListenAndServe(":7000", nil))
}
