package secagg

import (
	"fmt"
	"math/bits"
	"slices"
)

// Every message begins with its kind and the format's version, and has exactly one
// length that follows from the step it belongs to.

const formatVersion = 4

type kind byte

const (
	kindCommitted kind = iota + 1
	kindAdvert
	kindRoster
	kindShares
	kindInbox
	kindComplaint
	kindSurvivors
	kindConfirm
	kindQuorum
	kindReveal
)

const headerSize = 2

func (k kind) String() string {
	return [...]string{"", "committed", "advert", "roster", "shares", "inbox", "complaint", "survivors", "confirm", "quorum", "reveal"}[k]
}

// message begins a message of the kind whose body has size bytes.
func message(k kind, size int) []byte { return appendMessage(nil, k, size) }

// appendMessage begins one behind b.
func appendMessage(b []byte, k kind, size int) []byte {
	return append(slices.Grow(b, headerSize+size), byte(k), formatVersion)
}

// checkHeader tells whether msg is of the kind and version; the length is left to
// the caller.
func checkHeader(k kind, msg []byte) error {
	if len(msg) < headerSize {
		return fmt.Errorf("%w: %v of %d bytes, want a header of %d", ErrMalformed, k, len(msg), headerSize)
	}
	if msg[0] != byte(k) || msg[1] != formatVersion {
		return fmt.Errorf("%w: kind %d version %d, want %v (kind %d) version %d", ErrMalformed, msg[0], msg[1], k, byte(k), formatVersion)
	}
	return nil
}

// body is what follows the header in a message whose body has exactly size bytes.
func body(k kind, msg []byte, size int) ([]byte, error) {
	if err := checkHeader(k, msg); err != nil {
		return nil, err
	}
	if len(msg) != headerSize+size {
		return nil, fmt.Errorf("%w: %v of %d bytes, want %d", ErrMalformed, k, len(msg), headerSize+size)
	}
	return msg[headerSize:], nil
}

// fields cuts fixed-size fields off a body whose length was checked.
type fields []byte

func (f *fields) next(n int) []byte {
	head := (*f)[:n:n]
	*f = (*f)[n:]
	return head
}

func (f *fields) digest() digest { return digest(f.next(len(digest{}))) }

// atLeast tells whether a body whose length depends on its beginning has that
// beginning.
func (f fields) atLeast(k kind, n int) error {
	if len(f) < n {
		return fmt.Errorf("%w: %v of %d bytes behind its header, want at least %d", ErrMalformed, k, len(f), n)
	}
	return nil
}

// exactly tells whether what is left of a body has n bytes.
func (f fields) exactly(k kind, n int) error {
	if len(f) != n {
		return fmt.Errorf("%w: %v goes on for %d bytes, want %d", ErrMalformed, k, len(f), n)
	}
	return nil
}

// bitmap has a bit for every place of a list, place 0 in the lowest bit of the first
// byte.
type bitmap []byte

func bitmapSize(n int) int { return (n + 7) / 8 }

func newBitmap(n int) bitmap { return make(bitmap, bitmapSize(n)) }

// decodeBitmap checks length and that the bits past n are zero.
func decodeBitmap(b []byte, n int) (bitmap, error) {
	if len(b) != bitmapSize(n) {
		return nil, fmt.Errorf("%w: bitmap of %d bytes for %d places, want %d", ErrMalformed, len(b), n, bitmapSize(n))
	}
	if n%8 != 0 && b[len(b)-1]>>(n%8) != 0 {
		return nil, fmt.Errorf("%w: bitmap has bits past its %d places", ErrMalformed, n)
	}
	return append(bitmap(nil), b...), nil
}

func (b bitmap) has(i int) bool { return b[i/8]>>(i%8)&1 == 1 }

func (b bitmap) set(i int) { b[i/8] |= 1 << (i % 8) }

func (b bitmap) count() int {
	n := 0
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}

// places lists the set places in order.
func (b bitmap) places() []int {
	var p []int
	for i := range 8 * len(b) {
		if b.has(i) {
			p = append(p, i)
		}
	}
	return p
}
