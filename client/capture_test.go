package client

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/client/canary"
	pb "github.com/discreet-fl/discreet/proto"
)

// words returns n words of 16 letters.
func words(seed uint64, n int) []string {
	random := rand.New(rand.NewPCG(seed, 16))
	all := make([]string, n)
	for i := range all {
		b := make([]byte, 16)
		for j := range b {
			b[j] = byte('a' + random.IntN(26))
		}
		all[i] = string(b)
	}
	return all
}

// capture runs a whole life of three devices, enrolment to the next checkpoint, in
// which the first learns chats made of the words, and returns what that one sent. The task
// wants personal parts, and the first has one where there are enough words.
func capture(t *testing.T, planted []string, intents []string) *canary.Log {
	t.Helper()
	log := new(canary.Log)
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		d.set(func() { d.reply = wantPersonal })
		var group sync.WaitGroup
		for i := range 3 {
			o := Options{}
			if i == 0 {
				o.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(log.Interceptor())}
			}
			c := d.device(t, o)
			if i == 0 {
				for j, word := range planted {
					for _, text := range []string{strings.ToUpper(word[:1]) + word[1:] + " and " + word, "my " + word, word + " please", "no " + word} {
						learn(t, c, []Chat{{Text: text, Intent: intents[j], Conversation: word}})
					}
				}
			} else {
				learn(t, c, phrases(i))
			}
			group.Go(func() {
				if _, err := c.Participate(t.Context()); err != nil {
					t.Error(err)
				}
				if s, err := c.Status(); i == 0 && (err != nil || len(planted) > 5 && !strings.Contains(s.Personal, "it names")) {
					t.Errorf("its personal part: %q, %v", s.Personal, err)
				}
				if _, err := c.Classify(planted[0], 3); err != nil {
					t.Error(err)
				}
				if _, err := c.Forget(planted[0]); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
	return log
}

// TestNothingOfAChatIsSent records every message of one device, below TLS and above
// gRPC's framing. No trace of what it learned may be in them, and what it learned
// may change nothing that an onlooker could compare.
func TestNothingOfAChatIsSent(t *testing.T) {
	const seed = 2
	planted := words(seed, 12)
	intents := make([]string, len(planted))
	for i := range intents {
		intents[i] = rigLabels[i%len(rigLabels)]
	}
	log := capture(t, planted, intents)
	if leaks := log.Leaks(planted...); leaks != nil {
		t.Errorf("seed %d: %v", seed, leaks)
	}
	for _, label := range rigLabels {
		if leaks := log.Leaks(label); leaks != nil {
			t.Errorf("an intent was sent: %v", leaks)
		}
	}
	shapes := log.Shapes()
	for _, method := range []string{"EnrolRequest", "TasksRequest", "CheckInRequest", "GetCheckpointRequest", "GetLogProofRequest", "AdvertiseRequest", "ShareRequest", "SubmitRequest", "ConfirmRequest", "RevealRequest"} {
		if !slices.ContainsFunc(shapes, func(s string) bool { return strings.HasPrefix(s, method) }) {
			t.Errorf("no %s was recorded: the test sees only %d messages", method, len(shapes))
		}
	}
	// Other chats, as many and with the same labels. Enrolment holds a fresh key, and
	// the names of checkpoints depend on everybody's sum.
	others := capture(t, words(seed+1, len(planted)), intents).Shapes()
	if a, b := steady(shapes), steady(others); !slices.Equal(a, b) {
		t.Errorf("other chats changed what is seen:\n%s\n\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	// Neither does their number.
	fewer := capture(t, words(seed+2, 3), intents).Shapes()
	if a, b := steady(shapes), steady(fewer); !slices.Equal(a, b) {
		t.Errorf("fewer chats changed what is seen:\n%s\n\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// steady leaves out the values that differ between any two runs, and keeps the
// lengths.
func steady(shapes []string) []string {
	var all []string
	for _, s := range shapes {
		if strings.HasPrefix(s, "EnrolRequest") || strings.HasPrefix(s, "GetCheckpointRequest") || strings.HasPrefix(s, "GetLogProofRequest") {
			s = s[:strings.Index(s, " bytes")]
		}
		all = append(all, s)
	}
	return all
}

// TestCaptureSeesALeak plants a word in a field on its way, in the place of a client
// that leaks, and holds that the search above would fail.
func TestCaptureSeesALeak(t *testing.T) {
	word := words(3, 1)[0]
	for _, leak := range []*pb.CheckInRequest{{Task: word}, {Task: strings.ToUpper(word)}, {Task: fmt.Sprintf("%x", word)}} {
		log := new(canary.Log)
		if err := log.Add(leak); err != nil {
			t.Fatal(err)
		}
		if log.Leaks(word) == nil {
			t.Errorf("%v was not found", leak)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		log := new(canary.Log)
		d := newDaemon(t, 3)
		c := d.device(t, Options{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(log.Interceptor())}})
		l, err := c.connection()
		if err != nil {
			t.Fatal(err)
		}
		before := log.Shapes()
		if _, err := l.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil || log.Leaks(word) != nil {
			t.Fatalf("%v, %v", err, log.Leaks(word))
		}
		if _, err := l.Share(t.Context(), &pb.ShareRequest{Shares: []byte("xy" + word)}); err == nil {
			t.Error("a message of no attempt was accepted")
		}
		if log.Leaks(word) == nil {
			t.Error("a word planted in a sealed field was not found")
		}
		if after := log.Shapes(); len(after) != len(before)+2 {
			t.Errorf("%d messages recorded, want %d", len(after), len(before)+2)
		}
	})
}
