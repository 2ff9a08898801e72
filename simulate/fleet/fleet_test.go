package fleet

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/circl/kem/xwing"
	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/client/canary"
	"github.com/discreet-fl/discreet/dataset"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/simulate"
)

// intents of the small task here.
var intents = []string{"hours", "parcel", "refund"}

// config is a fleet of four kiosks with the given chats. Where all stay they are waited for
// on the slowest machine: a round that is tried again would count what nobody planned.
func config(t *testing.T, chats [][]dataset.Phrase, rounds uint64, drop float64) Config {
	deadline := uint64(5_000)
	if drop == 0 {
		deadline = 60_000
	}
	return Config{
		Dir: t.TempDir(), Chats: chats, Drop: drop, Grace: 100 * time.Millisecond, Seed: 3, Logger: slog.New(slog.DiscardHandler),
		Spec: &pb.TaskSpec{
			Name: "desk", Intents: intents, Model: "small", PerRound: uint32(len(chats)), MinSurvivors: 3,
			DeadlineMs: deadline, Rounds: rounds, Seed: 1,
		},
	}
}

// chatsOf is the chats of four kiosks; those of the first hold the given words.
func chatsOf(words []string) [][]dataset.Phrase {
	chats := make([][]dataset.Phrase, 4)
	for i := range chats {
		for j, word := range words {
			text := "when do you open " + fmt.Sprint(i, j)
			if i == 0 {
				text = strings.ToUpper(word[:1]) + word[1:] + " said " + word
			}
			chats[i] = append(chats[i], dataset.Phrase{Text: text, Intent: intents[j%len(intents)]})
		}
	}
	return chats
}

// planted makes words of sixteen letters that occur nowhere else.
func planted(seed uint64, n int) []string {
	random := rand.New(rand.NewPCG(seed, 5))
	words := make([]string, n)
	for i := range words {
		var b strings.Builder
		for range 16 {
			b.WriteByte(byte('a' + random.IntN(26)))
		}
		words[i] = b.String()
	}
	return words
}

// capture runs one round of real coordinator and kiosks and returns all that the
// first kiosk sent in its life, below TLS.
func capture(t *testing.T, words []string) *canary.Log {
	t.Helper()
	log := new(canary.Log)
	c := config(t, chatsOf(words), 1, 0)
	c.dialWith = func(kiosk int) []grpc.DialOption {
		if kiosk != 0 {
			return nil
		}
		return []grpc.DialOption{grpc.WithChainUnaryInterceptor(log.Interceptor())}
	}
	err := Run(t.Context(), c, func(r *Result) error {
		_, err := r.Classify(words[0] + " again")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// TestCaptureHoldsNoTraceOfAChat plants unique words in the chats of a kiosk and
// records every message it sends to a real coordinator. See package canary for the
// forms that are searched, and its tests for a planted word that is found.
func TestCaptureHoldsNoTraceOfAChat(t *testing.T) {
	const seed = 11
	words, others := planted(seed, 9), planted(seed+1, 9)
	log := capture(t, words)
	if leaks := log.Leaks(words...); len(leaks) > 0 {
		t.Errorf("seed %d: %s", seed, strings.Join(leaks, "\n"))
	}
	if len(log.Shapes()) < 8 {
		t.Fatalf("only %d messages were recorded: %v", len(log.Shapes()), log.Shapes())
	}
	// Other chats of equal count and labels: nothing an onlooker sees may differ, but
	// for what each enrolment and round draws afresh.
	once, again := steps(t, log), steps(t, capture(t, others))
	if !slices.Equal(once, again) {
		t.Errorf("seed %d: the messages depend on what was said:\n%s\n\n%s", seed, strings.Join(once, "\n"), strings.Join(again, "\n"))
	}
	// The search must be able to find one.
	if err := log.Add(&pb.AdvertiseRequest{Advert: []byte("x" + strings.ToUpper(words[3]))}); err != nil {
		t.Fatal(err)
	}
	if len(log.Leaks(words...)) == 0 {
		t.Error("a word planted in a field was not found")
	}
}

// steps are the shapes of a round's own messages; how often a device asks for tasks
// depends on when the others come. Which end of a pair encapsulates is drawn by lot from
// the round's keys, so that a Share is longer by a ciphertext and its seed's commitment
// for every pair in which it fell to this device: it stands here without them.
func steps(t *testing.T, log *canary.Log) []string {
	t.Helper()
	shapes := slices.DeleteFunc(log.Shapes(), func(s string) bool {
		return !slices.ContainsFunc([]string{"AdvertiseRequest", "ShareRequest", "SubmitRequest", "ConfirmRequest", "RevealRequest"},
			func(name string) bool { return strings.HasPrefix(s, name) })
	})
	const encapsulated, members = xwing.CiphertextSize + 32, 4
	for i, s := range shapes {
		if !strings.HasPrefix(s, "ShareRequest") {
			continue
		}
		var whole, payload int
		var step string
		if _, err := fmt.Sscanf(s, "ShareRequest of %d bytes", &whole); err != nil {
			t.Fatalf("shape %q: %v", s, err)
		}
		_, tail, _ := strings.Cut(s, "shares:")
		if _, err := fmt.Sscanf(tail, "%d bytes", &payload); err != nil || whole <= payload || payload > members*encapsulated+4096 {
			t.Fatalf("shape %q: %v", s, err)
		}
		step, _, _ = strings.Cut(s[strings.Index(s, "step:"):], "shares:")
		shapes[i] = fmt.Sprintf("ShareRequest of %d bytes and %d more %s", payload%encapsulated, whole-payload, step)
	}
	return shapes
}

// TestFleetSurvivesVanishings holds that kiosks which cut their connection in the
// middle of rounds do not stop a fleet, and that it learns.
func TestFleetSurvivesVanishings(t *testing.T) {
	set := dataset.Shop()
	chats, err := set.Split(dataset.Split{ByUser: true}, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := config(t, chats, 4, 0.2)
	c.Spec.Intents = set.Intents
	var rounds []uint64
	c.Progress = func(r Round) { rounds = append(rounds, r.Number) }
	err = Run(t.Context(), c, func(r *Result) error {
		if r.Vanished == 0 {
			t.Error("seed 3: nobody vanished")
		}
		if r.BytesUp == 0 || r.Last.Manifest.Round != 4 || len(r.Attempts) < 4 {
			t.Errorf("%d bytes up, %d rounds in %d attempts", r.BytesUp, r.Last.Manifest.Round, len(r.Attempts))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rounds) == 0 || rounds[0] != 0 || rounds[len(rounds)-1] != 4 || !slices.IsSorted(rounds) {
		t.Errorf("progress told of rounds %v, want 0 to 4", rounds)
	}
}

func TestFateIsFixedByTheSeed(t *testing.T) {
	d := &driver{Config: Config{Seed: 9, Drop: 0.5}}
	counts := map[simulate.Vanish]int{}
	for round := range uint64(400) {
		at := &pb.RoundStep{Round: round, Attempt: 1}
		fate := d.fate(7)(at)
		if fate != d.fate(7)(at) {
			t.Fatalf("seed 9: round %d has two fates", round)
		}
		counts[fate]++
	}
	for v := simulate.Stays; v <= simulate.AfterConfirm; v++ {
		if counts[v] < 20 {
			t.Errorf("seed 9: fate %d came up %d times in 400", v, counts[v])
		}
	}
}
