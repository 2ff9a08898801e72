package ca

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// A server certificate holds a year and is replaced a month before its end.
	serverLife    = 365 * 24 * time.Hour
	serverRenewal = 30 * 24 * time.Hour
)

// serverCertificate is what the coordinator presents, chain included.
type serverCertificate struct {
	pair  *tls.Certificate
	until time.Time // when it is to be replaced

	seen   fs.FileInfo // the file it was read from, where the CA's key is kept elsewhere
	warned time.Time   // when its end was last warned of
}

// hostNames adds the loopback names to hosts and sorts them.
func hostNames(hosts []string) ([]string, error) {
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			h = ip.String()
		} else if h == "" || len(h) > 253 || strings.ContainsAny(h, ":/ \t") {
			return nil, fmt.Errorf("ca: host %q, want a DNS name or an IP address without a port", h)
		}
		names = append(names, h)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ServerTLS returns what the coordinator listens with: TLS 1.3, a chain that ends
// in the CA's certificate so that a joining device can compare the fingerprint, and
// client certificates that are verified where given. A long-running coordinator
// renews its certificate by itself.
func (a *Authority) ServerTLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  roots,
		NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.serverCertificate(time.Now())
		},
	}
}

// serverCertificate returns the current certificate, made anew where it has to be.
func (a *Authority) serverCertificate(now time.Time) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.Offline() {
		return a.suppliedServer(now)
	}
	if a.server.pair == nil {
		if pair, err := a.readServer(); err == nil && slices.Equal(namesOf(pair), a.hosts) {
			a.server = serverCertificate{pair: pair, until: pair.Leaf.NotAfter.Add(-serverRenewal)}
		} // one that does not fit, for whatever reason, is as good as none: a new one costs nobody anything
	}
	if a.server.pair != nil && now.Before(a.server.until) {
		return a.server.pair, nil
	}
	made, err := a.renewServer(now)
	if err != nil {
		if a.server.pair != nil && now.Before(a.server.pair.Leaf.NotAfter) {
			return a.server.pair, nil // a full disk a month before the end stops nobody
		}
		return nil, err
	}
	a.server = made
	return made.pair, nil
}

// suppliedServer returns the certificate that was made where the CA's key is kept. The
// file is read again when it changed, and its end is warned of once a day.
func (a *Authority) suppliedServer(now time.Time) (*tls.Certificate, error) {
	path := filepath.Join(a.dir, serverFile)
	info, err := os.Stat(path) // nil with an error
	if err != nil || !unchanged(a.server.seen, info) {
		looked := a.server.seen != nil || err == nil // a file that stays away is told of once
		if err == nil {
			err = a.takeServer(now)
		}
		a.server.seen = info
		if err != nil && a.server.pair == nil {
			return nil, err
		}
		if err != nil && looked {
			a.log.Warn("the server's certificate was changed and is refused; the one before stays in use", "file", path, "error", err)
		}
	}
	if end := a.server.pair.Leaf.NotAfter; now.After(end.Add(-serverRenewal)) && now.Sub(a.server.warned) >= 24*time.Hour {
		a.server.warned = now
		a.log.Warn("the server's certificate comes to its end, after which no device can connect", "file", path, "end", end.Format(time.DateOnly),
			"do", "run `discreet ca issue coordinator` on the CA's machine and copy its "+serverFile+" here; it is taken up without a restart")
	}
	return a.server.pair, nil
}

// takeServer reads a supplied certificate and tells whether it serves.
func (a *Authority) takeServer(now time.Time) error {
	pair, err := a.readServer()
	if err != nil {
		return err
	}
	names := namesOf(pair)
	for _, host := range a.hosts {
		if !slices.Contains(names, host) {
			return fmt.Errorf("ca: %s is for %s, not for %s; on the CA's machine run `discreet ca issue coordinator` with every --host, and copy its %s here",
				serverFile, strings.Join(names, ", "), host, serverFile)
		}
	}
	if now.After(pair.Leaf.NotAfter) {
		return fmt.Errorf("ca: %s ended on %s; on the CA's machine run `discreet ca issue coordinator`, and copy its %s here",
			serverFile, pair.Leaf.NotAfter.Format(time.DateOnly), serverFile)
	}
	a.server = serverCertificate{pair: pair}
	return nil
}

// readServer reads server.pem, which has to be of this CA.
func (a *Authority) readServer() (*tls.Certificate, error) {
	path := filepath.Join(a.dir, serverFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("ca: %s is not a certificate with its key: %w", path, err)
	}
	if err := pair.Leaf.CheckSignatureFrom(a.cert); err != nil {
		return nil, fmt.Errorf("ca: %s was issued by another CA than %s: %w", path, certFile, err)
	}
	return &pair, nil
}

// namesOf returns the hosts that a certificate is for, sorted.
func namesOf(pair *tls.Certificate) []string {
	names := slices.Clone(pair.Leaf.DNSNames)
	for _, ip := range pair.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	return names
}

// renewServer issues and writes a server certificate under a fresh key.
func (a *Authority) renewServer(now time.Time) (serverCertificate, error) {
	parts, err := a.makeServer(a.hosts, now)
	if err != nil {
		return serverCertificate{}, err
	}
	if err := writeFile(filepath.Join(a.dir, serverFile), parts...); err != nil {
		return serverCertificate{}, err
	}
	pair, err := a.readServer()
	if err != nil {
		return serverCertificate{}, fmt.Errorf("ca: %s cannot be read back as it was written; check the disk of %s: %w", serverFile, a.dir, err)
	}
	return serverCertificate{pair: pair, until: pair.Leaf.NotAfter.Add(-serverRenewal)}, nil
}

// makeServer issues a certificate for hosts under a fresh key and returns the parts of
// its file: certificate, CA certificate and key.
func (r *root) makeServer(hosts []string, now time.Time) ([][]byte, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("ca: making the server's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organisation}, CommonName: "discreet coordinator"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(serverLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(r.cert.NotAfter) {
		template.NotAfter = r.cert.NotAfter
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := r.sign(template, r.cert, public)
	if err != nil {
		return nil, err
	}
	private, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	return [][]byte{certificatePEM(der), certificatePEM(r.cert.Raw), private}, nil
}
