package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// shopState is what devices are told of a task that wants personal parts.
var shopState = &pb.TaskState{Task: "shop", PersonalHeldBack: 3000}

// use puts a checkpoint into a folder as the one in use.
func use(t *testing.T, c *Client, checkpoint *model.Checkpoint) {
	t.Helper()
	file := checkpoint.Encode()
	sum := sha256.Sum256(file)
	d, err := c.store.Download(sum, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Append(file); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Finish(); err != nil {
		t.Fatal(err)
	}
	m, err := newModel(sum, file)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.writeRecord(modelRecord, hex.EncodeToString(sum[:])); err != nil {
		t.Fatal(err)
	}
	c.model.Store(m)
}

// wantPersonal changes what a daemon says of its tasks: they want personal parts.
func wantPersonal(_ string, reply any) {
	if r, ok := reply.(*pb.TasksResponse); ok {
		for _, state := range r.GetTasks() {
			state.PersonalHeldBack = shopState.PersonalHeldBack
		}
	}
}

// apart is a checkpoint whose embedding tells the intents apart and whose output layer
// knows nothing.
var apart = sync.OnceValue(func() *model.Checkpoint {
	l, err := model.NewLayout("small", len(rigLabels))
	if err != nil {
		panic(err)
	}
	var examples []model.Example
	for device := range 3 {
		for _, chat := range phrases(device) {
			examples = append(examples, model.Example{Features: model.LatestTokeniser.Featurise(chat.Text), Label: slices.Index(rigLabels, chat.Intent)})
		}
	}
	params := l.Init(1)
	if err := trainOnce(context.Background())(params, l, examples, model.Training{Epochs: 20, Batch: 8, LearningRate: 0.5}, 1); err != nil {
		panic(err)
	}
	clear(l.Output(params))
	c, err := model.NewCheckpoint("shop", "small", 0, rigLabels, params)
	if err != nil {
		panic(err)
	}
	return c
})

// personalDevice opens a folder with chats and a checkpoint that they can better.
func personalDevice(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	use(t, c, apart())
	var chats []Chat
	for device := range 3 {
		for i, chat := range phrases(device) {
			chats = append(chats, chat, Chat{Text: fmt.Sprint("now ", i, " ", chat.Text), Intent: chat.Intent, Conversation: "other"})
		}
	}
	if err := c.Learn(chats...); err != nil {
		t.Fatal(err)
	}
	return c
}

// made holds which model answers, and whether the folder has a personal part.
func made(t *testing.T, c *Client, what, model string, kept bool) {
	t.Helper()
	a, err := c.Classify("tracking my parcel", 1)
	if err != nil || a.Model != model {
		t.Errorf("%s: %+v, %v, want an answer of the %s model", what, a, err, model)
	}
	if b, err := c.store.Derived(personalRecord); err != nil || (b != nil) != kept {
		t.Errorf("%s: the folder has a personal part: %v, %v, want %v", what, b != nil, err, kept)
	}
}

// TestPersonalPartThatFails has a checkpoint on which training ends in no number. It is
// trained once, also over a restart, and again when there is another chat.
func TestPersonalPartThatFails(t *testing.T) {
	dir := t.TempDir()
	c := personalDevice(t, dir)
	params := slices.Clone(apart().Params)
	for i := range params {
		params[i] *= 1e37
	}
	diverging, err := model.NewCheckpoint("shop", "small", 0, rigLabels, params)
	if err != nil {
		t.Fatal(err)
	}
	use(t, c, diverging)
	tried := func() *personalPart {
		t.Helper()
		if err := c.personalise(shopState); err != nil {
			t.Fatal(err)
		}
		made(t, c, "where training fails", Shared, true)
		return c.model.Load().personal.Load()
	}
	part := tried()
	if s, err := c.Status(); err != nil || !strings.HasPrefix(s.Personal, "not made: ") || !strings.Contains(s.Personal, "lower the learning rate") {
		t.Errorf("status %q, %v, want why it was not made", s.Personal, err)
	}
	if tried() != part {
		t.Error("with nothing new it was tried again")
	}
	c.Close()
	if c, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if part = c.model.Load().personal.Load(); part == nil || part.Failed == "" || tried() != part {
		t.Errorf("after a restart it was tried again: %+v", part)
	}
	if err := c.Learn(phrases(1)[0]); err != nil {
		t.Fatal(err)
	}
	if tried() == part {
		t.Error("with another chat it was not tried again")
	}
}

func TestPersonalPartAnswers(t *testing.T) {
	dir := t.TempDir()
	c := personalDevice(t, dir)
	made(t, c, "before", Shared, false)
	if err := c.personalise(shopState); err != nil {
		t.Fatal(err)
	}
	made(t, c, "after", Personal, true)
	part := c.model.Load().personal.Load()
	s, err := c.Status()
	if want := fmt.Sprintf("answers: of %d chats", part.Personal.Held); err != nil || !strings.HasPrefix(s.Personal, want) {
		t.Errorf("status %q, %v, want %q", s.Personal, err, want)
	}
	if err := c.personalise(shopState); err != nil || c.model.Load().personal.Load() != part {
		t.Errorf("with nothing new it was made again, %v", err)
	}
	e, err := c.Explain("tracking my parcel")
	sum := e.Bias
	for _, w := range e.Words {
		sum += w.Share
	}
	if a, _ := c.Classify("tracking my parcel", 2); err != nil || e.Model != Personal || e.Answer != a.Intents[0] || e.Next != a.Intents[1] ||
		math.Abs(sum-math.Log(float64(e.Answer.Confidence)/float64(e.Next.Confidence))) > 1e-5 {
		t.Errorf("explained %+v, %v; the shares sum to %v, want the answer %+v", e, err, sum, a)
	}
	before, _ := c.Classify("tracking my parcel", 3)
	c.Close()
	if c, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a, err := c.Classify("tracking my parcel", 3); err != nil || a.Model != Personal || !slices.Equal(a.Intents, before.Intents) {
		t.Errorf("opened again it answers %+v, %v, want %+v", a, err, before)
	}
	if err := c.Learn(Chat{Text: "one more parcel", Intent: rigLabels[0]}); err != nil {
		t.Fatal(err)
	}
	if err := c.personalise(shopState); err != nil || c.model.Load().personal.Load().Added != part.Added+1 {
		t.Errorf("with one more chat it was not made again, %v", err)
	}
	if err := c.personalise(&pb.TaskState{Task: "shop"}); err != nil {
		t.Fatal(err)
	}
	made(t, c, "for a task without", Shared, false)
	if err := c.personalise(&pb.TaskState{Task: "shop", PersonalHeldBack: mostHeldBack + 1}); err == nil {
		t.Error("a share out of bounds")
	}
}

// TestPersonalPartGoesWithChats: forgetting any chat, or withdrawing, removes what was
// made from it, and nothing is made while participation is off.
func TestPersonalPartGoesWithChats(t *testing.T) {
	for name, end := range map[string]func(c *Client) error{
		"forget one": func(c *Client) error { _, err := c.Forget("person 1"); return err },
		"forget all": func(c *Client) error { _, err := c.ForgetAll(); return err },
		"withdraw":   func(c *Client) error { return c.SetParticipation(false) },
		"withdraw, killed before it was removed": func(c *Client) error {
			if err := c.writeRecord(participationRecord, false); err != nil {
				return err
			}
			return c.loadPersonal() // as Open does; the model in memory is dropped with the process
		},
	} {
		dir := t.TempDir()
		c := personalDevice(t, dir)
		if err := c.personalise(shopState); err != nil {
			t.Fatal(err)
		}
		made(t, c, name, Personal, true)
		if err := end(c); err != nil {
			t.Fatal(name, err)
		}
		c.Close()
		var err error
		if c, err = Open(dir, Options{}); err != nil {
			t.Fatal(err)
		}
		made(t, c, name, Shared, false)
		if on, _ := c.participation(); !on {
			if err := c.personalise(shopState); err != nil {
				t.Fatal(err)
			}
			made(t, c, name+", later", Shared, false)
		}
		c.Close()
	}
}

// TestPersonalPartChangesNoUpdate: what a device would send is the same to the bit with a
// personal part and without one.
func TestPersonalPartChangesNoUpdate(t *testing.T) {
	c := personalDevice(t, t.TempDir())
	m := c.model.Load()
	plan := testPlan(m.checkpoint, m.checkpoint.Encode(), 3)
	p := Participant{
		Examples: c.examples, Train: trainOnce(t.Context()),
		Seed: func(_ *pb.Plan, purpose string) [32]byte { return sha256.Sum256([]byte(purpose)) },
	}
	without, err := p.Update(plan, m.checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.personalise(shopState); err != nil {
		t.Fatal(err)
	}
	made(t, c, "personal", Personal, true)
	with, err := p.Update(plan, m.checkpoint)
	if err != nil || !slices.Equal(with, without) {
		t.Errorf("the update differs, %v", err)
	}
}

// TestPersonalPartIsOfOneCheckpoint: another checkpoint, with other intents, leaves the
// part behind until one is made for it.
func TestPersonalPartIsOfOneCheckpoint(t *testing.T) {
	dir := t.TempDir()
	c := personalDevice(t, dir)
	if err := c.personalise(shopState); err != nil {
		t.Fatal(err)
	}
	old := c.model.Load().checkpoint
	changed, err := old.Manifest.Intents().Change(model.IntentChange{Kind: model.RenameIntent, Name: rigLabels[0], Into: "parcel"},
		model.IntentChange{Kind: model.RetireIntent, Name: rigLabels[2]}, model.IntentChange{Kind: model.AddIntent, Name: "thanks"})
	if err != nil {
		t.Fatal(err)
	}
	next, err := old.WithIntents(changed)
	if err != nil {
		t.Fatal(err)
	}
	use(t, c, next)
	made(t, c, "before it is made anew", Shared, true)
	c.Close()
	if c, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	made(t, c, "opened before it is made anew", Shared, true)
	if err := c.personalise(shopState); err != nil {
		t.Fatal(err)
	}
	a, err := c.Classify("tracking my parcel", 3)
	if err != nil || a.Model != Personal || a.Intents[0].Intent != "parcel" {
		t.Errorf("%+v, %v, want a personal answer by the intent's new name", a, err)
	}
}

// TestSharedModelTellsTheUnknown: the threshold is of the shared model's scores, by which
// all texts here have none of the intents, whatever the personal part makes of them.
func TestSharedModelTellsTheUnknown(t *testing.T) {
	c := personalDevice(t, t.TempDir())
	know := *apart()
	threshold := float32(0.01) // the output layer gives 0
	know.Manifest.Calibration = &model.Calibration{Slope: 1, Threshold: &threshold}
	use(t, c, &know)
	for _, want := range []string{Shared, Personal} {
		if a, err := c.Classify("tracking my parcel", 1); err != nil || a.Model != want || !a.Unknown {
			t.Errorf("%+v, %v, want unknown by the %s model", a, err, want)
		}
		if e, err := c.Explain("tracking my parcel"); err != nil || e.Model != want || !e.Unknown {
			t.Errorf("explained as %+v, %v, want unknown by the %s model", e, err, want)
		}
		if err := c.personalise(shopState); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPersonalPartThatIsDamaged is left alone, and made anew.
func TestPersonalPartThatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	c := personalDevice(t, dir)
	sum := c.model.Load().sum
	part := personalPart{Checkpoint: hex.EncodeToString(sum[:]), Personal: model.Personal{
		Output: make([]float32, 7), Held: model.MinJudges, OwnRight: 1,
	}}
	short, err := json.Marshal(&part)
	if err != nil {
		t.Fatal(err)
	}
	for name, record := range map[string][]byte{"short": short, "no JSON": []byte("{")} {
		if err := c.store.PutDerived(personalRecord, record); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if c, err = Open(dir, Options{}); err != nil {
			t.Fatal(name, err)
		}
		defer c.Close()
		made(t, c, name, Shared, true)
		if err := c.personalise(shopState); err != nil {
			t.Fatal(name, err)
		}
		made(t, c, name+", made anew", Personal, true)
	}
}

// TestPersonalPartAfterARound walks through a round of a task that wants personal parts:
// each device has one of the round's checkpoint when Participate returns.
func TestPersonalPartAfterARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		d.set(func() { d.reply = wantPersonal })
		var group sync.WaitGroup
		for i := range 3 {
			c := d.device(t, Options{})
			for device := range 3 {
				learn(t, c, phrases(device+i))
			}
			group.Go(func() {
				r, err := c.Participate(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				m := c.model.Load()
				part := m.personal.Load()
				if part == nil || m.sum != r.Checkpoint || part.Checkpoint != hex.EncodeToString(r.Checkpoint[:]) {
					t.Errorf("device %d has no personal part of the round's checkpoint", i)
				}
				if s, err := c.Status(); err != nil || s.Personal == "" {
					t.Errorf("device %d: status %q, %v", i, s.Personal, err)
				}
			})
		}
		group.Wait()
	})
}
