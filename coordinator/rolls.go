package coordinator

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"sync"

	"github.com/discreet-fl/discreet/secagg"
)

// rolls are those of a CA that is kept elsewhere.
type rolls struct {
	mu   sync.Mutex
	list []*secagg.Roll // replaced, never changed
}

// loadRolls reads the rolls of a CA that is kept elsewhere. One that it has not signed, which
// no device would take, is left out.
func (c *Coordinator) loadRolls(ctx context.Context) error {
	if !c.authority.Offline() {
		return nil
	}
	list, err := c.store.Rolls(ctx)
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := r.Verify(c.authority.PublicKey()); err != nil {
			c.log.Warn("a stored roll is left out, and its devices are shown by their credentials; admit the file again that it came with", "devices", len(r.Keys), "error", err)
			continue
		}
		c.rolls.list = append(c.rolls.list, r)
	}
	return nil
}

// leastRoll is how many devices a roll is of use for: one's credential takes fewer bytes.
const leastRoll = 2

// takeRoll keeps a roll that an operator brought and that the CA has signed, also where what
// was stored of it is damaged.
func (c *Coordinator) takeRoll(ctx context.Context, r *secagg.Roll) error {
	if len(r.Keys) < leastRoll {
		return nil
	}
	if err := c.store.PutRoll(ctx, r); err != nil {
		return err
	}
	c.rolls.mu.Lock()
	defer c.rolls.mu.Unlock()
	if slices.ContainsFunc(c.rolls.list, func(had *secagg.Roll) bool { return bytes.Equal(had.Signature, r.Signature) }) {
		return nil
	}
	c.rolls.list = append(slices.Clip(c.rolls.list), r)
	c.log.Info("roll taken up", "devices", len(r.Keys))
	return nil
}

// rollsOf are the rolls by which a cohort's members are shown to be admitted: with the CA's
// key one of just them, but for who was revoked since, otherwise all that the CA's machine
// has made.
func (c *Coordinator) rollsOf(members []ed25519.PublicKey) []*secagg.Roll {
	if c.authority.Offline() {
		c.rolls.mu.Lock()
		defer c.rolls.mu.Unlock()
		return c.rolls.list
	}
	_, revoked := c.authority.Revocations()
	members = slices.DeleteFunc(slices.Clone(members), func(key ed25519.PublicKey) bool { return revoked.Has(secagg.DeviceID(key)) })
	if len(members) < leastRoll {
		return nil
	}
	r, err := c.authority.Roll(members)
	if err != nil { // their credentials do
		c.log.Warn("members of a cohort have no roll", "members", len(members), "error", fmt.Errorf("coordinator: %w", err))
		return nil
	}
	return []*secagg.Roll{r}
}
