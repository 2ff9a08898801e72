package secagg

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
)

// A roster shows of each member that the authority has admitted it: by a roll with the
// member in it, or by the member's credential. A roll costs a device one signature for
// all its members, and for each a few hashes.

// maxRolls is the most rolls of a roster; its count has one byte.
const maxRolls = 255

// rollHead is what a roll takes in a roster, besides bitmaps and hashes.
const rollHead = 4 + signatureSize

// admission is the part of a roster that shows it.
type admission struct {
	rolls       []rollProof
	credentials [][signatureSize]byte // of the members in no roll, ascending
}

// rollProof shows that some members stand in a roll.
type rollProof struct {
	size      int    // of the roll
	members   bitmap // of the roster, who are shown by it
	places    bitmap // theirs in the roll, in the same order
	signature [signatureSize]byte
	proof     []digest
}

func (a *admission) size() int {
	size := 1 + len(a.credentials)*signatureSize
	for i := range a.rolls {
		size += a.rolls[i].bytes()
	}
	return size
}

func (r *rollProof) bytes() int {
	return rollHead + len(r.members) + len(r.places) + len(r.proof)*len(digest{})
}

func (a *admission) append(b []byte) []byte {
	b = append(b, byte(len(a.rolls)))
	for i := range a.rolls {
		r := &a.rolls[i]
		b = binary.BigEndian.AppendUint32(b, uint32(r.size))
		b = append(append(b, r.members...), r.places...)
		b = append(b, r.signature[:]...)
		for j := range r.proof {
			b = append(b, r.proof[j][:]...)
		}
	}
	for i := range a.credentials {
		b = append(b, a.credentials[i][:]...)
	}
	return b
}

// decodeAdmission cuts the admission of n members off a roster and checks its form: every
// member is in one roll or has a credential, and a roll has a place for each of its own.
func decodeAdmission(f *fields, n int) (a admission, err error) {
	if err := f.atLeast(kindRoster, 1); err != nil {
		return a, err
	}
	admitted := newBitmap(n)
	for i := range f.next(1)[0] {
		r, err := decodeRollProof(f, n)
		if err != nil {
			return a, err
		}
		for _, place := range r.members.places() {
			if admitted.has(place) {
				return a, fmt.Errorf("%w: the member at place %d of the roster is shown by roll %d and by one before it, want one roll", ErrMalformed, place, i)
			}
			admitted.set(place)
		}
		a.rolls = append(a.rolls, r)
	}
	rest := n - admitted.count()
	if err := f.atLeast(kindRoster, rest*signatureSize); err != nil {
		return a, err
	}
	a.credentials = make([][signatureSize]byte, rest)
	for i := range a.credentials {
		copy(a.credentials[i][:], f.next(signatureSize))
	}
	return a, nil
}

func decodeRollProof(f *fields, n int) (r rollProof, err error) {
	if err := f.atLeast(kindRoster, rollHead+bitmapSize(n)); err != nil {
		return r, err
	}
	size := binary.BigEndian.Uint32(f.next(4))
	if size < 1 || size > MaxRoll {
		return r, fmt.Errorf("%w: roll of %d devices, want 1 to %d", ErrMalformed, size, MaxRoll)
	}
	r.size = int(size)
	if r.members, err = decodeBitmap(f.next(bitmapSize(n)), n); err != nil {
		return r, err
	}
	if err := f.atLeast(kindRoster, bitmapSize(r.size)+signatureSize); err != nil {
		return r, err
	}
	if r.places, err = decodeBitmap(f.next(bitmapSize(r.size)), r.size); err != nil {
		return r, err
	}
	copy(r.signature[:], f.next(signatureSize))
	if members, places := r.members.count(), r.places.count(); members != places || members == 0 {
		return r, fmt.Errorf("%w: %d members of the roster at %d places of a roll, want as many, and one at least", ErrMalformed, members, places)
	}
	hashes := proofSize(r.size, r.places)
	if err := f.atLeast(kindRoster, hashes*len(digest{})); err != nil {
		return r, err
	}
	for range hashes {
		r.proof = append(r.proof, f.digest())
	}
	return r, nil
}

// check verifies that the authority whose public key is ca has admitted all members. Of a
// roll that does not hold it cannot tell which member is at fault.
func (a *admission) check(ca ed25519.PublicKey, members []member) error {
	admitted := newBitmap(len(members))
	for i := range a.rolls {
		r := &a.rolls[i]
		var leaves []digest
		for _, place := range r.members.places() {
			admitted.set(place)
			leaves = append(leaves, rollLeaf(members[place].key[:]))
		}
		root, err := nodes(rollNode).rootFrom(r.size, r.places, leaves, r.proof)
		if err != nil {
			return err
		}
		if !verifyRoll(ca, r.size, root, r.signature[:]) {
			return fmt.Errorf("%w: roll %d of the roster, of %d devices, is not signed by the authority pinned here, or does not hold the %d members that it is to show; if the server is another authority's, enrol with that",
				ErrForged, i, r.size, len(leaves))
		}
	}
	credentials := a.credentials
	for i := range members {
		if admitted.has(i) {
			continue
		}
		if err := VerifyCredential(ca, members[i].key[:], credentials[0][:]); err != nil {
			return &PeerError{members[i].id, err}
		}
		credentials = credentials[1:]
	}
	return nil
}

// admission shows that members, ascending by id, were admitted: by those rolls that take
// fewer bytes than the credentials of the members they hold, the fullest first.
func (p *Params) admission(members []member, credentials [][signatureSize]byte) (a admission) {
	var rolls []*Roll
	if p.Rolls != nil {
		keys := make([]ed25519.PublicKey, len(members))
		for i := range members {
			keys[i] = members[i].key[:]
		}
		rolls = p.Rolls(keys)
	}
	holds := make(map[*Roll]int, len(rolls))
	for _, r := range rolls {
		holds[r] = len(r.among(members, nil))
	}
	rolls = slices.SortedStableFunc(slices.Values(rolls), func(x, y *Roll) int { return cmp.Compare(holds[y], holds[x]) })
	admitted := newBitmap(len(members))
	for _, r := range rolls {
		if places := r.among(members, admitted); len(places) > 0 && len(a.rolls) < maxRolls {
			if proof := r.prove(len(members), places); proof.bytes() < len(places)*signatureSize {
				a.rolls = append(a.rolls, proof)
				for i := range admitted {
					admitted[i] |= proof.members[i]
				}
			}
		}
	}
	for i := range members {
		if !admitted.has(i) {
			a.credentials = append(a.credentials, credentials[i])
		}
	}
	return a
}

// among finds members in a roll, but for those in a set, which may be nil for none: pairs
// of the place in the roster and that in the roll, ascending.
func (r *Roll) among(members []member, but bitmap) (places [][2]int) {
	r.prepare()
	for i := range members {
		if but != nil && but.has(i) {
			continue
		}
		if at, ok := slices.BinarySearchFunc(r.ids, members[i].id, compareIDs); ok && r.Keys[at].Equal(ed25519.PublicKey(members[i].key[:])) {
			places = append(places, [2]int{i, at})
		}
	}
	return places
}

// prove shows that the members of a roster at these places stand in the roll.
func (r *Roll) prove(n int, places [][2]int) rollProof {
	p := rollProof{size: len(r.Keys), members: newBitmap(n), places: newBitmap(len(r.Keys))}
	for _, place := range places {
		p.members.set(place[0])
		p.places.set(place[1])
	}
	copy(p.signature[:], r.Signature)
	p.proof = r.tree.proof(p.size, p.places)
	return p
}
