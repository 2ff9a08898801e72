package secagg

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

func testScalar(t testing.TB, seed uint64) group.Scalar {
	t.Helper()
	x, err := randomScalar(stream(seed, "scalar", 0))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestShamir recovers from random sets of exactly the threshold, and holds the
// result to circl's slow Recover.
func TestShamir(t *testing.T) {
	for _, n := range []int{3, 4, 5, 10, 30, 100} {
		threshold := Threshold(n)
		secret := testScalar(t, uint64(n))
		shares, err := deal(secret, threshold, n, stream(uint64(n), "polynomial", 0))
		if err != nil {
			t.Fatal(err)
		}
		places := rand.New(rand.NewPCG(uint64(n), 0)).Perm(n)[:threshold]
		l, err := newLagrange(places)
		if err != nil {
			t.Fatal(err)
		}
		var some []group.Scalar
		var ours []secretsharing.Share
		for _, p := range places {
			some = append(some, shares[p])
			ours = append(ours, secretsharing.Share{ID: scalars.NewScalar().SetUint64(uint64(p + 1)), Value: shares[p]})
		}
		if !l.secret(some).IsEqual(secret) {
			t.Errorf("n=%d: the secret does not come back from places %v", n, places)
		}
		theirs, err := secretsharing.Recover(uint(threshold-1), ours)
		if err != nil || !theirs.IsEqual(secret) {
			t.Errorf("n=%d: circl recovers %v (%v) from our shares", n, theirs, err)
		}
		fewer, err := newLagrange(places[1:])
		if err != nil {
			t.Fatal(err)
		}
		if fewer.secret(some[1:]).IsEqual(secret) {
			t.Errorf("n=%d: the secret comes back from a share too few", n)
		}
		some[0].Add(some[0], scalars.NewScalar().SetUint64(1))
		if l.secret(some).IsEqual(secret) {
			t.Errorf("n=%d: the secret comes back from a wrong share", n)
		}
	}
}

func TestLagrangeRefuses(t *testing.T) {
	for name, places := range map[string][]int{
		"duplicate": {0, 1, 2, 1}, "negative": {0, -1}, "out of range": {0, MaxCohort},
	} {
		if _, err := newLagrange(places); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	if _, err := newLagrange(nil); !errors.Is(err, ErrTooFew) {
		t.Errorf("none: %v, want ErrTooFew", err)
	}
}

func TestScalars(t *testing.T) {
	order := mustHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	if _, err := decodeScalar(order); !errors.Is(err, ErrMalformed) {
		t.Errorf("the order itself: %v, want ErrMalformed", err)
	}
	order[0]--
	x, err := decodeScalar(order)
	if err != nil {
		t.Fatalf("the largest scalar: %v", err)
	}
	if e := encodeScalar(x); !bytes.Equal(e[:], order) {
		t.Errorf("the largest scalar encodes to %x", e)
	}
	if !x.Add(x, scalars.NewScalar().SetUint64(1)).IsZero() {
		t.Error("the largest scalar and one are not zero")
	}
	if _, err := randomScalar(broken(0xff)); err == nil {
		t.Error("a source that gives only ones was taken")
	}
	if _, err := randomScalar(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("a source that ends was taken")
	}
}

// broken is a source of one byte for ever.
type broken byte

func (b broken) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func BenchmarkRecover(b *testing.B) {
	for _, n := range []int{10, 36, 60, 100} {
		threshold := Threshold(n)
		shares, err := deal(testScalar(b, 1), threshold, n, stream(1, "polynomial", 0))
		if err != nil {
			b.Fatal(err)
		}
		places := rand.New(rand.NewPCG(1, 0)).Perm(n)[:threshold]
		some := make([]group.Scalar, threshold)
		for i, p := range places {
			some[i] = shares[p]
		}
		b.Run(fmt.Sprintf("coefficients/shares=%d", threshold), func(b *testing.B) {
			for b.Loop() {
				newLagrange(places)
			}
		})
		l, _ := newLagrange(places)
		b.Run(fmt.Sprintf("secret/shares=%d", threshold), func(b *testing.B) {
			for b.Loop() {
				l.secret(some)
			}
		})
	}
}
