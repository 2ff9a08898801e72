package coordinator

import (
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
			c.log.Warn("a stored roll is left out; its devices are shown by their credentials", "devices", len(r.Keys), "error", err)
			continue
		}
		c.rolls.list = append(c.rolls.list, r)
	}
	return nil
}

// takeRoll keeps a roll that an operator brought.
func (c *Coordinator) takeRoll(ctx context.Context, r *secagg.Roll) error {
	added, err := c.store.AddRoll(ctx, r)
	if err != nil || !added {
		return err
	}
	c.rolls.mu.Lock()
	defer c.rolls.mu.Unlock()
	c.rolls.list = append(slices.Clip(c.rolls.list), r)
	c.log.Info("roll taken up", "devices", len(r.Keys))
	return nil
}

// rollsOf are the rolls by which a cohort's members are shown to be admitted: with the CA's
// key one of just them, otherwise all that the CA's machine has made.
func (c *Coordinator) rollsOf(members []ed25519.PublicKey) []*secagg.Roll {
	if c.authority.Offline() {
		c.rolls.mu.Lock()
		defer c.rolls.mu.Unlock()
		return c.rolls.list
	}
	r, err := c.authority.Roll(members)
	if err != nil { // their credentials do
		c.log.Warn("members of a cohort have no roll", "members", len(members), "error", fmt.Errorf("coordinator: %w", err))
		return nil
	}
	return []*secagg.Roll{r}
}
