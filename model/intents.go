package model

import (
	"errors"
	"fmt"
	"slices"
)

// MaxFormer bounds the old names that a manifest keeps.
const MaxFormer = MaxLabels

// Retired stands in the place of a label in a Former whose intent is no more.
const Retired = -1

// Former is a name that an intent once had. A device whose chats carry it learns by it which label they are now.
type Former struct {
	Name string `json:"name"`
	Now  int    `json:"now"` // the place in the labels, or Retired
}

// Intents is the list of a model's intents at one version, and how it came out of the list of the checkpoint that
// it was taken from. It is a value: Change and Onto return another.
type Intents struct {
	Version uint64   // 0 is the list that a task began with
	Labels  []string // in the order of the scores
	Former  []Former // the oldest first

	sources [][]int // of each label, the checkpoint's labels that it was made of; none of a new one
}

// IntentChange is one change to a list of intents.
type IntentChange struct {
	Kind IntentChangeKind
	Name string // of the intent that is added, renamed, merged or retired
	Into string // the new name, or the intent that it is merged into; else empty
}

// IntentChangeKind says what an IntentChange does.
type IntentChangeKind int

const (
	// AddIntent adds an intent at the end.
	AddIntent IntentChangeKind = iota + 1
	// RenameIntent gives an intent a name that no other has.
	RenameIntent
	// MergeIntent makes two intents one.
	MergeIntent
	// RetireIntent takes an intent out. Chats of it are trained on no more.
	RetireIntent
)

// Intents returns the manifest's list.
func (m *Manifest) Intents() *Intents {
	r := &Intents{Version: m.IntentsVersion, Labels: slices.Clone(m.Labels), Former: slices.Clone(m.FormerIntents)}
	for i := range r.Labels {
		r.sources = append(r.sources, []int{i})
	}
	return r
}

// Index maps each label and each old name of one to its place in the labels. The names of retired intents are not
// in it.
func (m *Manifest) Index() map[string]int {
	return (&Intents{Labels: m.Labels, Former: m.FormerIntents}).index()
}

func (r *Intents) index() map[string]int {
	index := make(map[string]int, len(r.Labels)+len(r.Former))
	for i, label := range r.Labels {
		index[label] = i
	}
	for _, f := range r.Former {
		if f.Now != Retired {
			index[f.Name] = f.Now
		}
	}
	return index
}

// Change returns the list after all of the changes, one version later, or r itself where it has them all already:
// a change may be asked for twice. The errors are for whoever asks: names that are not known or taken, an intent
// that is changed twice at once, fewer than 2 or more than MaxLabels intents.
func (r *Intents) Change(changes ...IntentChange) (*Intents, error) {
	next := &Intents{Version: r.Version + 1, Labels: slices.Clone(r.Labels), Former: slices.Clone(r.Former), sources: slices.Clone(r.sources)}
	seen := make(map[string]bool, len(changes))
	changed := false
	for _, c := range changes {
		if seen[c.Name] {
			return nil, fmt.Errorf("intent %q is changed twice at once: ask for one change after the other", c.Name)
		}
		seen[c.Name] = true
		did, err := next.apply(c)
		if err != nil {
			return nil, err
		}
		changed = changed || did
	}
	if !changed {
		return r, nil
	}
	if n := len(next.Labels); n < 2 || n > MaxLabels {
		return nil, fmt.Errorf("%d intents would be left, want 2 to %d", n, MaxLabels)
	}
	return next, next.bound()
}

// apply makes one change in place and tells whether it was one.
func (r *Intents) apply(c IntentChange) (bool, error) {
	if err := checkName("intent", c.Name, MaxLabelBytes); err != nil {
		return false, err
	}
	if (c.Kind == RenameIntent || c.Kind == MergeIntent) == (c.Into == "") {
		return false, fmt.Errorf("a change of intent %q into %q, want a second name for a rename or a merge, and none for others", c.Name, c.Into)
	}
	at, former := slices.Index(r.Labels, c.Name), r.former(c.Name)
	switch c.Kind {
	case AddIntent:
		return r.add(c.Name, at, former)
	case RenameIntent, MergeIntent:
		if at < 0 && former >= 0 && r.Former[former].Now >= 0 && r.Labels[r.Former[former].Now] == c.Into {
			return false, nil // done before
		}
	case RetireIntent:
		if at < 0 && former >= 0 && r.Former[former].Now == Retired {
			return false, nil
		}
	default:
		return false, fmt.Errorf("a change of kind %d is not known", c.Kind)
	}
	if at < 0 {
		return false, r.unknown(c.Name, former)
	}
	switch c.Kind {
	case RenameIntent:
		return true, r.rename(at, c.Into)
	case MergeIntent:
		return true, r.merge(at, c.Into)
	}
	r.remove(at, Retired)
	r.Former = append(r.Former, Former{c.Name, Retired})
	return true, nil
}

// former is where an old name stands, -1 where it is none.
func (r *Intents) former(name string) int {
	return slices.IndexFunc(r.Former, func(f Former) bool { return f.Name == name })
}

func (r *Intents) unknown(name string, former int) error {
	switch {
	case former >= 0 && r.Former[former].Now == Retired:
		return fmt.Errorf("intent %q was retired; add it to have it again", name)
	case former >= 0:
		return fmt.Errorf("%q is an old name of the intent %q: change that one", name, r.Labels[r.Former[former].Now])
	}
	return fmt.Errorf("intent %q is not among the %d there are; the nearest is %q: list them all with \"discreet task intents list\"", name, len(r.Labels), Nearest(name, r.Labels))
}

func (r *Intents) add(name string, at, former int) (bool, error) {
	if at >= 0 {
		return false, nil
	}
	if former >= 0 && r.Former[former].Now != Retired {
		return false, fmt.Errorf("%q is an old name of the intent %q, whose chats still carry it: choose another", name, r.Labels[r.Former[former].Now])
	}
	if former >= 0 {
		r.Former = slices.Delete(r.Former, former, former+1)
	}
	r.Labels, r.sources = append(r.Labels, name), append(r.sources, nil)
	return true, nil
}

func (r *Intents) rename(at int, to string) error {
	from := r.Labels[at]
	if err := checkName("intent", to, MaxLabelBytes); err != nil {
		return err
	}
	if to == from {
		return fmt.Errorf("intent %q has this name already, want another one", from)
	}
	if slices.Contains(r.Labels, to) {
		return fmt.Errorf("there is an intent %q already: merge %q into it if they are to be one", to, from)
	}
	if f := r.former(to); f >= 0 {
		if now := r.Former[f].Now; now != Retired && now != at {
			return fmt.Errorf("%q is an old name of the intent %q, whose chats still carry it: choose another", to, r.Labels[now])
		}
		r.Former = slices.Delete(r.Former, f, f+1)
	}
	r.Labels[at] = to
	r.Former = append(r.Former, Former{from, at})
	return nil
}

func (r *Intents) merge(at int, into string) error {
	name, target := r.Labels[at], slices.Index(r.Labels, into)
	if target < 0 {
		return fmt.Errorf("merging %q: %w", name, r.unknown(into, r.former(into)))
	}
	if target == at {
		return fmt.Errorf("intent %q cannot be merged into itself", name)
	}
	r.sources[target] = append(slices.Clone(r.sources[target]), r.sources[at]...)
	if target > at {
		target--
	}
	r.remove(at, target)
	r.Former = append(r.Former, Former{name, target})
	return nil
}

// remove takes a label out; its old names become those of another, whose place is
// counted after the removal.
func (r *Intents) remove(at, now int) {
	r.Labels, r.sources = slices.Delete(r.Labels, at, at+1), slices.Delete(r.sources, at, at+1)
	for i := range r.Former {
		switch f := &r.Former[i]; {
		case f.Now == at:
			f.Now = now
		case f.Now > at:
			f.Now--
		}
	}
}

// bound forgets the names of intents that were retired longest ago where there are too many.
func (r *Intents) bound() error {
	for len(r.Former) > MaxFormer {
		oldest := slices.IndexFunc(r.Former, func(f Former) bool { return f.Now == Retired })
		if oldest < 0 {
			return fmt.Errorf("%d old names of intents, want at most %d: retire an intent to forget its old names", len(r.Former), MaxFormer)
		}
		r.Former = slices.Delete(r.Former, oldest, oldest+1)
	}
	return nil
}

// Onto returns a list of exactly these labels, each made of the one of r that has its name, or once had it; the
// others are new. Old names of labels that go on are kept.
func (r *Intents) Onto(labels []string) *Intents {
	next := &Intents{Labels: slices.Clone(labels), sources: make([][]int, len(labels))}
	index, place := r.index(), make(map[string]int, len(labels))
	for i, label := range labels {
		place[label] = i
		if from, ok := index[label]; ok {
			next.sources[i] = r.sources[from]
		}
	}
	for _, f := range r.Former {
		if f.Now == Retired {
			continue
		}
		now, goesOn := place[r.Labels[f.Now]]
		if _, taken := place[f.Name]; goesOn && !taken {
			next.Former, next.Version = append(next.Former, Former{f.Name, now}), r.Version
		}
	}
	return next
}

// New returns how many of the labels are new.
func (r *Intents) New() (n int) {
	for _, s := range r.sources {
		if len(s) == 0 {
			n++
		}
	}
	return n
}

// Carry takes a flat vector of the checkpoint's layout over to these intents and returns another. The embedding
// stays. The column and the bias of a label that goes on stay, those of a merged one are the mean of both; those of
// a new one are the mean of all, so that it begins as a middling guess, with the least bias. It serves for the
// parameters; CarryState is for what a strategy keeps beside them.
func (r *Intents) Carry(l Layout, params []float32) ([]float32, error) {
	return r.carry(l, params, true)
}

// CarryState is Carry for sums over updates, which a new intent has none of: zero.
func (r *Intents) CarryState(l Layout, state []float32) ([]float32, error) {
	return r.carry(l, state, false)
}

func (r *Intents) carry(l Layout, from []float32, fresh bool) ([]float32, error) {
	next := Layout{Rows: l.Rows, Dim: l.Dim, Labels: len(r.Labels)}
	if err := errors.Join(l.Validate(), next.Validate()); err != nil {
		return nil, err
	}
	if len(from) != l.Parameters() {
		return nil, fmt.Errorf("a vector of %d, want the layout's %d", len(from), l.Parameters())
	}
	to := make([]float32, next.Parameters())
	embedding, weights, bias := l.Split(from)
	newEmbedding, newWeights, newBias := next.Split(to)
	copy(newEmbedding, embedding)
	all := make([]int, l.Labels)
	for i := range all {
		all[i] = i
	}
	for label, sources := range r.sources {
		if len(sources) == 0 {
			if !fresh {
				continue
			}
			sources = all
			newBias[label] = slices.Min(bias)
		} else {
			newBias[label] = meanOf(bias, sources)
		}
		for d := range l.Dim {
			newWeights[d*next.Labels+label] = meanOf(weights[d*l.Labels:(d+1)*l.Labels], sources)
		}
	}
	return to, nil
}

// meanOf is the mean of the values in some places.
func meanOf(values []float32, places []int) float32 {
	if len(places) == 1 {
		return values[places[0]]
	}
	var sum float64
	for _, i := range places {
		sum += float64(values[i])
	}
	return float32(sum / float64(len(places)))
}

// Next returns the checkpoint that comes after c, with these parameters and c's intents and calibration, one round on.
func (c *Checkpoint) Next(params []float32) (*Checkpoint, error) {
	m := &c.Manifest
	next, err := c.with(m.Intents(), m.Task, m.Round+1, params)
	if err != nil {
		return nil, err
	}
	next.Manifest.Calibration = m.Calibration
	return next, nil
}

// WithIntents returns the checkpoint that comes after c with its parameters carried over to other intents, which
// came from c's by Change, one round on.
func (c *Checkpoint) WithIntents(r *Intents) (*Checkpoint, error) {
	params, err := r.Carry(c.Manifest.Layout, c.Params)
	if err != nil {
		return nil, err
	}
	return c.with(r, c.Manifest.Task, c.Manifest.Round+1, params)
}

// Begin returns the first checkpoint of a task that goes on from c with these intents: labels are known by their
// names, and those that c has not are new.
func (c *Checkpoint) Begin(task string, labels []string) (*Checkpoint, error) {
	r := c.Manifest.Intents().Onto(labels)
	params, err := r.Carry(c.Manifest.Layout, c.Params)
	if err != nil {
		return nil, err
	}
	return c.with(r, task, 0, params)
}

// with is a checkpoint of c's size and tokeniser. It keeps params.
func (c *Checkpoint) with(r *Intents, task string, round uint64, params []float32) (*Checkpoint, error) {
	next, err := NewCheckpoint(task, c.Manifest.Size, round, r.Labels, params)
	if err != nil {
		return nil, err
	}
	// The digest is this build's, with which devices of the same Go release go on.
	next.Manifest.TokeniserVersion, next.Manifest.TokeniserDigest = c.Manifest.TokeniserVersion, c.Manifest.TokeniserVersion.Digest()
	next.Manifest.IntentsVersion = r.Version
	if len(r.Former) > 0 { // an empty list reads back as none
		next.Manifest.FormerIntents = slices.Clone(r.Former)
	}
	return next, next.Manifest.validate()
}
