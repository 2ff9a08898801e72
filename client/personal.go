package client

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/train"
	pb "github.com/discreet-fl/discreet/proto"
)

// The models that an answer may come from.
const (
	Shared   = "shared"   // the task's checkpoint as it is
	Personal = "personal" // its embedding with this device's own output layer
)

// personalRecord is the folder's record of the personal part. It is made from chats, and
// goes with whichever of them is forgotten.
const personalRecord = "personal"

// personalPart is a personal part and what it was made of. One of another checkpoint is
// of no use: its intents, or its embedding, may be others. One without an output layer is
// kept so that it is not made again.
type personalPart struct {
	Checkpoint string         `json:"checkpoint"` // SHA-256 of the file, hexadecimal
	HeldBack   uint32         `json:"held_back"`  // chats in 10,000 that judge it
	Added      uint64         `json:"added"`      // chats ever added to the folder
	Personal   model.Personal `json:"personal"`
	Failed     string         `json:"failed,omitempty"` // why training did; then Personal is empty

	classifiers sync.Pool // of *model.Classifier; empty unless Personal.Better
}

// ready makes the classifiers of a part that is to answer.
func (p *personalPart) ready(c *model.Checkpoint) error {
	if !p.Personal.Better() {
		return nil
	}
	first, err := p.Personal.Classifier(c)
	if err != nil {
		return err
	}
	p.classifiers.New = func() any {
		another, _ := p.Personal.Classifier(c) // which fitted before
		return another
	}
	p.classifiers.Put(first)
	return nil
}

// answering returns the classifier of the model that answers, which one that is, and
// what to call when done with it.
func (m *loadedModel) answering() (*model.Classifier, string, func()) {
	pool, which := &m.classifiers, Shared
	if p := m.personal.Load(); p != nil && p.Personal.Better() {
		pool, which = &p.classifiers, Personal
	}
	c := pool.Get().(*model.Classifier)
	return c, which, func() { pool.Put(c) }
}

// loadPersonal takes up the part that was made of the checkpoint in use. One that cannot
// be read, or of another checkpoint, is made anew when the device next asks for tasks.
func (c *Client) loadPersonal() error {
	on, err := c.participation()
	if err != nil {
		return err
	}
	if !on {
		return c.dropPersonal() // a process may have been killed before it did
	}
	m := c.model.Load()
	b, err := c.store.Derived(personalRecord)
	if m == nil || b == nil && err == nil {
		return nil
	}
	part := new(personalPart)
	if err == nil {
		err = json.Unmarshal(b, part)
	}
	if err == nil && part.Checkpoint != hex.EncodeToString(m.sum[:]) {
		return nil
	}
	if err == nil {
		err = part.ready(m.checkpoint)
	}
	if err != nil {
		c.log.Warn("personal part cannot be read; it will be made anew", "error", err)
		return nil
	}
	m.personal.Store(part)
	return nil
}

// makePersonal sees to the personal part, without which the shared model answers.
func (c *Client) makePersonal(state *pb.TaskState) {
	if err := c.personalise(state); err != nil {
		c.log.Warn("personal part could not be made", "task", state.GetTask(), "error", err)
	}
}

// personalise brings the personal part up to date with the checkpoint in use and the
// chats, for a task that wants one, and drops it otherwise, or where participation is
// switched off. A device calls it whenever it has asked for tasks, and after a round; it
// trains at most once for each checkpoint and each addition to the chats, also where that
// fails, and on a bounded number of them.
func (c *Client) personalise(state *pb.TaskState) error {
	c.shaping.Lock()
	defer c.shaping.Unlock()
	m := c.model.Load()
	if m == nil {
		return nil
	}
	on, err := c.participation()
	if err != nil {
		return err
	}
	share := state.GetPersonalHeldBack()
	if !on || share == 0 || m.checkpoint.Manifest.Task != state.GetTask() {
		return c.dropPersonal()
	}
	if share > mostHeldBack {
		return fmt.Errorf("%d chats in 10,000 held back for the personal part, want 1 to %d", share, mostHeldBack)
	}
	if err := m.checkpoint.Manifest.CheckTokeniser(); err != nil {
		return err
	}
	part := &personalPart{Checkpoint: hex.EncodeToString(m.sum[:]), HeldBack: share}
	if part.Added, err = c.store.Added(); err != nil {
		return err
	}
	if p := m.personal.Load(); p != nil && p.HeldBack == share && p.Added == part.Added {
		return nil
	}
	examples, err := c.examples(&m.checkpoint.Manifest)
	if err != nil {
		return err
	}
	own, held := HoldBack(examples, share)
	if part.Personal, err = train.Personalise(m.checkpoint, own, held, binary.LittleEndian.Uint64(m.sum[:])); err != nil {
		part.Personal, part.Failed = model.Personal{}, err.Error()
	}
	return c.keepPersonal(m, part)
}

// keepPersonal stores a part and takes it up.
func (c *Client) keepPersonal(m *loadedModel, part *personalPart) error {
	if err := part.ready(m.checkpoint); err != nil {
		return err
	}
	b, err := json.Marshal(part)
	if err != nil {
		return err
	}
	if err := c.store.PutDerived(personalRecord, b); err != nil {
		return err
	}
	m.personal.Store(part)
	log := c.log.With("task", m.checkpoint.Manifest.Task, "round", m.checkpoint.Manifest.Round)
	if part.Failed != "" {
		log.Warn("personal part could not be trained; the next checkpoint, or new chats, try again", "error", part.Failed)
	} else {
		log.Info("personal part made")
	}
	return nil
}

// dropPersonal leaves the shared model to answer. Who calls it holds c.shaping.
func (c *Client) dropPersonal() error {
	if m := c.model.Load(); m != nil {
		m.personal.Store(nil)
	}
	b, err := c.store.Derived(personalRecord)
	if b == nil && err == nil {
		return nil
	}
	return c.store.DropDerived()
}

// personalText is how the personal part stands, for Status.
func (m *loadedModel) personalText() string {
	part := m.personal.Load()
	if part == nil {
		return ""
	}
	p := &part.Personal
	switch {
	case part.Failed != "":
		return "not made: " + part.Failed
	case p.Held < model.MinJudges:
		return fmt.Sprintf("not made: %d chats held back to judge it by, want at least %d", p.Held, model.MinJudges)
	case len(p.Output) == 0:
		return "not made: no chats to train it on"
	case p.Better():
		return fmt.Sprintf("answers: of %d chats held back it names %d rightly, the shared model %d", p.Held, p.OwnRight, p.SharedRight)
	}
	return fmt.Sprintf("not used: of %d chats held back it names %d rightly, the shared model %d", p.Held, p.OwnRight, p.SharedRight)
}
