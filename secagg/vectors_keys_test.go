package secagg

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/kem/xwing"

	"github.com/discreet-fl/discreet/aggregation"
)

func mustScalar(t *testing.T, what string) group.Scalar {
	t.Helper()
	x, err := randomScalar(stream(9, what, 0))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func shamirVectors(t *testing.T) (list []shamirVector) {
	for _, size := range [][2]int{{1, 3}, {2, 3}, {4, 5}, {5, 12}} {
		secret := mustScalar(t, "shamir")
		r := &recorder{from: stream(9, "coefficients", size[1])}
		shares, err := deal(secret, size[0], size[1], r)
		if err != nil {
			t.Fatal(err)
		}
		enc := encodeScalar(secret)
		v := shamirVector{Secret: enc[:], Threshold: size[0], Random: r.taken}
		again := stream(9, "coefficients", size[1])
		for range size[0] - 1 {
			c, err := randomScalar(again)
			if err != nil {
				t.Fatal(err)
			}
			enc := encodeScalar(c)
			v.Coefficients = append(v.Coefficients, enc[:])
		}
		for _, s := range shares {
			enc := encodeScalar(s)
			v.Shares = append(v.Shares, enc[:])
		}
		list = append(list, v)
	}
	return list
}

func lagrangeVectors(t *testing.T) (list []lagrangeVector) {
	for _, places := range [][]int{{0}, {0, 1}, {0, 2, 3, 7}, {9, 1, 4}, {0, 1999}} {
		coefficients, err := newLagrange(places)
		if err != nil {
			t.Fatal(err)
		}
		v := lagrangeVector{Places: places}
		for _, c := range coefficients {
			enc := encodeScalar(c)
			v.Coefficients = append(v.Coefficients, enc[:])
		}
		list = append(list, v)
	}
	return list
}

// vectorSession is as much of a session as commitments and seeds take: two members.
func vectorSession(keys KeyExchange) *session {
	s := &session{params: Params{Keys: keys}, ctx1: filled("ctx1"), members: make([]member, 2), maskHashes: make([]digest, 2)}
	for i := range s.members {
		id := filled(fmt.Sprintf("id %d", i))
		s.members[i].id = ID(id[:16])
	}
	return s
}

func maskKeyVectors(t *testing.T) (list []maskKeyVector) {
	for _, keys := range []KeyExchange{Classical, Hybrid} {
		s := vectorSession(keys)
		ctx0, sigma := filled("ctx0"), mustScalar(t, "sigma")
		from, to := newMaskKey(keys, &ctx0, sigma), newMaskKey(keys, &ctx0, mustScalar(t, "other sigma"))
		enc := encodeScalar(sigma)
		shared, ciphertext, err := from.encapsulate(s.members[1].id, to.public)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := to.decapsulate(from.public, ciphertext); err != nil || back != shared {
			t.Fatalf("%v: the other end has %x, %v, want %x", keys, back, err, shared)
		}
		s.maskHashes[0], s.maskHashes[1] = hash(labelMaskPublic, from.public), hash(labelMaskPublic, to.public)
		h := ciphertextHash(ciphertext)
		pair := s.pairSeed(0, 1, &h, &shared)
		v := maskKeyVector{
			Keys: keys.String(), Context: ctx0[:], Sigma: enc[:], Seed: slices.Clone(from.seed[:]), Secret: expand(&from.seed, []byte(labelMaskKey), 32),
			Public: from.public, To: slices.Clone(s.members[1].id[:]), ToPublic: to.public, Ciphertext: ciphertext, Shared: shared[:], Pair: pair[:],
		}
		if keys == Hybrid {
			public := hash(labelMaskPublic, to.public)
			v.Coins = expand(&from.seed, transcript(labelCoins, s.members[1].id[:], public[:]), xwing.EncapsulationSeedSize)
		}
		list = append(list, v)
	}
	return list
}

func sealVectors(t *testing.T) (list []sealVector) {
	for _, keys := range []KeyExchange{Classical, Hybrid} {
		channel, err := newChannelKey(keys, stream(9, "channel", 0))
		if err != nil {
			t.Fatal(err)
		}
		r := &recorder{from: stream(9, "ephemeral", 0)}
		aad, plain := transcript(labelSealed, []byte("no real fields")), make([]byte, sharePair)
		for i := range plain {
			plain[i] = byte(i)
		}
		sealed, err := keys.seal(channel.public, aad, plain, r)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sealVector{keys.String(), channel.secret, channel.public, r.taken, aad, plain, sealed})
	}
	return list
}

func newCommitmentVectors() (v commitmentVectors) {
	s := vectorSession(Hybrid)
	b := scalars.NewScalar().SetUint64(0x0102030405060708)
	enc := encodeScalar(b)
	pair, share, ciphertext := filled("pair"), filled("share"), []byte("no real ciphertext")
	commitB, self, cipherHash := commitB(&s.ctx1, b), selfSeed(&s.ctx1, b), ciphertextHash(ciphertext)
	ofB, ofSigma := s.commitShare(0, 1, shareOfB, &share), s.commitShare(0, 1, shareOfSigma, &share)
	commitPair := s.commitPair(0, 1, &pair)
	return commitmentVectors{
		Context: s.ctx1[:], IDs: []hexed{s.members[0].id[:], s.members[1].id[:]}, B: enc[:], CommitB: commitB[:], SelfSeed: self[:],
		Share: share[:], CommitOfB: ofB[:], CommitOfS: ofSigma[:], Pair: pair[:], CommitPair: commitPair[:],
		Ciphertext: ciphertext, CipherHash: cipherHash[:],
	}
}

func maskVectors() (list []maskVector) {
	key := filled("mask")
	for _, bits := range []int{1, 8, 16, 17, 20, 23, 24, 26, 29, 31, 32} {
		l := layoutOf(bits)
		// The first elements, the last of the first group with those made of upper bits and
		// on into the next, a tile's end, and the end of the longest vector.
		for _, first := range []int{0, l.elements - rowWords - 2, l.elements - 3, 1 << 20, maxLength - 8} {
			m := &maskSet{bits: bits}
			m.add(&key, false)
			words := make([]uint32, 8)
			m.apply(words, first)
			list = append(list, maskVector{key[:], bits, first, hexWords(inRing(words, bits))})
		}
	}
	return list
}

func packingVectors(t *testing.T) (list []packingVector) {
	words := []uint32{1, 0xffffffff, 0, 0x12345678, 0x89abcdef}
	for _, bits := range []int{1, 7, 8, 13, 20, 32} {
		packed := make([]byte, aggregation.PackedSize(len(words), bits))
		if err := aggregation.Pack(packed, words, bits); err != nil {
			t.Fatal(err)
		}
		list = append(list, packingVector{bits, hexWords(words), packed})
	}
	return list
}
