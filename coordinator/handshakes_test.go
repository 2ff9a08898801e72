package coordinator

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/discreet-fl/discreet/coordinator/ca"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// TestHandshakesOfOneAddressAreBounded: whoever connects again and again is closed before TLS,
// and no other address has less by it.
func TestHandshakesOfOneAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{PerAddress: 8}) // 64 at once, four a second
		d := w.join(t)
		const busy, metric = "203.0.113.7", `discreet_connections_refused_total{reason="address_rate"}`
		for range fewestHandshakes {
			shake(t, w.call(t, busy), w.trust()).Close()
			synctest.Wait()
		}
		if got := w.metric(t, metric); got != "0" {
			t.Errorf("%s of %d refused, want none", got, fewestHandshakes)
		}
		refused := w.call(t, busy)
		go refused.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
		if took := lasts(refused, time.Second); took > 0 {
			t.Errorf("one more stood for %v", took)
		}
		w.call(t, busy)
		if got := w.metric(t, metric); got != "2" || w.log.count("connections refused") != 1 ||
			!strings.Contains(w.log.String(), "reason=address_rate address=203.0.113.7/32 refused=1") {
			t.Errorf("%s refusals counted, want 2, and one record of them in a minute", got)
		}
		other := rpc.NewRoundServiceClient(w.dialFrom(t, "203.0.113.8", d.config))
		if _, err := other.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil {
			t.Errorf("a device of another address: %v", err)
		}
		<-time.After(time.Second)
		for range 4 {
			shake(t, w.call(t, busy), d.config).Close()
			synctest.Wait()
		}
		if took := lasts(w.call(t, busy), time.Second); took > 0 {
			t.Errorf("a fifth in a second stood for %v", took)
		}
		if got := w.metric(t, metric); got != "3" {
			t.Errorf("%s refusals counted, want 3", got)
		}
	})
}

// silentFrom is a connection from an address that has nothing to say.
type silentFrom struct {
	net.Conn
	addr net.Addr
}

func (c silentFrom) RemoteAddr() net.Addr { return c.addr }
func (silentFrom) Close() error           { return nil }

func gateOf(perAddress, all int) *gate {
	revoked := func(secagg.ID) bool { return false }
	return newGate(perAddress, all, slog.New(slog.DiscardHandler), newMetrics(new(Coordinator)).refused, revoked)
}

func (g *gate) admitFrom(from string) *guest {
	return g.admit(silentFrom{addr: &net.TCPAddr{IP: net.ParseIP(from)}})
}

// TestShopComesBack has all devices of an address come at once, lose their connections at once,
// and come again: 500 twice without waiting, and once more within seconds.
func TestShopComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateOf(DefaultPerAddress, mostConnections)
		for wave, most := range []time.Duration{0, 0, 8 * time.Second} {
			start, in := time.Now(), make([]*guest, 500)
			for missing := true; missing; {
				missing = false
				for i := range in {
					if in[i] != nil {
						continue
					}
					if in[i] = g.admitFrom("203.0.113.7"); in[i] == nil {
						missing = true
						continue
					}
					if err := g.meet(in[i], ca.Peer{Role: ca.Device, ID: secagg.ID{byte(i), byte(i >> 8)}}); err != nil {
						t.Fatal(err)
					}
				}
				if missing {
					<-time.After(time.Second)
				}
			}
			if took := time.Since(start); took > most {
				t.Errorf("wave %d: all are in after %v, want %v at most", wave, took, most)
			}
			for _, c := range in {
				c.Close()
			}
		}
	})
}

// TestHandshakesUnderAttack has an address connect 5,000 times a second: it comes to no more
// handshakes than it may, while a device of each of a thousand other addresses gets in, and
// where the attacker has many addresses they come to no more together than all may.
func TestHandshakesUnderAttack(t *testing.T) {
	const perSecond, seconds = 5000, 20
	for name, tc := range map[string]struct {
		attackers, most int
		others          bool
	}{
		"one address":                {1, DefaultPerAddress + seconds*DefaultPerAddress/16, true},
		"addresses that are all new": {perSecond * seconds, allHandshakes + seconds*1024, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := gateOf(DefaultPerAddress, mostConnections)
				begun := 0
				for i := range perSecond * seconds {
					if c := g.admitFrom(fmt.Sprintf("2001:db8:%x:%x::1", i%tc.attackers>>16, i%tc.attackers&0xffff)); c != nil {
						begun++
						c.Close()
					}
					if i%100 == 0 && tc.others {
						c := g.admitFrom(fmt.Sprintf("203.0.%d.%d", i/100>>8, i/100&0xff))
						if c == nil {
							t.Fatalf("device %d of another address was kept out", i/100)
						}
						c.Close()
					}
					<-time.After(time.Second / perSecond)
				}
				if begun > tc.most || begun < tc.most*9/10 {
					t.Errorf("%d of %d came to a handshake, want %d", begun, perSecond*seconds, tc.most)
				}
				if n := len(g.coming.full); n > 2*fewestSwept {
					t.Errorf("%d addresses are remembered, most of which have all of theirs again", n)
				}
			})
		})
	}
}

// TestShareOfHandshakesUnderAttack has an attacker of many addresses connect many times a second:
// of those of all others as large a part gets in as of its own, and all while it is no more than
// all may.
func TestShareOfHandshakesUnderAttack(t *testing.T) {
	const seed, others = 1, 50 // connections a second, each of an address that is new
	t.Logf("seed %d", seed)
	for _, tc := range []struct {
		addresses, each int // connections a second
		least, most     float64
	}{
		{16, 60, 1, 1},
		{16, 640, 0.08, 0.12},
		{160, 64, 0.08, 0.12},
		{100_000, 1, 0.005, 0.02},
	} {
		h, random := newHandshakes(DefaultPerAddress), rand.New(rand.NewPCG(seed, 0))
		all := tc.addresses*tc.each + others
		var tried, in int
		for at := time.Duration(0); at < 2*time.Minute; at += time.Duration(random.ExpFloat64() * float64(time.Second) / float64(all)) {
			now := time.Unix(0, 0).Add(at)
			if random.IntN(all) >= others {
				i := random.IntN(tc.addresses)
				h.begin(now, networkOf(&net.TCPAddr{IP: net.IP{0x20, 1, 0xd, 0xb8, 0, byte(i >> 16), byte(i >> 8), byte(i), 15: 1}}))
				continue
			}
			if at < time.Minute { // what all may begin at once is used up by then
				continue
			}
			tried++
			if h.begin(now, networkOf(&net.TCPAddr{IP: net.IP{203, 0, byte(tried >> 8), byte(tried)}})) == "" {
				in++
			}
		}
		if share := float64(in) / float64(tried); share < tc.least || share > tc.most {
			t.Errorf("%d addresses, each %d times a second: %d of %d others got in, want %v to %v of them", tc.addresses, tc.each, in, tried, tc.least, tc.most)
		}
	}
}

// TestHandshakesWithoutAddress: a network without addresses is bounded in all alone.
func TestHandshakesWithoutAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandshakes(DefaultPerAddress)
		begin := func() string { return h.begin(time.Now(), netip.Prefix{}) }
		for range allHandshakes {
			if reason := begin(); reason != "" {
				t.Fatal(reason)
			}
		}
		if reason := begin(); reason != refusedAllRate {
			t.Errorf("one too many: %q, want %q", reason, refusedAllRate)
		}
		<-time.After(allRefill / allHandshakes)
		if a, b := begin(), begin(); a != "" || b != refusedAllRate {
			t.Errorf("a millisecond later: %q and %q, want one to begin", a, b)
		}
	})
}
