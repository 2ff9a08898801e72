package secagg

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// revoker is the authority of these tests.
var revoker = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func revoked(n int) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func signRevocations(t testing.TB, version uint64, ids ...ID) []byte {
	t.Helper()
	list, err := (&RevocationList{Version: version, Revoked: ids}).Sign(revoker)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// resign signs a body that Sign would not make.
func resign(body []byte) []byte {
	return append(bytes.Clone(body), ed25519.Sign(revoker, slices.Concat([]byte("discreet/revoked/v1"), body))...)
}

func TestRevocationListIsCanonical(t *testing.T) {
	list := signRevocations(t, 5, revoked(3), revoked(1), revoked(3), revoked(2))
	body := []byte("DRL\x01" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x00\x00\x00\x03")
	for n := 1; n <= 3; n++ {
		id := revoked(n)
		body = append(body, id[:]...)
	}
	if want := resign(body); !bytes.Equal(list, want) {
		t.Fatalf("got  %x\nwant %x", list, want)
	}
	l, err := VerifyRevocations(revoker.Public().(ed25519.PublicKey), list)
	if err != nil {
		t.Fatal(err)
	}
	if l.Version != 5 || !slices.Equal(l.Revoked, []ID{revoked(1), revoked(2), revoked(3)}) {
		t.Errorf("read back as %v", l)
	}
	empty, err := VerifyRevocations(revoker.Public().(ed25519.PublicKey), signRevocations(t, 1))
	if err != nil || empty.Has(revoked(0)) {
		t.Errorf("nobody: %v, %v", empty, err)
	}
	if (*RevocationList)(nil).Has(revoked(1)) {
		t.Error("a nil list has somebody")
	}
}

func TestRevocationListHas(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	out := make(map[ID]bool)
	var ids []ID
	for range 500 {
		id := revoked(random.IntN(2000))
		out[id], ids = true, append(ids, id)
	}
	l, err := VerifyRevocations(revoker.Public().(ed25519.PublicKey), signRevocations(t, 1, ids...))
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	for n := range 2000 {
		if id := revoked(n); l.Has(id) != out[id] {
			t.Errorf("seed %d: Has(%v) is %v", seed, id, l.Has(id))
		}
	}
}

func TestRevocationListMissing(t *testing.T) {
	list := func(ids ...ID) *RevocationList { return &RevocationList{Version: 1, Revoked: ids} }
	for name, tc := range map[string]struct {
		earlier, now *RevocationList
		want         []ID
	}{
		"never one":  {nil, nil, nil},
		"the first":  {nil, list(ID{1}), nil},
		"it grew":    {list(ID{1}, ID{3}), list(ID{1}, ID{2}, ID{3}), nil},
		"it did not": {list(ID{1}, ID{2}, ID{3}), list(ID{2}, ID{4}), []ID{{1}, {3}}},
		"it is gone": {list(ID{1}), nil, []ID{{1}}},
	} {
		if got := tc.now.Missing(tc.earlier); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestVerifyRevocationsRefuses(t *testing.T) {
	ca := revoker.Public().(ed25519.PublicKey)
	good := signRevocations(t, 9, revoked(1), revoked(2))
	body := good[:len(good)-ed25519.SignatureSize]
	edit := func(f func(b []byte)) []byte {
		b := bytes.Clone(body)
		f(b)
		return resign(b)
	}
	swapped := edit(func(b []byte) { copy(b[16:], slices.Concat(b[32:48], b[16:32])) })
	twice := edit(func(b []byte) { copy(b[32:], b[16:32]) })
	for name, tc := range map[string]struct {
		ca   ed25519.PublicKey
		list []byte
		want error
	}{
		"nothing":              {ca, nil, ErrMalformed},
		"only a signature":     {ca, good[len(good)-ed25519.SignatureSize:], ErrMalformed},
		"cut":                  {ca, good[:len(good)-1], ErrMalformed},
		"a byte too long":      {ca, append(bytes.Clone(good), 0), ErrMalformed},
		"larger than any":      {ca, make([]byte, 16+64+16*(MaxRevoked+1)), ErrMalformed},
		"another format":       {ca, edit(func(b []byte) { b[3] = 2 }), ErrMalformed},
		"version 0":            {ca, edit(func(b []byte) { b[11] = 0 }), ErrMalformed},
		"count too high":       {ca, edit(func(b []byte) { b[15] = 3 }), ErrMalformed},
		"count that overflows": {ca, edit(func(b []byte) { b[12], b[15] = 0x10, 2 }), ErrMalformed},
		"descending":           {ca, swapped, ErrMalformed},
		"one id twice":         {ca, twice, ErrMalformed},
		"version raised":       {ca, slices.Concat(body[:11], []byte{10}, good[12:]), ErrForged},
		"id swapped out":       {ca, slices.Concat(body[:47], []byte{1}, good[48:]), ErrForged},
		"another authority":    {ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey), good, ErrForged},
		"a credential": {ca, slices.Concat(body, ed25519.Sign(revoker, slices.Concat([]byte(labelCredential), body))),
			ErrForged},
		"a short key": {ca[1:], good, ErrMalformed},
	} {
		if l, err := VerifyRevocations(tc.ca, tc.list); l != nil || !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, %v; want %v", name, l, err, tc.want)
		}
	}
}

func TestSignRevocationsRefuses(t *testing.T) {
	many := make([]ID, MaxRevoked+1)
	for i := range many {
		many[i] = revoked(i)
	}
	for name, tc := range map[string]struct {
		list RevocationList
		ca   ed25519.PrivateKey
	}{
		"version 0": {RevocationList{}, revoker},
		"short key": {RevocationList{Version: 1}, revoker[:32]},
		"too many":  {RevocationList{Version: 1, Revoked: many}, revoker},
	} {
		if _, err := tc.list.Sign(tc.ca); !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v, want ErrParams", name, err)
		}
	}
	full := signRevocations(t, 1, many[:MaxRevoked]...)
	if _, err := VerifyRevocations(revoker.Public().(ed25519.PublicKey), full); err != nil {
		t.Errorf("a full list: %v", err)
	}
	if most := 4<<20 - 1<<10; len(full) > most {
		t.Errorf("a full list has %d bytes; the wire takes %d", len(full), most)
	}
}

// TestRevocationVector is the vector of docs/protocol.md: the authority's seed is 32
// bytes of 7, and Ed25519 signs deterministically.
func TestRevocationVector(t *testing.T) {
	const want = "44524c01" + "0000000000000002" + "00000002" +
		"00000000000000010000000000000000" + "000000000000000a0000000000000000" +
		"cd820ed4264287f62bc98d7db106a0a6aa34fd2ce37ada898323e7cfa46f7396" +
		"ae7b16caa10c0d324b1e37733371fee392ca1bb6f8b8e5d8ba354af686aa1f04"
	if got := hex.EncodeToString(signRevocations(t, 2, revoked(10), revoked(1))); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzRevocations holds that what is accepted encodes again to the same bytes. The
// body is signed here, so that the fuzzer gets behind the signature.
func FuzzRevocations(f *testing.F) {
	for _, ids := range [][]ID{nil, {revoked(1)}, {revoked(1), revoked(2), revoked(900)}} {
		list := signRevocations(f, 3, ids...)
		body := list[:len(list)-ed25519.SignatureSize]
		f.Add(body)
		f.Add(body[:len(body)/2])
		f.Add(append(bytes.Clone(body), 0))
	}
	f.Add([]byte("DRL\x01\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		list := resign(body)
		l, err := VerifyRevocations(revoker.Public().(ed25519.PublicKey), list)
		if err != nil {
			return
		}
		if again := signRevocations(t, l.Version, l.Revoked...); !bytes.Equal(again, list) {
			t.Errorf("%x encodes again to %x", list, again)
		}
		for _, id := range l.Revoked {
			if !l.Has(id) {
				t.Errorf("%x names %v, Has says no", body, id)
			}
		}
	})
}
