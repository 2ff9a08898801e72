package secagg

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"
)

// strangers are devices that the authority has put into a roll and that do not check in.
func strangers(seed uint64, n int) (keys []ed25519.PublicKey) {
	for i := range n {
		keys = append(keys, newKey(seed, "stranger", i).Public().(ed25519.PublicKey))
	}
	return keys
}

// rollOf has an authority sign a roll of a rig's devices and others.
func (r *rig) rollOf(ca ed25519.PrivateKey, devices []int, others ...ed25519.PublicKey) *Roll {
	r.t.Helper()
	for _, i := range devices {
		others = append(others, r.devices[i].signer.public())
	}
	roll, err := SignRoll(ca, others)
	r.must(err)
	return roll
}

// withRolls is a rig of which the authority has signed the rolls that make says.
func withRolls(t testing.TB, seed uint64, n int, made func(r *rig) []*Roll, change ...func(*Params)) *rig {
	var rolls []*Roll
	r := newRigWith(t, seed, n, func(p *Params) {
		p.Keys, p.Rolls = Classical, func([]ed25519.PublicKey) []*Roll { return rolls }
		for _, f := range change {
			f(p)
		}
	})
	rolls = made(r)
	return r
}

// TestHostileRolls shows device 0 rosters whose members are not admitted by the rolls that
// they name. Device 5 stands in no roll.
func TestHostileRolls(t *testing.T) {
	const victim, loner = 0, 5
	keys := strangers(120, 4)
	r := withRolls(t, 120, 6, func(r *rig) []*Roll { return []*Roll{r.rollOf(r.ca, []int{0, 1, 2, 3, 4}, keys...)} })
	other := newKey(120, "other authority", 0)
	r.must(r.advertise(r.all()))
	good := r.params.Rolls(nil)[0]
	place := func(key ed25519.PublicKey) int {
		return slices.IndexFunc(good.Keys, func(k ed25519.PublicKey) bool { return k.Equal(key) })
	}
	stranger, second := place(keys[0]), place(r.devices[2].signer.public())
	prove := func(roll *Roll, places [][2]int) rollProof { return roll.prove(6, places) }
	by := func(roll *Roll) func(a *admission) { // all but the loner, by another roll
		return func(a *admission) {
			a.rolls[0] = prove(roll, roll.among(r.shares.session.members, nil))
		}
	}
	large := &Roll{Keys: slices.Concat(good.Keys, strangers(120, MaxRoll+5)[4:])} // signed, and in order, as if it might be
	large.Keys = large.Keys[:MaxRoll+1]
	sortKeys(large.Keys)
	large.prepare()
	root := large.tree.root()
	large.Signature = ed25519.Sign(r.ca, rollMessage(MaxRoll+1, &root))
	moved := func(a *admission, place int) { // the proof of other places of the good roll
		a.rolls[0].places[second/8] &^= 1 << (second % 8)
		a.rolls[0].places.set(place)
		a.rolls[0].proof = good.tree.proof(9, a.rolls[0].places)
	}
	tests := []struct {
		name   string
		kind   error
		blamed int
		change func(a *admission)
	}{
		{"a member that is in no roll", ErrForged, -1, func(a *admission) {
			a.rolls[0].members.set(loner)
			a.rolls[0].places.set(stranger)
			a.rolls[0].proof, a.credentials = good.tree.proof(9, a.rolls[0].places), nil
		}},
		{"a member that is in no roll, at no place", ErrMalformed, -1, func(a *admission) { a.rolls[0].members.set(loner); a.credentials = nil }},
		{"a member with neither", ErrForged, loner, func(a *admission) { a.credentials = nil }},
		{"one with a credential of another authority", ErrForged, loner, func(a *admission) {
			copy(a.credentials[0][:], Certify(other, r.devices[loner].signer.public()))
		}},
		{"a credential too many", ErrMalformed, -1, func(a *admission) { a.credentials = append(a.credentials, a.credentials[0]) }},
		{"a roll of another authority", ErrForged, -1, by(r.rollOf(other, []int{0, 1, 2, 3, 4}, keys...))},
		{"a credential for a roll", ErrForged, -1, func(a *admission) {
			a.rolls[0].signature = [signatureSize]byte(r.devices[victim].signer.Credential)
		}},
		{"another roll's signature", ErrForged, -1, func(a *admission) {
			a.rolls[0].signature = [signatureSize]byte(r.rollOf(r.ca, r.all(), keys[1:]...).Signature)
		}},
		{"one hash too few", ErrForged, -1, func(a *admission) { a.rolls[0].proof = a.rolls[0].proof[1:] }},
		{"one hash too many", ErrForged, loner, func(a *admission) { a.rolls[0].proof = append(a.rolls[0].proof, digest{}) }},
		{"a hash changed", ErrForged, -1, func(a *admission) { a.rolls[0].proof[0][0] ^= 1 }},
		{"hashes exchanged", ErrForged, -1, func(a *admission) { p := a.rolls[0].proof; p[0], p[1] = p[1], p[0] }},
		{"a place out of range", ErrMalformed, -1, func(a *admission) {
			moved(a, stranger)
			a.rolls[0].places[stranger/8] &^= 1 << (stranger % 8)
			a.rolls[0].places[1] |= 1 << 1 // of nine places the tenth
		}},
		{"two members at one place", ErrMalformed, -1, func(a *admission) { a.rolls[0].places[second/8] &^= 1 << (second % 8) }},
		{"a place of nobody", ErrMalformed, -1, func(a *admission) { a.rolls[0].places.set(stranger) }},
		{"the place of another device's key", ErrForged, -1, func(a *admission) { moved(a, stranger) }},
		{"one device more than the roll has", ErrForged, -1, func(a *admission) { a.rolls[0].size++ }},
		{"devices that need a higher tree", ErrForged, -1, func(a *admission) {
			a.rolls[0].size, a.rolls[0].places = 17, append(a.rolls[0].places, 0)
		}},
		{"no devices", ErrMalformed, -1, func(a *admission) { a.rolls[0].size = 0 }},
		{"more devices than any roll has", ErrMalformed, -1, by(large)},
		{"as many devices as a number has", ErrMalformed, -1, func(a *admission) { a.rolls[0].size = 1<<32 - 1 }},
		{"a member in two rolls", ErrMalformed, -1, func(a *admission) {
			a.rolls = append(a.rolls, prove(good, [][2]int{{2, second}}))
		}},
		{"a roll for nobody", ErrMalformed, -1, func(a *admission) { a.rolls = append(a.rolls, prove(good, nil)) }},
		{"a roll for a place past the roster", ErrMalformed, -1, func(a *admission) { a.rolls[0].members[0] |= 1 << 6 }},
	}
	says := map[string]string{
		"a member in two rolls":       "the member at place 2 of the roster is shown by roll 1",
		"a roll of another authority": "is not signed by the authority pinned here",
		"a hash changed":              "does not hold the 5 members",
	}
	d := r.devices[victim]
	for _, test := range tests {
		forged := r.forgeRoster(victim, func(f *forgery) { f.admit = test.change })
		t.Run(test.name, func(t *testing.T) {
			a := d.advertised.again()
			_, msg, err := a.Share(forged, stream(1, "unused", 0))
			wantRefusal(t, err, test.kind, r.id(test.blamed))
			if !strings.Contains(err.Error(), says[test.name]) {
				t.Errorf("%v, want it to say %q", err, says[test.name])
			}
			if msg != nil {
				t.Error("a message came with the error")
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		for n := range d.roster {
			a := d.advertised.again()
			if _, msg, err := a.Share(d.roster[:n:n], stream(1, "unused", 0)); !errors.Is(err, ErrMalformed) || msg != nil {
				t.Errorf("the first %d of %d bytes: %v, want ErrMalformed", n, len(d.roster), err)
			}
		}
	})
	t.Run("a revoked device", func(t *testing.T) {
		for i := range r.devices {
			a := d.advertised.again()
			a.params.Revoked = func(id ID) bool { return id == r.devices[i].id }
			_, _, err := a.Share(d.roster, stream(1, "unused", 0))
			wantRefusal(t, err, ErrRevoked, r.id(i))
		}
	})
	r.must(r.share(r.all()))
	r.endWith(r.all())
}

// TestAdmissionUnbound has each member shown that the others were admitted in another way:
// what they sign is that they are members, with which keys, so that all go on together.
func TestAdmissionUnbound(t *testing.T) {
	var shown []*Roll
	r := newRigWith(t, 121, 6, func(p *Params) { p.Keys, p.Rolls = Classical, func([]ed25519.PublicKey) []*Roll { return shown } })
	r.must(r.advertise(r.all()))
	for i, d := range r.devices {
		shown = nil
		if i > 0 {
			shown = []*Roll{r.rollOf(r.ca, upTo(i+1), strangers(121, i)...)}
		}
		d.roster = r.forgeRoster(i, func(*forgery) {})
	}
	r.must(r.share(r.all()))
	r.endWith(r.all())
}

// TestRollsChosen holds what a server shows of its rolls: nothing that takes more bytes
// than credentials, each member once, and the rolls in which most stand.
func TestRollsChosen(t *testing.T) {
	few := func(r *rig) *Roll { return r.rollOf(r.ca, []int{0, 1}) }
	for _, test := range []struct {
		name        string
		rolls       func(r *rig) []*Roll
		shown       []int // members by each roll
		credentials int
	}{
		{"none", func(*rig) []*Roll { return nil }, nil, 8},
		{"all", func(r *rig) []*Roll { return []*Roll{few(r), r.rollOf(r.ca, r.all())} }, []int{8}, 0},
		{"two", func(r *rig) []*Roll { return []*Roll{few(r), r.rollOf(r.ca, []int{2, 3, 4, 5, 6})} }, []int{5, 2}, 1},
		{"of one", func(r *rig) []*Roll { return []*Roll{r.rollOf(r.ca, []int{3})} }, nil, 8},
		{"that overlap", func(r *rig) []*Roll {
			return []*Roll{r.rollOf(r.ca, []int{0, 1, 2, 3}), r.rollOf(r.ca, []int{3, 4, 5, 6, 7})}
		}, []int{5, 3}, 0},
		{"too thin", func(r *rig) []*Roll { return []*Roll{r.rollOf(r.ca, []int{0, 1, 2}, strangers(122, 200)...)} }, nil, 8},
		{"of others", func(r *rig) []*Roll { return []*Roll{r.rollOf(r.ca, nil, strangers(122, 9)...)} }, nil, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := withRolls(t, 122, 8, test.rolls)
			r.must(r.advertise(r.all()))
			plain := withRolls(t, 122, 8, func(*rig) []*Roll { return nil })
			plain.must(plain.advertise(plain.all()))
			if got, most := len(r.devices[0].roster), len(plain.devices[0].roster); got > most {
				t.Errorf("a roster of %d bytes, more than the %d with credentials alone", got, most)
			}
			got, err := decodeRoster(r.devices[0].roster, &r.params, r.devices[0].advertised.committed)
			r.must(err)
			var shown []int
			for i := range got.admission.rolls {
				shown = append(shown, got.admission.rolls[i].members.count())
			}
			if !slices.Equal(shown, test.shown) || len(got.admission.credentials) != test.credentials {
				t.Errorf("%v members by rolls and %d by credentials, want %v and %d", shown, len(got.admission.credentials), test.shown, test.credentials)
			}
			r.must(r.share(r.all()))
			r.endWith(r.all())
		})
	}
}

// TestMostRolls has an authority with one roll more than a roster's count of them holds: the
// members of the last have credentials.
func TestMostRolls(t *testing.T) {
	const each, n = 3, 3 * (maxRolls + 1)
	ca := newKey(123, "authority", 0)
	public := ca.Public().(ed25519.PublicKey)
	var rolls []*Roll
	var members []member
	for keys := range slices.Chunk(strangers(123, n), each) {
		roll, err := SignRoll(ca, keys)
		if err != nil {
			t.Fatal(err)
		}
		rolls = append(rolls, roll)
		for _, key := range keys {
			members = append(members, member{id: DeviceID(key), key: [ed25519.PublicKeySize]byte(key)})
		}
	}
	slices.SortFunc(members, func(a, b member) int { return compareIDs(a.id, b.id) })
	credentials := make([][signatureSize]byte, n)
	for i := range members {
		credentials[i] = [signatureSize]byte(Certify(ca, members[i].key[:]))
	}
	p := &Params{CA: public, Rolls: func([]ed25519.PublicKey) []*Roll { return rolls }}
	shown := p.admission(members, credentials)
	f := fields(shown.append(nil))
	read, err := decodeAdmission(&f, n)
	if err != nil || len(f) != 0 {
		t.Fatalf("%v, %d bytes are left", err, len(f))
	}
	if len(read.rolls) != maxRolls || len(read.credentials) != each {
		t.Errorf("%d rolls and %d credentials, want %d and %d", len(read.rolls), len(read.credentials), maxRolls, each)
	}
	if err := read.check(public, members); err != nil {
		t.Error(err)
	}
}
