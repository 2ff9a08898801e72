//go:build unix

package discreet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/coordinator"
)

// A block is a fenced piece of a Markdown text.
type block struct {
	language string
	line     int // of its first line, from 1
	lines    []string
}

// blocks returns the fenced blocks of a Markdown text in order.
func blocks(markdown string) ([]block, error) {
	var found []block
	var open *block
	for i, line := range strings.Split(markdown, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimRight(line, " \t\r"), "```")
		switch {
		case !isFence && open != nil:
			open.lines = append(open.lines, line)
		case !isFence:
		case open == nil:
			open = &block{language: fence, line: i + 2}
		case fence != "":
			return nil, fmt.Errorf("line %d: a block opens inside the block of line %d", i+1, open.line-1)
		default:
			found = append(found, *open)
			open = nil
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block is never closed", open.line-1)
	}
	return found, nil
}

// commands returns a block's shell lines; what is none is left empty, so that
// the lines keep their numbers. A "console" block shows commands behind "$ "
// and, uncommanded, what they print.
func (b block) commands() []string {
	switch b.language {
	case "sh":
		return b.lines
	case "console":
		lines := make([]string, len(b.lines))
		for i, line := range b.lines {
			lines[i], _ = strings.CutPrefix(line, "$ ")
			if lines[i] == line {
				lines[i] = ""
			}
		}
		return lines
	}
	return nil
}

// A script is README.md with nothing left but its commands: each stands on the
// line where README.md has it, so that the shell's line numbers are README.md's.
type script struct {
	lines    []string
	commands []int // numbers of the lines on which a command begins
}

// newScript makes the script of a README.
func newScript(markdown string) (*script, error) {
	found, err := blocks(markdown)
	if err != nil {
		return nil, err
	}
	s := &script{lines: make([]string, strings.Count(markdown, "\n")+1)}
	for _, b := range found {
		switch b.language {
		case "sh", "console", "go", "text":
		default:
			return nil, fmt.Errorf("line %d: a block of %q; wanted sh or console (run), go (compared) or text (shown)", b.line-1, b.language)
		}
		s.add(b)
	}
	return s, nil
}

// add puts a block's commands into the script.
func (s *script) add(b block) {
	continued, heredoc := false, ""
	for i, line := range b.commands() {
		number, text := b.line+i, strings.TrimSpace(line)
		s.lines[number-1] = line
		if heredoc != "" {
			if text == heredoc {
				heredoc = ""
			}
			continue
		}
		if !continued && text != "" && text[0] != '#' {
			s.commands = append(s.commands, number)
		}
		continued = strings.HasSuffix(text, `\`)
		if _, word, ok := strings.Cut(text, "<<"); ok && text[0] != '#' {
			heredoc = strings.Trim(strings.Fields(word)[0], `'"-`)
		}
		if daemon, ok := strings.CutSuffix(strings.TrimRight(line, " \t"), " &"); ok {
			s.lines[number-1] = fmt.Sprintf(`%s >"$README_LOGS/%d" 2>&1 & started $! "$README_LOGS/%d"`, daemon, number, number)
		}
	}
}

// prelude sets up the shell in which README.md's commands run, and reads them
// from its first argument. It notes the number of every line from which a
// command is run and stops at the first that fails. A daemon has started once
// it has printed something and then nothing for half a second, or has gone on
// printing for 5 s (README's reader waits by eye).
const prelude = `set -euo pipefail -o functrace -o errtrace
started() {
	local size=0 still=0 tries now
	: >>"$2"
	for ((tries = 0; tries < 200; tries++)); do
		if ! kill -0 "$1" 2>/dev/null; then
			wait "$1" && return 0
			echo "the daemon ended at once"
			return 1
		fi
		now=$(wc -c <"$2")
		if ((now == size)); then still=$((still + 1)); else still=0; fi
		if ((now > 0 && (still >= 5 || tries >= 50))); then return 0; fi
		size=$now
		sleep 0.1
	done
	echo "the daemon printed nothing for 20 s"
	return 1
}
trap '[[ ${BASH_SOURCE[0]:-} != "$README" ]] || echo "$LINENO" >>"$README_RAN"' DEBUG
trap 'code=$?; [[ ${BASH_SOURCE[0]:-} != "$README" ]] || echo "README.md:$LINENO: exit $code from: $BASH_COMMAND"' ERR
source "$README"
`

// goShim stands in for go in README.md's commands: what would only build the
// module a second time uses the binaries that the test has built. Its
// verbs are README.md's, and any other fails.
const goShim = `#!/usr/bin/env bash
set -euo pipefail
case "$*" in
"run ./cmd/discreet" | "run ./cmd/discreet "*) shift 2; exec discreet "$@" ;;
"run ./benchmarks" | "run ./benchmarks "*) shift 2; exec benchmarks "$@" ;;
"build ./cmd/discreet") exec cp "$(command -v discreet)" . ;;
"install ./cmd/discreet" | "install github.com/discreet-fl/discreet/cmd/discreet@latest") exit 0 ;;
"get github.com/discreet-fl/discreet"*) exit 0 ;;
"test ./..." | "test ./secagg ./coordinator/round") echo "this is the run that README.md's test is part of"; exit 0 ;;
esac
echo "README_test.go cannot run \"go $*\"; teach it in goShim or change README.md" >&2
exit 1
`

// portShim stands in for discreet, which the test has built as "program": where the
// commands of README.md listen on the usual ports, or connect to them, it has them use
// others, so that nothing else on the machine is in their way, nor they in its.
const portShim = `#!/usr/bin/env bash
set -euo pipefail
arguments=("${@//localhost` + coordinator.DefaultAddress + `/localhost:$README_PORT}")
command=()
for word; do [[ $word = -* ]] && break; command+=("$word"); done
if [[ ${1-} = serve ]]; then
	arguments+=(--listen ":$README_PORT" --http "127.0.0.1:$README_STATUS_PORT")
elif program "${command[@]}" --help 2>&1 | grep -e "--server string" >/dev/null; then
	arguments+=(--server "localhost:$README_PORT")
fi
exec program "${arguments[@]}"
`

// gitShim stands in for git: what README.md clones is the module under test.
const gitShim = `#!/usr/bin/env bash
set -euo pipefail
case "$*" in
"clone https://github.com/discreet-fl/discreet") exec mkdir discreet ;;
esac
echo "README_test.go cannot run \"git $*\"; teach it in gitShim or change README.md" >&2
exit 1
`

// run runs the script with the binaries of the folder bin in front of PATH and a
// home of its own below the folder state, ends all that it started, and fails
// unless every command ran and succeeded.
func (s *script) run(ctx context.Context, bin, state string) error {
	at := func(name string) string { return filepath.Join(state, name) }
	for _, folder := range []string{"home", "work", "logs"} {
		if err := os.Mkdir(at(folder), 0o700); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		filepath.Join(bin, "go"):  goShim,
		filepath.Join(bin, "git"): gitShim,
		at("prelude"):             prelude,
		at("script"):              strings.Join(s.lines, "\n") + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			return err
		}
	}
	// The output goes to a file: with a pipe, Wait would wait for the daemons.
	output, err := os.Create(at("output"))
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := exec.CommandContext(ctx, "bash", at("prelude"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = at("work"), output, output
	cmd.Env = append(os.Environ(),
		"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"HOME="+at("home"), "XDG_CONFIG_HOME="+at("home/config"), "XDG_RUNTIME_DIR="+state,
		"README="+at("script"), "README_LOGS="+at("logs"), "README_RAN="+at("ran"))
	// What goes on in the background shares the shell's process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return err
	}
	err = cmd.Wait()
	if killed := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); killed != nil && !errors.Is(killed, syscall.ESRCH) {
		return fmt.Errorf("ending README.md's daemons: %w", killed)
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("stopped, the commands took too long: %w", ctx.Err())
	}
	if err != nil {
		err = fmt.Errorf("README.md: %w\n%s", err, transcript(at("output"), at("logs")))
	}
	for _, number := range s.unrun(at("ran")) {
		err = errors.Join(err, fmt.Errorf("README.md:%d: not run: %s", number, s.lines[number-1]))
	}
	return err
}

// unrun returns the lines of commands whose numbers are not in the file ran.
func (s *script) unrun(ran string) []int {
	text, _ := os.ReadFile(ran) // where nothing ran, there is none
	seen := map[int]bool{}
	for field := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(field); err == nil {
			seen[n] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(s.commands), func(n int) bool { return seen[n] })
}

// transcript returns what the shell and the daemons printed.
func transcript(output, logs string) string {
	text, err := os.ReadFile(output)
	if err != nil {
		return err.Error()
	}
	daemons, err := filepath.Glob(filepath.Join(logs, "*"))
	if err != nil {
		return err.Error()
	}
	for _, name := range daemons {
		log, err := os.ReadFile(name)
		if err != nil {
			return err.Error()
		}
		text = fmt.Appendf(text, "--- the daemon of README.md:%s printed:\n%s", filepath.Base(name), log)
	}
	return string(text)
}

// TestScript runs small READMEs, so that what TestREADME relies on is known to
// fail when it should.
func TestScript(t *testing.T) {
	const fence = "```"
	tests := []struct {
		name, markdown string
		want           string // part of the error; empty: none
	}{
		{"runs in order in one shell", "# A\n\n```sh\nmkdir a && cd a\n```\nThen\n```console\n$ word=here\nnot a command\n$ test \"$word ${PWD##*/}\" = \"here a\"\n```\n```text\nfalse\n```\n", ""},
		{"failing line", "# A\n```sh\ntrue\n\nfalse\n```\n", "README.md:5: exit 1 from: false"},
		{"not run after a failure", "# A\n```sh\nfalse\necho no\n```\n", "README.md:4: not run: echo no"},
		{"not run after an early end", "# A\n```sh\nexit 0\necho no\n```\n", "README.md:4: not run: echo no"},
		{"failure inside a pipe", "# A\n```sh\nfalse | cat\n```\n", "README.md:3: exit 1"},
		{"unknown command", "# A\n```sh\nno-such-command --help\n```\n", "README.md:3: exit 127 from: no-such-command"},
		{"unset variable", "# A\n```sh\necho $token\n```\n", "line 3: token: unbound variable"},
		{"unknown use of go", "# A\n```sh\ngo run ./elsewhere\n```\n", "cannot run \"go run ./elsewhere\""},
		{"known uses of go and git", "# A\n```sh\ngit clone https://github.com/discreet-fl/discreet\ncd discreet\ngo test ./...\n```\n", ""},
		{"continued lines and heredocs", "# A\n```sh\n# a comment\ntest one \\\n  = one\ncat >f <<EOF\nnot a command\nEOF\ngrep -q command f\n```\n", ""},
		{"daemon", "# A\n```sh\n(echo ready; exec sleep 600) &\nkill %1\n```\n", ""},
		{"daemon that goes on printing", "# A\n```sh\n(while sleep 0.1; do echo on; done) &\ntest $! -gt 0\n```\n", ""},
		{"daemon that fails", "# A\n```sh\n(sleep 0.3; echo port in use; exit 3) &\necho on\n```\n", "port in use"},
		{"home of its own", "# A\n```sh\ntest -z \"$(ls -A ~)\"\ncase $XDG_CONFIG_HOME in \"$HOME\"/*) ;; *) false ;; esac\n```\n", ""},
		{"unknown fence", "# A\n```bash\ntrue\n```\n", `line 2: a block of "bash"`},
		{"unclosed fence", "# A\n```sh\ntrue\n", "line 2: the block is never closed"},
		{"fence in a fence", "# A\n```sh\n```sh\n" + fence + "\n", "line 3: a block opens inside"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := newScript(test.markdown)
			if err == nil {
				err = s.run(t.Context(), t.TempDir(), t.TempDir())
			}
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestScriptEndsDaemons holds that nothing goes on when the run is over, or has
// taken too long: the daemon alone holds the writing end of a pipe, whose end
// comes with its own.
func TestScriptEndsDaemons(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newScript("```sh\n(echo ready; exec sleep 600 3>" + pipe + ") &\nsleep 600\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		daemon, err := os.Open(pipe) // which waits until the daemon runs
		cancel()
		if err == nil {
			_, err = io.Copy(io.Discard, daemon)
			err = errors.Join(err, daemon.Close())
		}
		ended <- err
	}()
	if err := s.run(ctx, t.TempDir(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "took too long") {
		t.Fatalf("got %v, want an error about the time", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the daemon goes on")
	}
}
