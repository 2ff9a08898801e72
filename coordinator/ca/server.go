package ca

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
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
	if a.server.pair == nil {
		a.server = a.readServer()
	}
	if a.server.pair != nil && now.Before(a.server.until) {
		return a.server.pair, nil
	}
	made, err := a.makeServer(now)
	if err != nil {
		if a.server.pair != nil && now.Before(a.server.pair.Leaf.NotAfter) {
			return a.server.pair, nil // a full disk a month before the end stops nobody
		}
		return nil, err
	}
	a.server = made
	return made.pair, nil
}

// readServer reads server.pem. One that does not fit, for whatever reason, is as
// good as none: a new one costs nobody anything.
func (a *Authority) readServer() serverCertificate {
	data, err := os.ReadFile(filepath.Join(a.dir, serverFile))
	if err != nil {
		return serverCertificate{}
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil || pair.Leaf.CheckSignatureFrom(a.cert) != nil {
		return serverCertificate{}
	}
	names := slices.Clone(pair.Leaf.DNSNames)
	for _, ip := range pair.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	if !slices.Equal(names, a.hosts) {
		return serverCertificate{}
	}
	return serverCertificate{&pair, pair.Leaf.NotAfter.Add(-serverRenewal)}
}

// makeServer issues and writes a server certificate under a fresh key.
func (a *Authority) makeServer(now time.Time) (serverCertificate, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return serverCertificate{}, fmt.Errorf("ca: making the server's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organisation}, CommonName: "discreet coordinator"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(serverLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	for _, h := range a.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := a.sign(template, a.cert, public)
	if err != nil {
		return serverCertificate{}, err
	}
	private, err := keyPEM(key)
	if err != nil {
		return serverCertificate{}, err
	}
	if err := writeFile(filepath.Join(a.dir, serverFile), certificatePEM(der), certificatePEM(a.cert.Raw), private); err != nil {
		return serverCertificate{}, err
	}
	made := a.readServer()
	if made.pair == nil {
		return serverCertificate{}, fmt.Errorf("ca: %s cannot be read back as it was written; check the disk of %s", serverFile, a.dir)
	}
	return made, nil
}
