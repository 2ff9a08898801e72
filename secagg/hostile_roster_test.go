package secagg

import (
	"errors"
	"slices"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
)

// resign makes the advert the device's own again after a change.
func (r *rig) resign(a *advert, i int, p Params) {
	ctx0 := p.context()
	copy(a.signature[:], r.devices[i].signer.sign(a.signed(&ctx0)))
}

// TestHostileRoster shows device 0 rosters that its server made up.
func TestHostileRoster(t *testing.T) {
	const n, victim = 5, 0
	type roster = []advert
	tests := []struct {
		name   string
		kind   error
		blamed int // -1: nobody
		forge  func(r *rig, m roster) roster
	}{
		{"small cohort", ErrTooFew, -1, func(r *rig, m roster) roster { return m[:2] }},
		{"without the device itself", ErrRefused, -1, func(r *rig, m roster) roster { return m[1:] }},
		{"more than the plan allows", ErrRefused, -1, func(r *rig, m roster) roster {
			return append(m, m...)
		}},
		{"a member twice", ErrMalformed, 2, func(r *rig, m roster) roster {
			return roster{m[0], m[1], m[2], m[2], m[3]}
		}},
		{"out of order", ErrMalformed, 1, func(r *rig, m roster) roster {
			return roster{m[0], m[2], m[1], m[3]}
		}},
		{"a member of another authority", ErrForged, 2, func(r *rig, m roster) roster {
			copy(m[2].credential[:], Certify(newKey(1, "other authority", 0), m[2].key[:]))
			return m
		}},
		{"a credential of another member", ErrForged, 2, func(r *rig, m roster) roster {
			m[2].credential = m[1].credential
			return m
		}},
		{"a channel key swapped by the server", ErrForged, 3, func(r *rig, m roster) roster {
			k, _ := newChannelKey(stream(1, "swap", 0))
			m[3].channel = k.public
			return m
		}},
		{"a mask key swapped by the server", ErrForged, 3, func(r *rig, m roster) roster {
			k, _ := newChannelKey(stream(1, "swap", 0))
			m[3].mask = k.public
			return m
		}},
		{"the device's own advert swapped", ErrForged, -1, func(r *rig, m roster) roster {
			k, _ := newChannelKey(stream(1, "swap", 0))
			m[victim].mask = k.public
			r.resign(&m[victim], victim, r.params)
			return m
		}},
		{"another plan", ErrForged, 1, func(r *rig, m roster) roster {
			p := r.params
			p.Plan = []byte("another plan")
			r.resign(&m[1], 1, p)
			return m
		}},
		{"another task", ErrForged, 1, func(r *rig, m roster) roster {
			p := r.params
			p.Task, p.Plan = p.Task+"a", p.Plan[1:]
			r.resign(&m[1], 1, p)
			return m
		}},
		{"another round", ErrForged, 1, func(r *rig, m roster) roster {
			p := r.params
			p.Round--
			r.resign(&m[1], 1, p)
			return m
		}},
		{"another attempt", ErrForged, 1, func(r *rig, m roster) roster {
			p := r.params
			p.Attempt++
			r.resign(&m[1], 1, p)
			return m
		}},
		{"another member's channel key", ErrBadKey, 4, func(r *rig, m roster) roster {
			m[4].channel = m[3].channel
			r.resign(&m[4], 4, r.params)
			return m
		}},
		{"another member's mask key", ErrBadKey, 4, func(r *rig, m roster) roster {
			m[4].mask = m[3].mask
			r.resign(&m[4], 4, r.params)
			return m
		}},
		{"one key for both uses", ErrBadKey, 4, func(r *rig, m roster) roster {
			m[4].mask = m[4].channel
			r.resign(&m[4], 4, r.params)
			return m
		}},
		{"a mask key of low order", ErrBadKey, 2, func(r *rig, m roster) roster {
			m[2].mask = x25519.Key(lowOrderPoints[2])
			r.resign(&m[2], 2, r.params)
			return m
		}},
		{"a channel key of low order", ErrBadKey, 2, func(r *rig, m roster) roster {
			m[2].channel = x25519.Key{1}
			r.resign(&m[2], 2, r.params)
			return m
		}},
		{"a key that is not canonical", ErrBadKey, 2, func(r *rig, m roster) roster {
			m[2].mask[31] |= 0x80
			r.resign(&m[2], 2, r.params)
			return m
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, 100, n)
			r.must(r.advertise(r.all()))
			members, err := decodeRoster(r.roster, n)
			r.must(err)
			var blamed *ID
			if test.blamed >= 0 {
				blamed = &members[test.blamed].id
			}
			d := r.devices[victim]
			_, msg, err := d.advertised.Share(encodeRoster(test.forge(r, slices.Clone(members))), d.rand)
			wantRefusal(t, err, test.kind, blamed)
			if msg != nil {
				t.Error("a message came with the error")
			}
			if _, _, err := d.advertised.Share(r.roster, d.rand); !errors.Is(err, ErrSpent) {
				t.Errorf("after the refusal: %v, want ErrSpent", err)
			}
		})
	}
}

// TestOwnMinimum has a device ask for more than its server does.
func TestOwnMinimum(t *testing.T) {
	r := newRig(t, 101, 5)
	p := r.params
	p.MinSurvivors = 5
	d := r.devices[4]
	a, msg, err := Advertise(p, d.signer, d.rand)
	r.must(err)
	r.must(r.adverts.Add(d.id, msg))
	r.must(r.advertise([]int{0, 1, 2}))
	_, _, err = a.Share(r.roster, d.rand)
	wantRefusal(t, err, ErrTooFew, nil)
}
