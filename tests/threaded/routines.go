// Goroutines that compute, pass messages, wait for times and locks, make garbage, and start processes.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"sync"
	"time"
)

func pipeline(stages, items int) int {
	in := make(chan int)
	first := in
	for s := 0; s < stages; s++ {
		out := make(chan int, s%3)
		go func(from, to chan int, add int) {
			for x := range from {
				to <- x*3 + add
			}
			close(to)
		}(in, out, s)
		in = out
	}
	go func() {
		for i := 0; i < items; i++ {
			first <- i
		}
		close(first)
	}()
	sum := 0
	for x := range in {
		sum = (sum*7 + x) % 1000003
	}
	return sum
}

func hashes(workers, blocks int) string {
	var wait sync.WaitGroup
	var lock sync.Mutex
	found := map[int][32]byte{}
	for w := 0; w < workers; w++ {
		wait.Add(1)
		go func(w int) {
			defer wait.Done()
			for b := w; b < blocks; b += workers {
				block := bytes.Repeat([]byte{byte(b)}, 40000)
				sum := sha256.Sum256(block)
				lock.Lock()
				found[b] = sum
				lock.Unlock()
			}
		}(w)
	}
	wait.Wait()
	var keys []int
	for key := range found {
		keys = append(keys, key)
	}
	sort.Ints(keys)
	all := sha256.New()
	for _, key := range keys {
		sum := found[key]
		all.Write(sum[:])
	}
	return fmt.Sprintf("%x", all.Sum(nil)[:6])
}

func sleepers(n int) int {
	done := make(chan int)
	for i := 0; i < n; i++ {
		go func(i int) {
			begun := time.Now()
			wish := time.Duration(5+i) * time.Millisecond
			select {
			case <-time.After(wish):
			case <-make(chan int):
			}
			if time.Since(begun) < wish {
				done <- -1000000
			} else {
				done <- i
			}
		}(i)
	}
	sum := 0
	for i := 0; i < n; i++ {
		sum += <-done
	}
	return sum
}

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	for r := 0; r < rounds; r++ {
		file := fmt.Sprintf("of-go-%d", r)
		os.WriteFile(file, bytes.Repeat([]byte("line\n"), 1000+r), 0o600)
		text, _ := os.ReadFile(file)
		os.Remove(file)
		out, err := exec.Command("sh", "-c", fmt.Sprintf("echo child %d; exit %d", r, r%5)).Output()
		fmt.Println(r, pipeline(8, 300), hashes(6, 40+r), sleepers(20), len(text), string(bytes.TrimSpace(out)), err)
	}
}
