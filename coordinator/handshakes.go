package coordinator

import (
	"maps"
	"net/netip"
	"time"
)

// A TLS handshake takes half a millisecond of the processor, for whoever asks. All of them
// together may take half of one; an address may begin as many at once as it may have
// connections, so that the devices behind it come back together, and has as many again after
// addressRefill: of the default number that is 64 a second, a sixteenth of all.
const (
	allHandshakes    = 8192
	allRefill        = 8 * time.Second
	addressRefill    = 16 * time.Second
	fewestHandshakes = 64 // at once, of an address with few connections
)

// bucket is a token bucket: so many at once, and one more in each interval.
type bucket struct {
	size     int
	interval time.Duration
}

func newBucket(size int, refill time.Duration) bucket {
	return bucket{size, refill / time.Duration(size)}
}

// take takes one token at a time. full is when all of them are there again; where there is
// none, ok is false and full stays.
func (b bucket) take(full, now time.Time) (_ time.Time, ok bool) {
	next := full
	if next.Before(now) {
		next = now
	}
	if next = next.Add(b.interval); next.Sub(now) > time.Duration(b.size)*b.interval {
		return full, false
	}
	return next, true
}

// handshakes bounds how fast connections come to their handshakes. The gate's mutex guards it.
type handshakes struct {
	all, address bucket
	allFull      time.Time
	full         map[netip.Prefix]time.Time // of addresses that have taken some
	sweep        int                        // at how many of them those that are full again go
}

func newHandshakes(perAddress int) *handshakes {
	return &handshakes{
		all: newBucket(allHandshakes, allRefill), address: newBucket(max(perAddress, fewestHandshakes), addressRefill),
		full: make(map[netip.Prefix]time.Time), sweep: fewestSwept,
	}
}

const fewestSwept = 1024

// begin counts the handshake of a connection that is let in, or says why it may not begin.
func (h *handshakes) begin(now time.Time, from netip.Prefix) (reason string) {
	all, ok := h.all.take(h.allFull, now)
	if !ok {
		return refusedAllRate
	}
	if from.IsValid() {
		full, ok := h.address.take(h.full[from], now)
		if !ok {
			return refusedAddressRate
		}
		if len(h.full) >= h.sweep {
			maps.DeleteFunc(h.full, func(_ netip.Prefix, full time.Time) bool { return !full.After(now) })
			h.sweep = max(2*len(h.full), fewestSwept)
		}
		h.full[from] = full
	}
	h.allFull = all
	return ""
}
