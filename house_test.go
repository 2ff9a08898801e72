package discreet_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/discreet-fl/discreet"

// maxLines bounds a source file that people read. Most have at most 400; the
// rest of the room is for tables.
const maxLines = 600

// A room is a top-level folder with one responsibility. Its rules hold for the
// direct imports of its sources, those of subpackages included and those of
// tests left out.
type room struct {
	// own lists the rooms that may be imported, besides the room itself.
	own []string
	// never lists further import paths that are forbidden, with everything
	// below them: ours are written from the module's root with a leading "./".
	never []string
}

// pure are the standard packages that the rooms of values and arithmetic do
// without: they reach no network, file, log or clock.
var pure = []string{"net", "os", "log", "context", "time"}

// rooms is the whole house. The one direction of imports is in its own columns:
// cmd, benchmarks → simulate → client, coordinator → secagg, checkpointlog,
// aggregation, privacy, model.
var rooms = map[string]room{
	"proto":         {},
	"model":         {never: pure},
	"aggregation":   {never: pure},
	"privacy":       {never: pure},
	"secagg":        {never: pure},
	"checkpointlog": {never: pure},
	"dataset":       {own: []string{"model"}},
	"client":        {own: []string{"proto", "model", "aggregation", "privacy", "secagg", "checkpointlog"}},
	"coordinator":   {own: []string{"proto", "model", "aggregation", "privacy", "secagg", "checkpointlog"}, never: []string{"./model/train"}},
	"simulate":      {own: []string{"proto", "model", "aggregation", "privacy", "secagg", "checkpointlog", "dataset", "client", "coordinator"}},
	"benchmarks":    {own: []string{"proto", "model", "aggregation", "privacy", "secagg", "checkpointlog", "dataset", "client", "coordinator", "simulate"}},
	"cmd":           {own: []string{"proto", "model", "aggregation", "privacy", "secagg", "checkpointlog", "dataset", "client", "coordinator", "simulate"}},
}

// only names the folders in which a large dependency may be imported, so that
// a build without those folders stays small.
var only = map[string][]string{
	"gorgonia.org":           {"model/train", "benchmarks"},
	"google.golang.org/grpc": {"proto/rpc", "client", "coordinator", "simulate", "benchmarks", "cmd"},
	"modernc.org/sqlite":     {"coordinator"},
}

// fixed are the entries of the root that others build on; they never move.
var fixed = []string{
	"coordinator", "client", "model", "aggregation", "secagg", "proto", "benchmarks",
	"go.mod", "go.sum", "README.md",
}

// TestHouse holds the layout, the import rules and the house style on every
// source of the module. docs/architecture.md says why the rules are as they are.
func TestHouse(t *testing.T) {
	broken, err := inspect(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

// inspect returns the rules that the module at the root of fsys breaks, one
// line for each.
func inspect(fsys fs.FS) ([]string, error) {
	var broken []string
	for _, name := range fixed {
		if _, err := fs.Stat(fsys, name); err != nil {
			broken = append(broken, fmt.Sprintf("%s: missing from the root, where it has to stand", name))
		}
	}
	documented := map[string]bool{} // by package folder
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := path.Base(name); name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata") {
				return fs.SkipDir // the go command does not look there either
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		source, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		found, doc, err := inspectFile(name, source)
		if err != nil {
			return err
		}
		broken = append(broken, found...)
		if !strings.HasSuffix(name, "_test.go") {
			documented[path.Dir(name)] = documented[path.Dir(name)] || doc
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for folder, doc := range documented {
		if !doc {
			broken = append(broken, fmt.Sprintf("%s: no package doc; say what the package is for and where to begin", folder))
		}
	}
	slices.Sort(broken)
	return broken, nil
}

// inspectFile returns the rules that one Go source breaks, and whether it
// carries a package doc.
func inspectFile(name string, source []byte) (broken []string, doc bool, err error) {
	fset := token.NewFileSet()
	test := strings.HasSuffix(name, "_test.go")
	mode := parser.ParseComments | parser.ImportsOnly
	if test {
		mode = parser.ParseComments // the bodies are searched for time.Sleep
	}
	file, err := parser.ParseFile(fset, name, source, mode)
	if err != nil {
		return nil, false, err
	}
	if lines := strings.Count(string(source), "\n"); lines > maxLines && !ast.IsGenerated(file) {
		broken = append(broken, fmt.Sprintf("%s: %d lines, at most %d wanted; split it by the reasons that it has to exist", name, lines, maxLines))
	}
	for _, element := range append(strings.Split(path.Dir(name), "/"), strings.TrimSuffix(file.Name.Name, "_test")) {
		switch element {
		case "util", "utils", "common", "helper", "helpers":
			broken = append(broken, fmt.Sprintf("%s: package named %s; name it for what it offers", name, element))
		}
	}
	if test {
		return append(broken, sleeps(fset, file)...), false, nil
	}
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, false, err
		}
		if why := refuse(name, target); why != "" {
			broken = append(broken, fmt.Sprintf("%s imports %s: %s", fset.Position(spec.Pos()), target, why))
		}
	}
	if top, _, nested := strings.Cut(name, "/"); !nested {
		broken = append(broken, fmt.Sprintf("%s: the root holds tests only; put the source into a room", name))
	} else if _, ok := rooms[top]; !ok {
		broken = append(broken, fmt.Sprintf("%s: %s is no room of the house", name, top))
	}
	return broken, file.Doc.Text() != "", nil
}

// refuse says why the source called name may not import target, or returns "".
func refuse(name, target string) string {
	top, _, _ := strings.Cut(name, "/")
	rules, ok := rooms[top]
	if !ok {
		return "" // reported for the file as a whole
	}
	for _, never := range rules.never {
		if below(target, strings.Replace(never, "./", module+"/", 1)) {
			return fmt.Sprintf("%s never imports %s", top, never)
		}
	}
	for dependency, folders := range only {
		inside := slices.ContainsFunc(folders, func(f string) bool { return below(name, f) })
		if below(target, dependency) && !inside {
			return fmt.Sprintf("%s is for %s only", dependency, strings.Join(folders, ", "))
		}
	}
	if target == module {
		return "nothing imports the root"
	}
	inner, ours := strings.CutPrefix(target, module+"/")
	if !ours {
		return ""
	}
	other, _, _ := strings.Cut(inner, "/")
	if other == top || slices.Contains(rules.own, other) {
		return ""
	}
	if len(rules.own) == 0 {
		return fmt.Sprintf("%s imports no other room", top)
	}
	return fmt.Sprintf("of our rooms, %s imports %s only", top, strings.Join(rules.own, ", "))
}

// below reports whether the import path or file name target is root or lies below it.
func below(target, root string) bool {
	return target == root || strings.HasPrefix(target, root+"/")
}

// sleeps returns the places where a test takes time.Sleep or only waits for
// time.After: what waits for time runs in a testing/synctest bubble, where both
// cost nothing and are allowed, and what waits for work waits on the work.
func sleeps(fset *token.FileSet, file *ast.File) []string {
	var found []string
	report := func(n ast.Node) {
		found = append(found, fmt.Sprintf("%s: a test sleeps; use testing/synctest, or wait on what is awaited", fset.Position(n.Pos())))
	}
	choices := map[ast.Stmt]bool{} // of a select, which waits for other things too
	clock, bubble := nameOf(file, "time"), nameOf(file, "testing/synctest")
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			return !selects(n.Fun, bubble, "Test")
		case *ast.SelectorExpr:
			if selects(n, clock, "Sleep") {
				report(n)
			}
		case *ast.CommClause:
			choices[n.Comm] = true
		case *ast.ExprStmt:
			if wait, ok := n.X.(*ast.UnaryExpr); ok && wait.Op == token.ARROW && !choices[n] {
				if call, ok := wait.X.(*ast.CallExpr); ok && selects(call.Fun, clock, "After") {
					report(n)
				}
			}
		}
		return true
	})
	return found
}

// nameOf returns the name by which the file knows the package that it imports
// from target, or "".
func nameOf(file *ast.File, target string) string {
	for _, spec := range file.Imports {
		if spec.Path.Value == strconv.Quote(target) {
			if spec.Name != nil {
				return spec.Name.Name
			}
			return path.Base(target)
		}
	}
	return ""
}

// selects reports whether the expression is pkg.name.
func selects(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// TestRoomsAreOneWay holds that no room can reach itself through others.
func TestRoomsAreOneWay(t *testing.T) {
	var visit func(string, []string)
	visit = func(name string, trail []string) {
		if slices.Contains(trail, name) {
			t.Fatalf("the rules allow a circle: %s → %s", strings.Join(trail, " → "), name)
		}
		for _, next := range rooms[name].own {
			visit(next, append(slices.Clone(trail), name))
		}
	}
	for name := range rooms {
		visit(name, nil)
	}
}

// TestInspect breaks each rule once in a small house of its own.
func TestInspect(t *testing.T) {
	const ours = module + "/"
	source := func(name string, imports ...string) string {
		text := "// Package " + name + " is documented.\npackage " + name + "\n"
		for _, i := range imports {
			text += "import _ " + strconv.Quote(i) + "\n"
		}
		return text
	}
	tests := []struct {
		name, file, source string
		want               string // part of the one complaint; empty: none
	}{
		{"allowed", "client/a.go", source("client", "net/http", "time", ours+"proto/rpc", ours+"secagg", ours+"model/train"), ""},
		{"allowed everywhere above", "cmd/discreet/a.go", source("main", ours+"client", ours+"coordinator", ours+"simulate", ours+"dataset"), ""},
		{"similar name of a standard package", "model/a.go", source("model", "netip.example/os", "timer", "logic"), ""},
		{"dataset reads models", "dataset/a.go", source("dataset", ours+"model"), ""},
		{"client and coordinator", "client/a.go", source("client", ours+"coordinator/store"), "of our rooms, client imports"},
		{"coordinator and client", "coordinator/store/a.go", source("store", ours+"client"), "of our rooms, coordinator imports"},
		{"client and dataset", "client/a.go", source("client", ours+"dataset"), "of our rooms, client imports"},
		{"benchmarks imported", "simulate/a.go", source("simulate", ours+"benchmarks"), "of our rooms, simulate imports"},
		{"benchmarks imported by cmd", "cmd/discreet/a.go", source("main", ours+"benchmarks/rounds"), "of our rooms, cmd imports"},
		{"proto imports ours", "proto/rpc/a.go", source("rpc", ours+"model"), "proto imports no other room"},
		{"secagg and aggregation", "secagg/a.go", source("secagg", ours+"aggregation"), "secagg imports no other room"},
		{"aggregation and secagg", "aggregation/a.go", source("aggregation", ours+"secagg"), "aggregation imports no other room"},
		{"privacy and aggregation", "privacy/a.go", source("privacy", ours+"aggregation"), "privacy imports no other room"},
		{"privacy and clock", "privacy/a.go", source("privacy", "time"), "privacy never imports time"},
		{"privacy in both ends", "client/a.go", source("client", ours+"privacy"), ""},
		{"against the stream", "coordinator/a.go", source("coordinator", ours+"simulate"), "of our rooms, coordinator imports"},
		{"coordinator trains", "coordinator/a.go", source("coordinator", ours+"model/train"), "coordinator never imports ./model/train"},
		{"log and secagg", "checkpointlog/a.go", source("checkpointlog", ours+"secagg"), "checkpointlog imports no other room"},
		{"log and clock", "checkpointlog/a.go", source("checkpointlog", "time"), "checkpointlog never imports time"},
		{"log in both ends", "client/a.go", source("client", ours+"checkpointlog"), ""},
		{"secagg and proto", "secagg/a.go", source("secagg", ours+"proto"), "secagg imports no other room"},
		{"secagg and net", "secagg/a.go", source("secagg", "net"), "secagg never imports net"},
		{"secagg and net below", "secagg/inner/a.go", source("inner", "net/http"), "secagg never imports net"},
		{"model and log below", "model/a.go", source("model", "log/slog"), "model never imports log"},
		{"model and os below", "model/train/a.go", source("train", "os/exec"), "model never imports os"},
		{"aggregation and context", "aggregation/a.go", source("aggregation", "context"), "aggregation never imports context"},
		{"aggregation and time", "aggregation/a.go", source("aggregation", "time"), "aggregation never imports time"},
		{"renamed import", "secagg/a.go", "// Package secagg is.\npackage secagg\nimport clock \"time\"\n", "secagg never imports time"},
		{"behind a build tag", "model/a_js.go", "//go:build js\n\n// Package model is.\npackage model\nimport _ \"os\"\n", "model never imports os"},
		{"gorgonia outside training", "model/a.go", source("model", "gorgonia.org/tensor"), "gorgonia.org is for model/train"},
		{"gorgonia in training", "model/train/a.go", source("train", "gorgonia.org/gorgonia"), ""},
		{"messages without grpc", "proto/a.go", source("proto", "google.golang.org/grpc/codes"), "google.golang.org/grpc is for proto/rpc"},
		{"sqlite on a device", "client/a.go", source("client", "modernc.org/sqlite"), "modernc.org/sqlite is for coordinator"},
		{"the root imported", "client/a.go", source("client", module), "nothing imports the root"},
		{"unknown room", "storage/a.go", source("storage"), "storage is no room of the house"},
		{"source in the root", "a.go", source("discreet"), "the root holds tests only"},
		{"vague name", "client/b.go", source("utils"), "package named utils"},
		{"vague folder", "client/common/a.go", source("words"), "package named common"},
		{"no doc", "client/inner/a.go", "package inner\n", "client/inner: no package doc"},
		{"doc in one file is enough", "client/b.go", "package client\n", ""},
		{"too long", "client/a.go", source("client") + strings.Repeat("\n", maxLines), "602 lines, at most 600 wanted"},
		{"generated may be long", "proto/a.pb.go", "// Code generated by x. DO NOT EDIT.\n\n" + source("proto") + strings.Repeat("\n", maxLines), ""},
		{"tests may import anything", "secagg/a_test.go", "package secagg\nimport _ \"time\"\nimport _ \"" + ours + "aggregation\"\n", ""},
		{"sleeping test", "client/a_test.go", "package client\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "a test sleeps"},
		{"sleep passed on", "client/a_test.go", "package client\nimport t \"time\"\nvar wait = t.Sleep\n", "a test sleeps"},
		{"waiting for nothing but time", "client/a_test.go", "package client\nimport \"time\"\nfunc f() { <-time.After(1) }\n", "a test sleeps"},
		{"waiting for time or more", "client/a_test.go", "package client\nimport \"time\"\nfunc f(c chan int) { select { case <-c: case <-time.After(1): panic(c) } }\n", ""},
		{"sleep in a bubble", "client/a_test.go", "package client\nimport (\"testing\"; \"testing/synctest\"; \"time\")\nfunc TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1); <-time.After(1) }) }\n", ""},
		{"sleep beside a bubble", "client/a_test.go", "package client\nimport (\"testing\"; \"testing/synctest\"; \"time\")\nfunc TestA(t *testing.T) { time.Sleep(1); synctest.Test(t, func(*testing.T) {}) }\n", "a test sleeps"},
		{"sleep of something else", "client/a_test.go", "package client\nfunc f() { kiosk.Sleep(1) }\n", ""},
		{"testdata is not looked at", "client/testdata/a.go", "package utils\nimport _ \"nowhere\"\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			house := fstest.MapFS{}
			for _, name := range fixed {
				if path.Ext(name) == "" {
					house[name+"/doc.go"] = &fstest.MapFile{Data: []byte(source(name))}
				} else {
					house[name] = &fstest.MapFile{}
				}
			}
			house[test.file] = &fstest.MapFile{Data: []byte(test.source)}
			broken, err := inspect(house)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" && len(broken) > 0 {
				t.Fatalf("got %q, want no complaint", broken)
			}
			if test.want != "" && (len(broken) != 1 || !strings.Contains(broken[0], test.want)) {
				t.Fatalf("got %q, want one complaint with %q", broken, test.want)
			}
		})
	}

	t.Run("fixed entries", func(t *testing.T) {
		broken, err := inspect(fstest.MapFS{})
		if err != nil {
			t.Fatal(err)
		}
		if len(broken) != len(fixed) || !strings.Contains(broken[0], "missing from the root") {
			t.Fatalf("an empty house: got %q, want %d missing entries", broken, len(fixed))
		}
	})
}
