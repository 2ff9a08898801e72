package coordinator

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/coordinator/store"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	childFolder  = "DISCREET_TEST_FOLDER"  // makes the test binary a coordinator on that folder
	childAddress = "DISCREET_TEST_ADDRESS" // where it listens
	childKill    = "DISCREET_TEST_KILL"    // the log message at which it kills itself, or "#7" for the seventh record
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child serves until it is killed or its parent is gone.
func child(dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	listener, err := net.Listen("tcp", os.Getenv(childAddress))
	if err != nil {
		return err
	}
	c, err := Open(dir, Options{Grace: 200 * time.Millisecond, Logger: slog.New(&killer{at: os.Getenv(childKill)})})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return c.Serve(ctx, listener)
}

// killer is a log whose reader kills the coordinator at a certain record, before
// anything that comes after it.
type killer struct {
	at      string
	records atomic.Int64
}

func (*killer) Enabled(context.Context, slog.Level) bool { return true }
func (k *killer) WithAttrs([]slog.Attr) slog.Handler     { return k }
func (k *killer) WithGroup(string) slog.Handler          { return k }

func (k *killer) Handle(_ context.Context, r slog.Record) error {
	if n := k.records.Add(1); r.Message != k.at && fmt.Sprintf("#%d", n) != k.at {
		return nil
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		panic(err)
	}
	if err := self.Kill(); err != nil {
		panic(err)
	}
	select {}
}

// process is a coordinator in a process of its own.
type process struct {
	t       *testing.T
	ctx     context.Context // bounds the whole test
	dir     string
	address string
	command *exec.Cmd
	stdin   io.Closer
}

func newProcess(t *testing.T) *process {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // to find a free port
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	p := &process{t: t, ctx: ctx, dir: t.TempDir(), address: listener.Addr().String()}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if p.command != nil {
			p.kill()
		}
	})
	return p
}

// start runs the coordinator and returns when it has opened its folder. It kills
// itself at that record, if one is named.
func (p *process) start(at string) {
	p.t.Helper()
	p.command = exec.CommandContext(p.ctx, os.Args[0])
	p.command.Env = append(os.Environ(), childFolder+"="+p.dir, childAddress+"="+p.address, childKill+"="+at)
	p.command.Stderr = testWriter{p.t}
	var err error
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	// Nothing comes where it killed itself before.
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" && err != io.EOF {
		p.t.Fatalf("the coordinator said %q, %v", line, err)
	}
}

// wait returns when the process has been killed.
func (p *process) wait() {
	p.t.Helper()
	err := p.command.Wait()
	p.command = nil
	if p.t.Context().Err() == nil && p.ctx.Err() != nil {
		p.t.Fatal("the coordinator was not killed within a minute")
	}
	if exit, ok := err.(*exec.ExitError); !ok || exit.Exited() {
		p.t.Fatalf("the coordinator ended with %v, want it killed", err)
	}
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	p.wait()
}

// stored reads the task from the folder of a coordinator that is down.
func (p *process) stored() (store.Task, []store.Attempt) {
	p.t.Helper()
	s, err := store.Open(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	task, err := s.Task(p.t.Context(), "desk")
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := s.Checkpoint(p.t.Context(), task.Checkpoint); err != nil {
		p.t.Fatal(err)
	}
	attempts, err := s.Attempts(p.t.Context(), "desk", 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	return task, attempts
}

// dial connects over TCP. Calls that find no coordinator are made again, as every
// client does.
func (p *process) dial(config *tls.Config) *grpc.ClientConn {
	p.t.Helper()
	again := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
		for {
			err := invoke(ctx, method, request, reply, conn, append(o, grpc.WaitForReady(true))...)
			if status.Code(err) != codes.Unavailable {
				return err
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return err
			}
		}
	}
	fast := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithUnaryInterceptor(again), grpc.WithConnectParams(grpc.ConnectParams{Backoff: fast, MinConnectTimeout: time.Second}))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return conn
}

// populate creates the task, whose cohorts have three devices, and lets n devices join.
func (p *process) populate(n int, changes ...func(*pb.TaskSpec)) []*device {
	p.t.Helper()
	config, err := ca.LoadOperator(filepath.Join(p.dir, "operator.pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	conn := p.dial(config)
	op := rpc.NewOperatorServiceClient(conn)
	s := spec(uint32(n), 3)
	s.Cohort = 3
	for _, change := range changes {
		change(s)
	}
	if _, err := op.CreateTask(p.t.Context(), &pb.CreateTaskRequest{Spec: s}); err != nil {
		p.t.Fatal(err)
	}
	token, err := op.CreateToken(p.t.Context(), &pb.CreateTokenRequest{Uses: uint32(n), ExpiresMs: 240_000})
	if err != nil {
		p.t.Fatal(err)
	}
	devices := make([]*device, n)
	for i := range devices {
		public, key, err := ed25519.GenerateKey(crand.Reader)
		if err != nil {
			p.t.Fatal(err)
		}
		admitted, err := rpc.NewEnrolmentServiceClient(conn).Enrol(p.t.Context(), enrolment(p.t, token.GetToken(), key))
		if err != nil {
			p.t.Fatal(err)
		}
		root, err := x509.ParseCertificate(admitted.GetCaCertificate())
		if err != nil {
			p.t.Fatal(err)
		}
		d := &device{t: p.t, id: secagg.DeviceID(public), value: 0.125, weight: 4, ca: root.PublicKey.(ed25519.PublicKey),
			signer: secagg.Signer{Key: key, Credential: admitted.GetCredential()}}
		own := config.Clone()
		own.Certificates = []tls.Certificate{{Certificate: [][]byte{admitted.GetCertificate()}, PrivateKey: key}}
		d.conn = p.dial(own)
		d.rounds = rpc.NewRoundServiceClient(d.conn)
		devices[i] = d
	}
	return devices
}

// live takes part in one round after another until the context ends, whatever
// happens to the coordinator, and reports each receipt.
func (d *device) live(ctx context.Context, receipts chan<- *walk) {
	for ctx.Err() == nil {
		k, err := d.checkIn(ctx)
		if err == nil {
			err = k.steps(ctx, all)
		}
		if err != nil {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case receipts <- k:
		case <-ctx.Done():
		}
	}
}

// TestKillInEveryPhase kills the coordinator at the record of each phase of a round.
// Nothing committed is lost, nothing else counts, and the devices, which nobody
// touches, bring the next round to its end: on the same checkpoint while none of them
// may have revealed, otherwise on one that is held in its place.
func TestKillInEveryPhase(t *testing.T) {
	for _, phase := range []struct {
		message   string
		devices   int
		committed uint64
		spent     bool // the checkpoint that the round began from
	}{
		{"device checked in", 3, 0, false}, {"cohort formed", 3, 0, false}, {"advertise closed", 3, 0, false}, {"share closed", 3, 0, false},
		{"submit closed", 3, 0, false}, {"confirm closed", 3, 0, false}, {"reveal closed", 3, 0, true}, {"sum unmasked", 3, 0, true},
		{"round committed", 3, 1, false},
		// The first of two cohorts to come so far.
		{"confirm closed", 6, 0, false}, {"sum unmasked", 6, 0, true}, {"round committed", 6, 1, false},
	} {
		t.Run(fmt.Sprintf("%s of %d", phase.message, phase.devices), func(t *testing.T) {
			t.Parallel()
			p := newProcess(t)
			p.start(phase.message)
			devices := p.populate(phase.devices)
			receipts := make(chan *walk)
			for _, d := range devices {
				go d.live(p.ctx, receipts)
			}
			p.wait()
			before, _ := p.stored()
			if before.RoundsDone != phase.committed || before.Revealing != phase.spent {
				t.Errorf("%d rounds are committed and the checkpoint is spent: %v; want %d and %v", before.RoundsDone, before.Revealing, phase.committed, phase.spent)
			}
			following := before.Round + 1
			if phase.spent { // and once more when the held checkpoint is there
				following++
				p.start("checkpoint held")
				p.wait()
				after, attempts := p.stored()
				if after.Revealing || after.Checkpoint == before.Checkpoint || len(attempts) != 1 || attempts[0].Round != before.Round+1 || attempts[0].Survivors != 0 {
					t.Errorf("task %+v, records %+v; want the held checkpoint", after, attempts)
				}
				before.Checkpoint = after.Checkpoint
			}
			p.start("")
			for next := 0; next < 3; {
				select {
				case k := <-receipts:
					switch first := k.at.GetRound() == before.Round; {
					case first && phase.committed == 0:
						t.Error("the attempt that was cut short got a receipt")
					case first && !bytes.Equal(k.receipt.GetCheckpointSha256(), before.Checkpoint[:]):
						t.Errorf("the receipt of the first round names %x, committed was %x", k.receipt.GetCheckpointSha256(), before.Checkpoint)
					case k.at.GetRound() == following && !bytes.Equal(k.plan.GetCheckpointSha256(), before.Checkpoint[:]):
						t.Error("the next round did not begin from the committed checkpoint")
					case !first:
						next++
					}
				case <-p.ctx.Done():
					t.Fatal("no round was committed after the restart")
				}
			}
			p.kill()
			after, attempts := p.stored()
			if after.RoundsDone <= before.RoundsDone || len(attempts) == 0 {
				t.Errorf("%d rounds after the restart, %d before", after.RoundsDone, before.RoundsDone)
			}
		})
	}
}

// TestKillAtAnyMoment kills the coordinator again and again while rounds run, at
// records that a seed chooses, and holds that every receipt that a device got names
// a checkpoint that was committed. The devices hold that they are never asked to reveal
// twice on one checkpoint.
func TestKillAtAnyMoment(t *testing.T) {
	const seed, kills = 11, 8
	source := rand.New(rand.NewPCG(seed, 5))
	p := newProcess(t)
	p.start("#30") // the task and the devices take four
	receipts := make(chan *walk, 10_000)
	for _, d := range p.populate(3) {
		go d.live(p.ctx, receipts)
	}
	var all []*walk
	for range kills {
		p.wait()
		for len(receipts) > 0 {
			all = append(all, <-receipts)
		}
		task, attempts := p.stored()
		committed := map[uint64][]byte{}
		for _, a := range attempts { // those of held checkpoints, too
			if a.Aborted == "" {
				committed[a.Round] = a.Checkpoint[:]
			}
		}
		if uint64(len(committed)) != task.RoundsDone {
			t.Errorf("seed %d: %d rounds are done, %d recorded", seed, task.RoundsDone, len(committed))
		}
		for _, k := range all {
			if !bytes.Equal(committed[k.at.GetRound()], k.receipt.GetCheckpointSha256()) {
				t.Errorf("seed %d: round %d was acknowledged with %x, the store has %x", seed, k.at.GetRound(), k.receipt.GetCheckpointSha256(), committed[k.at.GetRound()])
			}
		}
		p.start(fmt.Sprintf("#%d", 1+source.IntN(40)))
	}
	p.wait()
	p.start("")
	select {
	case <-receipts:
	case <-p.ctx.Done():
		t.Errorf("seed %d: no round is committed any more", seed)
	}
	if len(all) == 0 {
		t.Errorf("seed %d: no round was committed between the kills; the test wants some", seed)
	}
}

// TestKillWithABuffer kills a coordinator, whose cohorts run side by side, again and
// again at records that a seed chooses. Every receipt names the checkpoint that the
// attempt's sum is in, and no device is asked to reveal twice on one checkpoint.
func TestKillWithABuffer(t *testing.T) {
	const seed, kills = 7, 3
	source := rand.New(rand.NewPCG(seed, 5))
	p := newProcess(t)
	p.start("#80")
	receipts := make(chan *walk, 10_000)
	for _, d := range p.populate(9, func(s *pb.TaskSpec) { s.PerRound, s.Buffer = 3, &pb.Buffer{Cohorts: 2, Staleness: 5} }) {
		go d.live(p.ctx, receipts)
	}
	counted := 0
	for range kills {
		p.wait()
		task, attempts := p.stored()
		committed := make(map[string][]byte)
		checkpoints := make(map[[32]byte]bool)
		for _, a := range attempts {
			if a.Aborted == "" {
				committed[fmt.Sprint(a.Round, a.Attempt)] = a.Checkpoint[:]
				checkpoints[a.Checkpoint] = true
			}
		}
		if uint64(len(checkpoints)) != task.RoundsDone {
			t.Errorf("seed %d: %d rounds are done, %d recorded", seed, task.RoundsDone, len(checkpoints))
		}
		for ; len(receipts) > 0; counted++ {
			k := <-receipts
			if want := committed[fmt.Sprint(k.at.GetRound(), k.at.GetAttempt())]; !bytes.Equal(want, k.receipt.GetCheckpointSha256()) {
				t.Errorf("seed %d: %v was acknowledged with %x, the store has %x", seed, k.at, k.receipt.GetCheckpointSha256(), want)
			}
		}
		p.start(fmt.Sprintf("#%d", 40+source.IntN(80)))
	}
	p.wait()
	if counted == 0 {
		t.Errorf("seed %d: nobody got a receipt", seed)
	}
}

// TestKillWhileIntentsChange kills the coordinator when a change of intents is on disk and
// not made, and when it is made and not told. It is made once, what nobody was told
// is answered when asked again, and rounds go on with the new intents.
func TestKillWhileIntentsChange(t *testing.T) {
	for message, made := range map[string]bool{"intents queued": false, "intents changed": true} {
		t.Run(message, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t)
			p.start(message)
			devices := p.populate(3)
			config, err := ca.LoadOperator(filepath.Join(p.dir, "operator.pem"))
			if err != nil {
				t.Fatal(err)
			}
			op := rpc.NewOperatorServiceClient(p.dial(config))
			answers := make(chan *pb.IntentList, 1)
			go func() {
				reply, err := op.ChangeIntents(p.ctx, &pb.ChangeIntentsRequest{Task: "desk", Changes: addIntents("payback")})
				if err != nil {
					t.Error(err)
				}
				answers <- reply.GetList()
			}()
			p.wait()
			before, attempts := p.stored()
			if (len(attempts) == 1) != made || before.RoundsDone != 0 {
				t.Errorf("%d records and %d rounds; want the change made: %v", len(attempts), before.RoundsDone, made)
			}
			p.start("")
			select {
			case list := <-answers:
				if n := len(list.GetIntents()); list.GetVersion() != 1 || n == 0 || list.GetIntents()[n-1] != "payback" || len(list.GetQueued()) != 0 {
					t.Errorf("asked again it answers %v", list)
				}
			case <-p.ctx.Done():
				t.Fatal("the change was not answered after the restart")
			}
			receipts := make(chan *walk)
			for _, d := range devices {
				go d.live(p.ctx, receipts)
			}
			select {
			case <-receipts:
			case <-p.ctx.Done():
				t.Fatal("no round was committed after the restart")
			}
			p.kill()
			after, attempts := p.stored()
			changed := 0
			for _, a := range attempts {
				if a.IntentsVersion != 0 {
					changed++
				}
			}
			if changed != 1 || after.RoundsDone == 0 {
				t.Errorf("the intents changed %d times and %d rounds are done, want once and some", changed, after.RoundsDone)
			}
		})
	}
}
