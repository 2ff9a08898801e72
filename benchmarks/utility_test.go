package main

import (
	"os"
	"strings"
	"testing"
)

// TestUtilityIsCurrent: table and figure are what was recorded.
func TestUtilityIsCurrent(t *testing.T) {
	points, err := readUtility(recordedUtility)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	writeUtilityTable(&table, points)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), table.String()) {
		t.Errorf("README.md does not have this table, which is what go run ./benchmarks utility prints:\n%s", table.String())
	}
	figure, err := os.ReadFile("utility.svg")
	if err != nil {
		t.Fatal(err)
	}
	if string(figure) != utilityFigure(points) {
		t.Error("utility.svg is not of utility.csv; run go run ./benchmarks utility --svg benchmarks/utility.svg")
	}
}

func TestUtilityRefuses(t *testing.T) {
	const head = "fleet,flags,epsilon,accuracy,bytes,seconds\n"
	for text, want := range map[string]string{
		head + "a,b,0,0.5,1,2\n":    `line 2: ε "0"`,
		head + "a,b,nan,0.5,1,2\n":  `line 2: ε "nan"`,
		head + "a,b,none,1.5,1,2\n": `line 2: accuracy "1.5"`,
		head + "a,b\n":              "wrong number of fields",
	} {
		if _, err := readUtility(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}
