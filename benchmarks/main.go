// Command benchmarks measures what discreet costs, on the machine it runs on, and
// writes each figure beside the physical limit measured in the same run.
//
//	go run ./benchmarks secagg --devices 100 --dim 1000000 --drop 0.2 --json -
//	go run ./benchmarks train --json -
//	go run ./benchmarks rounds --json -
//	go run ./benchmarks accuracy --data data_full.json --model base --validate
//	go run ./benchmarks personal --data data_full.json --split dirichlet:0.1
//	go run ./benchmarks utility --svg utility.svg
//
// The figures of a named machine, with the command that gave each, are in
// benchmarks/README.md.
package main

import (
	"fmt"
	"os"
)

// benchmarks by name.
var benchmarks = map[string]func(args []string) error{
	"secagg": runSecagg,
	"train":  runTrain,
	"rounds": runRounds,

	"accuracy": runAccuracy,
	"personal": runPersonal,
	"utility":  runUtility,

	daemonArgument:  serveRounds,
	devicesArgument: serveDevices,
}

func main() {
	if len(os.Args) < 2 || benchmarks[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run ./benchmarks secagg|train|rounds|accuracy|personal|utility [flags]; --help after the name lists them")
		os.Exit(2)
	}
	if err := benchmarks[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}
