package coordinator

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"github.com/discreet-fl/discreet/coordinator/ca"
	"github.com/discreet-fl/discreet/secagg"
)

const (
	// DefaultPerAddress is how many connections one address may have: two for each of 500
	// kiosks behind it.
	DefaultPerAddress = 1024

	// mostConnections bounds all of them, where the process may open that many files and
	// more.
	mostConnections = 1 << 16

	// Who has shown no certificate is a stranger, with one call to make: Enrol, of a few
	// hundred bytes. Its connection is closed after strangerTime, and when it has sent
	// strangerBytes, TLS included.
	strangerTime  = time.Minute
	strangerBytes = 64 << 10

	// A device needs one connection, and another for a moment. The oldest beyond
	// perDevice is closed: it is most likely one that the device has lost.
	perDevice = 4

	// refusalsTold is the least time between two records of one reason for refusals.
	refusalsTold = time.Minute
)

// Why a connection is refused, or closed. They are label values of a metric.
const (
	refusedAll      = "all"      // there are as many as there may be
	refusedAddress  = "address"  // its address has as many as it may have
	refusedStranger = "stranger" // too many of its address have no certificate
	refusedDevice   = "device"   // its device has newer ones
	refusedUnread   = "unread"   // it does not read what it has asked for

	refusedAllRate     = "all_rate"     // too many come at once
	refusedAddressRate = "address_rate" // too many of its address do
)

// gate bounds the connections of a listener: those of one address, of one device, of
// strangers, and all; and how fast those of one address and all of them come. An address is one of IPv4 or a /64 of IPv6, which is what one
// customer of a provider has; other networks have no addresses.
type gate struct {
	perAddress, all int
	log             *slog.Logger
	refused         *prometheus.CounterVec // by reason
	revoked         func(secagg.ID) bool

	mu        sync.Mutex
	open      int
	coming    *handshakes
	addresses map[netip.Prefix]*visitors
	devices   map[secagg.ID][]*guest // the oldest first
	told      map[string]refusals    // by reason
}

// visitors are the connections of one address. Of those that are in the TLS handshake, the
// oldest are first; they are known for addresses only, not for a network without.
type visitors struct {
	open, strangers int
	shaking         []*guest
}

// refusals are those of one reason since they were last told of.
type refusals struct {
	at    time.Time
	since int
}

func newGate(perAddress, all int, log *slog.Logger, refused *prometheus.CounterVec, revoked func(secagg.ID) bool) *gate {
	return &gate{
		perAddress: perAddress, all: all, log: log, refused: refused, revoked: revoked,
		coming: newHandshakes(perAddress), addresses: make(map[netip.Prefix]*visitors), devices: make(map[secagg.ID][]*guest), told: make(map[string]refusals),
	}
}

// connectionsWithin is the number of connections for a process that may open so many
// files: the database and the pages need some, too.
func connectionsWithin(files uint64) int { return int(min(files-files/4, mostConnections)) }

// networkOf is the address of a peer, zero where its network has none.
func networkOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	from := tcp.AddrPort().Addr().Unmap()
	bits := from.BitLen()
	if from.Is6() {
		bits = 64
	}
	p, err := from.Prefix(bits)
	if err != nil { // an address that is none
		return netip.Prefix{}
	}
	return p
}

// admit takes a new connection in, or closes it and returns nil.
func (g *gate) admit(conn net.Conn) *guest {
	c := &guest{Conn: conn, gate: g, from: networkOf(conn.RemoteAddr())}
	reason, oldest := g.enter(c)
	if reason != "" {
		conn.Close()
		g.refuse(reason, "address", c.from)
		return nil
	}
	if oldest != nil {
		oldest.Close()
		g.refuse(refusedStranger, "address", c.from)
	}
	return c
}

// enter counts a connection, or says why there is no place for it. Where its address is
// full, and more than strangers may have are strangers or have not said yet who they are,
// the oldest of the latter gives way, and is returned: whoever keeps silent keeps nobody
// out. Where fewer are, a crowd of devices comes back, and its handshakes shall end.
func (g *gate) enter(c *guest) (reason string, oldest *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.addresses[c.from]
	full := c.from.IsValid() && v != nil && v.open >= g.perAddress
	switch {
	case g.open >= g.all:
		return refusedAll, nil
	case full && (len(v.shaking) == 0 || v.strangers+len(v.shaking) <= g.mostStrangers()):
		return refusedAddress, nil
	}
	if reason := g.coming.begin(time.Now(), c.from); reason != "" {
		return reason, nil
	}
	if full {
		oldest = v.shaking[0]
		g.forget(oldest)
	}
	if v == nil {
		v = new(visitors)
	}
	g.addresses[c.from] = v // also where oldest was the only one
	g.open++
	v.open++
	if c.from.IsValid() {
		v.shaking = append(v.shaking, c)
	}
	c.expires = time.AfterFunc(strangerTime, c.expire)
	return "", oldest
}

// mostStrangers is how many connections of an address may have no certificate.
func (g *gate) mostStrangers() int { return max(g.perAddress/4, 1) }

// errCrowded ends the handshake of one stranger too many.
var errCrowded = errors.New("too many connections of this address have no certificate")

// meet takes note of who is at the other end of a connection, when its TLS handshake is over.
func (g *gate) meet(c *guest, who ca.Peer) error {
	g.mu.Lock()
	if v := g.addresses[c.from]; v != nil {
		v.met(c)
	}
	g.mu.Unlock()
	switch {
	case who.Role == ca.Operator:
		c.known.Store(true)
	case who.Role == ca.Device && !g.revoked(who.ID):
		c.known.Store(true)
		if oldest := g.seat(c, who.ID); oldest != nil {
			oldest.Close()
			g.refuse(refusedDevice, "device", short(who.ID))
		}
	case !g.suffer(c):
		g.refuse(refusedStranger, "address", c.from)
		return errCrowded
	}
	return nil
}

// met notes that a connection is not in the handshake, or any more.
func (v *visitors) met(c *guest) {
	if i := slices.Index(v.shaking, c); i >= 0 {
		v.shaking = slices.Delete(v.shaking, i, i+1)
	}
}

// seat counts a connection as its device's. Where that has too many, the oldest is counted
// no more, and returned.
func (g *gate) seat(c *guest, id secagg.ID) (oldest *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.closed {
		return nil
	}
	c.device = id
	list := append(g.devices[id], c)
	g.devices[id] = list
	if len(list) > perDevice {
		oldest = list[0]
		g.forget(oldest)
	}
	return oldest
}

// suffer counts a connection as a stranger's if there is room for one more.
func (g *gate) suffer(c *guest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.closed {
		return true
	}
	v := g.addresses[c.from]
	if c.from.IsValid() && v.strangers >= g.mostStrangers() {
		return false
	}
	v.strangers++
	c.stranger = true
	return true
}

// refuse counts a refusal, and tells of it, and of whom, as attributes of a record, unless it
// told of another for that reason a moment ago.
func (g *gate) refuse(reason string, who ...any) {
	g.refused.WithLabelValues(reason).Inc()
	g.mu.Lock()
	r, now := g.told[reason], time.Now()
	r.since++
	count, tell := r.since, r.at.IsZero() || now.Sub(r.at) >= refusalsTold
	if tell {
		r = refusals{at: now}
	}
	g.told[reason] = r
	g.mu.Unlock()
	if tell {
		g.log.With("reason", reason).With(who...).Warn("connections refused", "refused", count)
	}
}

// leave gives the place of a connection free.
func (g *gate) leave(c *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(c)
}

// forget is leave with the mutex held. The connection is closed, or is next.
func (g *gate) forget(c *guest) {
	if c.closed {
		return
	}
	c.closed = true
	g.open--
	v := g.addresses[c.from]
	v.met(c)
	if c.stranger {
		v.strangers--
	}
	if v.open--; v.open == 0 {
		delete(g.addresses, c.from)
	}
	if list, ok := g.devices[c.device]; ok {
		list = slices.DeleteFunc(list, func(other *guest) bool { return other == c })
		if g.devices[c.device] = list; len(list) == 0 {
			delete(g.devices, c.device)
		}
	}
}

// count is the number of connections.
func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// guest is a connection that the gate has let in.
type guest struct {
	net.Conn
	gate    *gate
	from    netip.Prefix
	expires *time.Timer
	known   atomic.Bool  // its certificate was verified
	read    atomic.Int64 // bytes before that

	// Guarded by the gate's mutex.
	stranger, closed bool
	neglected        bool      // it is being closed for replies that it did not read
	device           secagg.ID // zero before it is known, and of an operator
}

// errStranger ends a connection without a certificate that has sent too much.
var errStranger = errors.New("a peer without a certificate has sent more than enrolling takes")

// Read reads from the peer, and from a stranger only so much.
func (c *guest) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.known.Load() && c.read.Add(int64(n)) > strangerBytes {
		return 0, errStranger
	}
	return n, err
}

// Close closes the connection and gives its place free.
func (c *guest) Close() error {
	c.gate.leave(c)
	c.expires.Stop()
	return c.Conn.Close()
}

// expire closes the connection of a stranger.
func (c *guest) expire() {
	if !c.known.Load() {
		c.Close()
	}
}

// neglect closes the connection of a device, or of an operator, that does not read what it has
// asked for. Others are closed before that.
func (c *guest) neglect() {
	c.gate.mu.Lock()
	id, closed := c.device, c.closed || c.neglected
	c.neglected = true // before another reply of it is late, too
	c.gate.mu.Unlock()
	c.Close()
	switch {
	case closed:
	case id == secagg.ID{}:
		c.gate.refuse(refusedUnread, "address", c.from, "role", ca.Operator.String())
	default:
		c.gate.refuse(refusedUnread, "device", short(id))
	}
}

// gatedListener lets connections in by a gate.
type gatedListener struct {
	net.Listener
	gate *gate
}

// Accept returns the next connection that the gate lets in.
func (l gatedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.gate.admit(conn); c != nil {
			return c, nil
		}
	}
}

// gatedTLS tells the gate who has come.
type gatedTLS struct {
	credentials.TransportCredentials
	gate *gate
}

// guestInfo is what a handshake tells of a connection.
type guestInfo struct {
	credentials.TLSInfo
	guest *guest
}

// ServerHandshake makes the TLS handshake of a connection that the gate has let in.
func (t gatedTLS) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	met := guestInfo{info.(credentials.TLSInfo), raw.(*guest)}
	who, _ := ca.Identify(met.State) // nobody with an error, which every call is told
	if err := t.gate.meet(met.guest, who); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, met, nil
}
