//go:build unix

package discreet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// readmeDeadline bounds all commands of README.md together.
const readmeDeadline = 12 * time.Minute

// TestREADME runs every command that README.md shows, in order, in one shell in
// an empty folder. Only the ports are others, that nobody listens on: see portShim.
func TestREADME(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the commands of README.md, which take minutes, are left out")
	}
	markdown, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newScript(string(markdown))
	if err != nil {
		t.Fatal("README.md: ", err)
	}
	if len(s.commands) == 0 {
		t.Fatal("README.md shows no command")
	}
	ctx, cancel := context.WithTimeout(t.Context(), readmeDeadline)
	defer cancel()
	bin := t.TempDir()
	build(ctx, t, bin, "program", "./cmd/discreet")
	if err := os.WriteFile(filepath.Join(bin, "discreet"), []byte(portShim), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("README_PORT", freePort(t))
	t.Setenv("README_STATUS_PORT", freePort(t))
	if bytes.Contains(markdown, []byte("go run ./benchmarks")) {
		build(ctx, t, bin, "benchmarks", "./benchmarks")
	}
	state, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	if err := s.run(ctx, bin, state); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "discreet-demo*")); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind, %v", left, err)
	}
	printed, err := os.ReadFile(filepath.Join(state, "output"))
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range brokenPromises(string(printed)) {
		t.Error(broken)
	}
}

// brokenPromises returns what the demo's table, as printed, does not show of what README.md
// says of it.
func brokenPromises(out string) []string {
	var broken []string
	figure := func(row string) float64 {
		found := regexp.MustCompile(`(?m)^` + row + ` +([0-9.]+)`).FindStringSubmatch(out)
		if found == nil {
			broken = append(broken, fmt.Sprintf("no row %q in\n%s", row, out))
			return math.NaN()
		}
		x, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			broken = append(broken, err.Error())
		}
		return x
	}
	together, alone, central := figure("accuracy after, together"), figure("accuracy of the mean kiosk alone"), figure("accuracy trained centrally")
	if together < alone+10 || together < central-5 {
		broken = append(broken, fmt.Sprintf("together %v%%, alone %v%%, centrally %v%%: want ten points above alone and within five of central", together, alone, central))
	}
	// Who vanishes is fixed, but not who is chosen: once in thirty runs or so more vanish in the
	// middle of one round than it can bear.
	rounds := regexp.MustCompile(`(?m)^rounds +([0-9]+) committed in [0-9]+ attempts; [1-9][0-9]* survived a loss(?:; ([0-9]+) lost when too few revealed)?$`).FindStringSubmatch(out)
	committed, lost := 0, 0
	if rounds != nil {
		committed, _ = strconv.Atoi(rounds[1])
		lost, _ = strconv.Atoi(rounds[2]) // 0 where there is none
	}
	if figure("kiosks lost in the middle of a round") == 0 || committed+lost != 40 || lost > 2 {
		broken = append(broken, "want forty rounds, of which two at most were lost, and some survived a loss:\n"+out)
	}
	if given := figure(`given away by a kiosk, at most +ε`); given <= 0 || given > 8 || figure("noise in a round's mean") < 10 {
		broken = append(broken, "want noise in the second rounds, and no more given away than an ε of 8:\n"+out)
	}
	if exact, noised := figure("accuracy after 8 rounds, exact sums"), figure("under a promise of ε 8 at δ 1e-06"); exact < noised+20 {
		broken = append(broken, fmt.Sprintf("after 8 rounds %v%% without noise and %v%% with: want what noise of so few kiosks costs", exact, noised))
	}
	return broken
}

// TestDemosTableInREADME holds that the table README.md shows is one that keeps its promises,
// and that one which breaks them is seen.
func TestDemosTableInREADME(t *testing.T) {
	markdown, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if broken := brokenPromises(string(markdown)); len(broken) > 0 {
		t.Errorf("README.md: %v", broken)
	}
	// The table's figures are one run's, so rows are found by their names.
	const rounds = "rounds                                "
	change := func(row, to string) string {
		found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(row) + ` .*$`).FindString(string(markdown))
		if found == "" {
			t.Errorf("README.md has no row %q", row)
		}
		return strings.Replace(string(markdown), found, to, 1)
	}
	for _, c := range [][2]string{
		{"accuracy after, together", "accuracy after, together  23.7%"},
		{"rounds", rounds + "39 committed in 40 attempts; 23 survived a loss"},
		{"given away by a kiosk, at most", "given away by a kiosk, at most  ε 9.96 in 3 vectors, by its own ledger"},
		{"accuracy after 8 rounds, exact sums", "accuracy after 8 rounds, exact sums  8.4%"},
		{"accuracy trained centrally", "accuracy  84.9%"},
		{"rounds", rounds + "37 committed in 40 attempts; 28 survived a loss; 3 lost when too few revealed"},
		{"rounds", rounds + "40 committed in 40 attempts; 0 survived a loss"},
	} {
		if len(brokenPromises(change(c[0], c[1]))) == 0 {
			t.Errorf("%q is not seen to break a promise", c[1])
		}
	}
	for _, other := range []string{
		rounds + "39 committed in 41 attempts; 26 survived a loss; 1 lost when too few revealed",
		rounds + "38 committed in 40 attempts; 26 survived a loss; 2 lost when too few revealed",
	} {
		if broken := brokenPromises(change("rounds", other)); len(broken) > 0 {
			t.Errorf("%q: %v", other, broken)
		}
	}
}

// freePort is a port of the loopback address that nobody listens on at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// build compiles a command of the module into folder.
func build(ctx context.Context, t *testing.T, folder, name, target string) {
	t.Helper()
	out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(folder, name), target).CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v\n%s", target, err, out)
	}
}

// TestREADMEProgram holds that the program README.md shows is the body of the
// client's example, which the compiler checks.
func TestREADMEProgram(t *testing.T) {
	markdown, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join("client", "example_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sameProgram(string(markdown), string(example)); err != nil {
		t.Fatal(err)
	}
}

// sameProgram compares the one go block of a README, a whole program or a
// function's body, with the first Example of a test file, leaving out
// indentation, empty lines and the expected output.
func sameProgram(markdown, example string) error {
	found, err := blocks(markdown)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(b block) bool { return b.language != "go" })
	if len(found) != 1 {
		return fmt.Errorf("README.md has %d go blocks, want the one embedding program", len(found))
	}
	program := strings.Join(found[0].lines, "\n")
	if !strings.HasPrefix(program, "package ") {
		program = "package main\nfunc main() {\n" + program + "\n}"
	}
	shown, err := body(program, func(name string) bool { return name == "main" })
	if err != nil {
		return fmt.Errorf("README.md:%d: %w", found[0].line, err)
	}
	want, err := body(example, func(name string) bool { return strings.HasPrefix(name, "Example") })
	if err != nil {
		return fmt.Errorf("client/example_test.go: %w", err)
	}
	for i := range max(len(shown), len(want)) {
		var a, b string
		if i < len(shown) {
			a = shown[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a != b {
			return fmt.Errorf("the program of README.md:%d is not client/example_test.go's; line %d of its body is %q, the example's %q", found[0].line, i+1, a, b)
		}
	}
	return nil
}

// body returns the lines of the first function whose name is wanted, trimmed,
// without empty ones, up to a comment with the expected output.
func body(source string, wanted func(name string) bool) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Body == nil || f.Recv != nil || !wanted(f.Name.Name) {
			continue
		}
		var lines []string
		inner := source[fset.Position(f.Body.Lbrace).Offset+1 : fset.Position(f.Body.Rbrace).Offset]
		for line := range strings.Lines(inner) {
			line = strings.TrimSpace(line)
			if lower := strings.ToLower(line); strings.HasPrefix(lower, "// output:") || strings.HasPrefix(lower, "// unordered output:") {
				break
			}
			if line != "" {
				lines = append(lines, line)
			}
		}
		return lines, nil
	}
	return nil, errors.New("it has no such function")
}

// TestSameProgram holds that a README whose program differs is seen.
func TestSameProgram(t *testing.T) {
	const example = "package client_test\n\nfunc Example() {\n\tone()\n\n\ttwo()\n\t// Output: 2\n}\n"
	tests := []struct{ name, markdown, want string }{
		{"whole program", "```go\npackage main\n\nfunc main() {\n\tone()\n\ttwo()\n}\n```\n", ""},
		{"body", "```go\none()\ntwo()\n```\n", ""},
		{"another line", "```go\none()\nthree()\n```\n", `line 2 of its body is "three()", the example's "two()"`},
		{"a line less", "```go\none()\n```\n", `line 2 of its body is ""`},
		{"no program", "# A\n", "0 go blocks"},
		{"two programs", "```go\none()\n```\n```go\ntwo()\n```\n", "2 go blocks"},
		{"no main", "```go\npackage main\n```\n", "no such function"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := sameProgram(test.markdown, example)
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
