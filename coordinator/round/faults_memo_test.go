package round

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/discreet-fl/discreet/secagg"
)

// A device's messages follow from its randomness, which is that of its number, and from
// what it was answered. Most schedules have most of that in common, so that what a real
// device once made of the same answers is kept, and thousands of schedules are
// played in seconds.

// made is what a device made in a step.
type made struct {
	message, complaint []byte
	err                error
}

var (
	memo       sync.Map // made, by the hash of all that it follows from
	identities sync.Map // *device without state, by number
	remembered atomic.Int64
)

// mostRemembered bounds the memory, to some hundred megabytes.
const mostRemembered = 1 << 16

// identity is a device of a number as it checks in.
func identity(t testing.TB, number int, p secagg.Params) *device {
	known, ok := identities.Load(number)
	if !ok {
		known, _ = identities.LoadOrStore(number, newDevice(t, number, p))
	}
	d := known.(*device)
	return &device{id: d.id, signer: d.signer, commitment: d.commitment, vector: make([]uint32, p.Length)}
}

// prepare makes the device's message of a step from the reply to the one before.
func (a *agent) prepare(p secagg.Params, step Step) error {
	if a.message[step] != nil {
		return nil
	}
	h := sha256.New()
	fmt.Fprint(h, a.number, step, p.Attempt, p.Length, p.RingBits, p.Cohort, p.Corrupt, p.Dropout, p.MinSurvivors, p.Keys)
	for _, reply := range append([][]byte{a.committed}, a.reply[:step]...) {
		fmt.Fprint(h, len(reply), " ")
		h.Write(reply)
	}
	key := [32]byte(h.Sum(nil))
	known, ok := memo.Load(key)
	if !ok {
		known = a.make(p, step)
		if remembered.Add(1)%mostRemembered == 0 {
			memo.Clear()
		}
		memo.Store(key, known)
	}
	m := known.(*made)
	a.message[step] = bytes.Clone(m.message)
	if step == Submit {
		a.complaint = bytes.Clone(m.complaint)
	}
	return m.err
}

// make lets a real device walk up to a step. Where it has been there, it goes on from
// there.
func (a *agent) make(p secagg.Params, step Step) *made {
	if a.live == nil {
		a.live = newDevice(a.t, a.number, p)
		a.live.vector, a.live.committed = slices.Clone(a.vector), a.committed
	}
	a.live.reply = a.reply
	for s := range step + 1 {
		if err := a.live.prepare(p, s); err != nil {
			return &made{err: err}
		}
	}
	return &made{a.live.message[step], a.live.complaint, nil}
}
