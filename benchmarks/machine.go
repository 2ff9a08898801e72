package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// machine names the processor, the cores in use and the Go release, for the record
// beside a figure.
func machine() string {
	cpu := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s/%s, %s", cpu, runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// cpuOf is the processor time, of all threads, that f takes, garbage collection during it included.
func cpuOf(f func() error) (time.Duration, error) {
	before := cpuTime()
	err := f()
	return cpuTime() - before, err
}
