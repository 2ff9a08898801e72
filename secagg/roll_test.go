package secagg

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestRoll signs rolls of keys in any order, and verifies them.
func TestRoll(t *testing.T) {
	ca := newKey(1, "authority", 0)
	public := ca.Public().(ed25519.PublicKey)
	for n := 1; n < 20; n++ {
		keys := strangers(1, n)
		r, err := SignRoll(ca, append(slices.Clone(keys), keys[0]))
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(keys)
		again, err := SignRoll(ca, keys)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Signature, again.Signature) || len(r.Keys) != n {
			t.Errorf("the roll of %d devices depends on their order, or has %d", n, len(r.Keys))
		}
		read := &Roll{Keys: r.Keys, Signature: r.Signature}
		if err := read.Verify(public); err != nil {
			t.Errorf("a roll of %d: %v", n, err)
		}
	}
}

// TestRollRefused changes a roll that was signed.
func TestRollRefused(t *testing.T) {
	ca, other := newKey(1, "authority", 0), newKey(2, "authority", 0)
	public := ca.Public().(ed25519.PublicKey)
	good, err := SignRoll(ca, strangers(1, 5))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		kind   error
		ca     ed25519.PublicKey
		change func(r *Roll)
	}{
		{"another authority", ErrForged, other.Public().(ed25519.PublicKey), func(*Roll) {}},
		{"another signature", ErrForged, public, func(r *Roll) { r.Signature = flipped(r.Signature, 0) }},
		{"a credential", ErrForged, public, func(r *Roll) { r.Signature = Certify(ca, r.Keys[0]) }},
		{"one device less", ErrForged, public, func(r *Roll) { r.Keys = r.Keys[:4] }},
		{"another device", ErrForged, public, func(r *Roll) { r.Keys[4] = flipped(r.Keys[4], 0); sortKeys(r.Keys) }},
		{"out of order", ErrMalformed, public, func(r *Roll) { r.Keys[0], r.Keys[1] = r.Keys[1], r.Keys[0] }},
		{"a device twice", ErrMalformed, public, func(r *Roll) { r.Keys[1] = r.Keys[0] }},
		{"nobody", ErrMalformed, public, func(r *Roll) { r.Keys = nil }},
		{"too many", ErrMalformed, public, func(r *Roll) { r.Keys = make([]ed25519.PublicKey, MaxRoll+1) }},
		{"a short key", ErrMalformed, public, func(r *Roll) { r.Keys[2] = r.Keys[2][:31] }},
		{"a short signature", ErrMalformed, public, func(r *Roll) { r.Signature = r.Signature[:63] }},
		{"no authority", ErrMalformed, nil, func(*Roll) {}},
	} {
		r := &Roll{Keys: slices.Clone(good.Keys), Signature: good.Signature}
		test.change(r)
		err := r.Verify(test.ca)
		if !errors.Is(err, test.kind) {
			t.Errorf("%s: %v, want %v", test.name, err, test.kind)
		} else if strings.Contains(err.Error(), "enrol") { // for an operator, too
			t.Errorf("%s: %v, want it to leave to the caller what to do", test.name, err)
		}
	}
	for name, keys := range map[string][]ed25519.PublicKey{"nobody": nil, "a short key": {make([]byte, 31)}} {
		if _, err := SignRoll(ca, keys); !errors.Is(err, ErrParams) {
			t.Errorf("a roll of %s: %v, want ErrParams", name, err)
		}
	}
	if _, err := SignRoll(ca[:32], strangers(1, 1)); !errors.Is(err, ErrParams) {
		t.Errorf("half a key of the authority: %v, want ErrParams", err)
	}
}

func sortKeys(keys []ed25519.PublicKey) {
	slices.SortFunc(keys, func(a, b ed25519.PublicKey) int { return compareIDs(DeviceID(a), DeviceID(b)) })
}
