package fleet

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/coordinator"
	pb "github.com/discreet-fl/discreet/proto"
)

const (
	mortalFolder = "DISCREET_TEST_FOLDER" // makes the test binary a device on that folder
	mortalAt     = "DISCREET_TEST_AT"     // the log message after which it kills itself
	mortalAfter  = "DISCREET_TEST_AFTER"  // so many microseconds later
)

// What a device of these tests prints, beside "sent ROUND ATTEMPT" right before a vector
// goes to its transport.
const (
	keptOut = "kept out" // the coordinator says that its budget is spent
	spent   = "spent"    // its own ledger does
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(mortalFolder); dir != "" {
		if err := mortal(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// mortal takes part until its process is killed, its budget is spent or its parent is gone.
func mortal(dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	after, err := strconv.Atoi(os.Getenv(mortalAfter))
	if err != nil {
		return err
	}
	tell := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
		if q, ok := request.(*pb.SubmitRequest); ok {
			fmt.Println("sent", q.Step.Round, q.Step.Attempt)
		}
		return invoke(ctx, method, request, reply, conn, o...)
	}
	c, err := client.Open(dir, client.Options{
		Logger:      slog.New(&fatal{at: os.Getenv(mortalAt), after: time.Duration(after) * time.Microsecond}),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(tell)},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		if _, err := c.Participate(ctx); errors.Is(err, client.ErrSpent) {
			fmt.Println(spent)
			return nil
		}
	}
	return ctx.Err()
}

// fatal is a log that kills its process, as kill -9 does, some time after a message.
type fatal struct {
	at    string
	after time.Duration
}

func (*fatal) Enabled(context.Context, slog.Level) bool { return true }
func (f *fatal) WithAttrs([]slog.Attr) slog.Handler     { return f }
func (f *fatal) WithGroup(string) slog.Handler          { return f }

func (f *fatal) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" && strings.Contains(a.Value.String(), "all that the task's privacy") {
			fmt.Println(keptOut)
			os.Exit(0)
		}
		return true
	})
	if r.Message == f.at {
		time.AfterFunc(f.after, func() {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			if err != nil {
				panic(err)
			}
		})
	}
	return nil
}

// deadly is a coordinator and three devices that live, for one that is killed.
type deadly struct {
	t       *testing.T
	dir     string
	address string
	server  *coordinator.Coordinator
	stop    func() // ends the coordinator and the three
}

// start opens the coordinator on its folder, with a new task unless that is nil, and lets
// three devices take part.
func (f *deadly) start(spec *pb.TaskSpec) {
	f.t.Helper()
	server, err := coordinator.Open(filepath.Join(f.dir, "coordinator"), coordinator.Options{Grace: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	if f.address == "" {
		f.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.address, f.server = listener.Addr().String(), server
	if spec != nil {
		if _, err := server.CreateTask(f.t.Context(), spec); err != nil {
			f.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = server.Serve(ctx, listener) })
	for range 3 {
		group.Go(func() { f.live(ctx) })
	}
	f.stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		if err := server.Close(); err != nil {
			f.t.Error(err)
		}
	})
	f.t.Cleanup(f.stop)
}

// live takes part again and again, as another device before its budget ends.
func (f *deadly) live(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := f.join(ctx, f.t.TempDir())
		if err != nil {
			if ctx.Err() == nil {
				f.t.Error(err)
			}
			return
		}
		for n := 0; n < mostVectors-1 && ctx.Err() == nil; n++ {
			_, _ = c.Participate(ctx) // the killed device costs it attempts
		}
		if err := c.Close(); err != nil {
			f.t.Error(err)
		}
	}
}

// join opens a folder as a new device.
func (f *deadly) join(ctx context.Context, dir string) (*client.Client, error) {
	token, err := f.server.CreateToken(ctx, 1, time.Hour)
	if err != nil {
		return nil, err
	}
	c, err := client.Open(dir, client.Options{})
	if err != nil {
		return nil, err
	}
	if err := c.Enrol(ctx, f.address, token); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// life lets the device of a folder take part until it is killed after a message, and
// returns what it printed.
func (f *deadly) life(dir, at string, after int) (lines []string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), mortalFolder+"="+dir, mortalAt+"="+at, mortalAfter+"="+strconv.Itoa(after))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		lines = append(lines, s.Text())
	}
	_ = cmd.Wait() // it was killed
	if ctx.Err() != nil {
		f.t.Fatalf("a device that is to die at %q lives on; it printed %q", at, lines)
	}
	return lines
}

// accounts is how many sums the coordinator has a device's vector in, and how many vectors
// it has charged to it. With forget it forgets the latter first, of every device.
func (f *deadly) accounts(device string, forget bool) (counted, charged int) {
	f.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(f.dir, "coordinator", "discreet.db"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	if forget {
		if _, err := db.Exec(`DELETE FROM charges`); err != nil {
			f.t.Fatal(err)
		}
	}
	err = db.QueryRow(`SELECT d.rounds, COALESCE(c.vectors, 0) FROM devices d LEFT JOIN charges c ON c.device = d.id
		WHERE lower(hex(d.id)) = $1`, device).Scan(&counted, &charged)
	if err != nil {
		f.t.Fatal(err)
	}
	return counted, charged
}

// mostVectors is how many vectors the task's promise allows a device.
const mostVectors = 9

// TestLedgerOfADeviceThatIsKilled kills a device's process again and again, at moments
// around its upload that a seed chooses, until its budget is spent, against a coordinator
// that keeps accounts and then one that has lost them. Every vector that was given to the
// transport is in the ledger that its folder has then, and no more leave than were promised.
func TestLedgerOfADeviceThatIsKilled(t *testing.T) {
	const seed = 17
	random := rand.New(rand.NewPCG(seed, 5))
	f := &deadly{t: t, dir: t.TempDir()}
	s := config(t, chatsOf(nil), 0, 0).Spec
	s.Compression = &pb.Compression{Method: pb.Compression_METHOD_SKETCH, Ratio: 64}
	s.Privacy = &pb.Privacy{Epsilon: 6, Delta: 1e-6, Participations: mostVectors, Separation: 1, Clip: 1}
	f.start(s)
	charge, err := coordinator.ChargeOf(s.Privacy)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c, err := f.join(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	device, err := c.Status()
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	sent, lives, forgot, last := make(map[string]bool), 0, 0, ""
	for ; last != spent && lives < 60; lives++ {
		at := []string{"share sending", "share answered", "submit sending", "submit answered"}[random.IntN(4)]
		after := random.IntN(3000)
		lines := f.life(dir, at, after)
		last = ""
		for _, line := range lines {
			if of, ok := strings.CutPrefix(line, "sent "); ok {
				sent[of] = true
			} else {
				last = line
			}
		}
		vectors := f.ledger(dir, charge.Times(1).Rho())
		for of := range sent {
			if !vectors[of] {
				t.Fatalf("seed %d, life %d, killed %dµs after %q: the vector of round and attempt %s left, and is not in the ledger %v", seed, lives, after, at, of, vectors)
			}
		}
		counted, charged := f.accounts(device.Device, false)
		if counted > len(vectors) || forgot == 0 && charged < len(vectors) || len(vectors) > mostVectors {
			t.Fatalf("seed %d, life %d: %d vectors in the ledger; the coordinator has %d in sums and %d charged", seed, lives, len(vectors), counted, charged)
		}
		if last == keptOut {
			f.stop()
			f.accounts(device.Device, true)
			f.start(nil)
			forgot++
		}
	}
	t.Logf("%d lives, %d vectors left, the coordinator forgot %d times", lives, len(sent), forgot)
	if last != spent || lives <= mostVectors || len(sent) < mostVectors/3 {
		t.Errorf("seed %d: after %d lives the device has sent %d vectors and is %q, want some and that its budget is spent", seed, lives, len(sent), last)
	}
}

// ledger is the round and attempt of each vector in the ledger of a folder that no
// process has open, of a charge that each has.
func (f *deadly) ledger(dir string, rho float64) map[string]bool {
	f.t.Helper()
	c, err := client.Open(dir, client.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	tasks, err := c.Privacy()
	if err != nil || len(tasks) > 1 {
		f.t.Fatalf("%+v, %v", tasks, err)
	}
	vectors := make(map[string]bool)
	for _, g := range tasks {
		for _, v := range g.Vectors {
			vectors[fmt.Sprint(v.Round, " ", v.Attempt)] = true
		}
		if d := g.GivenRho - rho*float64(len(vectors)); d > 1e-9 || d < -1e-9 || g.GivenRho > g.BudgetRho {
			f.t.Errorf("ρ %v given of %v in %d vectors of ρ %v", g.GivenRho, g.BudgetRho, len(vectors), rho)
		}
	}
	return vectors
}
