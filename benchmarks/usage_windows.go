package main

import (
	"os"
	"syscall"
	"time"
)

// cpuTime is the processor time of all threads of this process so far, in user and
// system mode.
func cpuTime() time.Duration {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		panic(err) // every process has a handle of itself
	}
	var created, ended, kernel, user syscall.Filetime
	if err := syscall.GetProcessTimes(self, &created, &ended, &kernel, &user); err != nil {
		panic(err) // that handle may always be asked
	}
	return ticks(kernel) + ticks(user)
}

// ticks is a span of time that Windows gives as a number of 100 ns.
func ticks(t syscall.Filetime) time.Duration {
	return time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime)) * 100
}

// peakMemory is 0: an ended process no longer says how much memory it had here.
func peakMemory(*os.ProcessState) int64 { return 0 }
