package ca

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/discreet-fl/discreet/secagg"
)

// organisation stands in the subject of every certificate.
const organisation = "discreet"

// Role is what a certificate entitles its holder to.
type Role int

const (
	// Anonymous is a peer without a client certificate, who may only enrol.
	Anonymous Role = iota
	// Device is an enrolled device.
	Device
	// Operator may manage tasks, tokens and devices.
	Operator
)

// String returns the role as it stands in a certificate's organisational unit.
func (r Role) String() string { return [...]string{"anonymous", "device", "operator"}[r] }

// Peer is who holds a verified client certificate.
type Peer struct {
	Role Role
	ID   secagg.ID         // zero unless the role is Device
	Key  ed25519.PublicKey // nil for Anonymous
	// Task is the one that a device is bound to, empty for every task. It is not in the
	// certificate: the coordinator knows it.
	Task string
}

// Identify says who is at the other end of a connection whose client certificate,
// if any, TLS has verified against this CA.
func Identify(state tls.ConnectionState) (Peer, error) {
	if len(state.PeerCertificates) == 0 {
		return Peer{}, nil
	}
	if len(state.VerifiedChains) == 0 {
		return Peer{}, errors.New("ca: a client certificate that TLS did not verify")
	}
	return identify(state.PeerCertificates[0])
}

func identify(c *x509.Certificate) (Peer, error) {
	key, ok := c.PublicKey.(ed25519.PublicKey)
	if !ok || len(c.Subject.OrganizationalUnit) != 1 {
		return Peer{}, fmt.Errorf("ca: certificate of %q has no role or no Ed25519 key, want one issued at enrolment", c.Subject.CommonName)
	}
	switch c.Subject.OrganizationalUnit[0] {
	case Operator.String():
		return Peer{Role: Operator, Key: key}, nil
	case Device.String():
		id := secagg.DeviceID(key)
		if c.Subject.CommonName != hex.EncodeToString(id[:]) {
			return Peer{}, fmt.Errorf("ca: certificate names device %q, its key is that of %x", c.Subject.CommonName, id)
		}
		return Peer{Role: Device, ID: id, Key: key}, nil
	}
	return Peer{}, fmt.Errorf("ca: certificate has the role %q, want device or operator", c.Subject.OrganizationalUnit[0])
}

// LoadOperator reads an operator.pem and returns the TLS settings of a connection
// to its coordinator: the operator's certificate, and the CA as the only root. The
// server's name is checked against the address that the caller dials.
func LoadOperator(path string) (*tls.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ca: reading the operator's credential: %w; it stands in the coordinator's data folder as %s", err, operatorFile)
	}
	return parseOperator(data, path)
}

func parseOperator(data []byte, path string) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("ca: %s is not an operator's credential: %w; copy it again from the coordinator's data folder", path, err)
	}
	if len(pair.Certificate) != 2 {
		return nil, fmt.Errorf("ca: %s holds %d certificates, want the operator's and the CA's", path, len(pair.Certificate))
	}
	if peer, err := identify(pair.Leaf); err != nil || peer.Role != Operator {
		return nil, fmt.Errorf("ca: %s is not an operator's certificate; copy %s from the coordinator's data folder", path, operatorFile)
	}
	root, err := x509.ParseCertificate(pair.Certificate[1])
	if err != nil {
		return nil, fmt.Errorf("ca: the CA certificate in %s: %w", path, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	pair.Certificate = pair.Certificate[:1]
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: roots}, nil
}

// SecretSize is the length of an enrolment token's secret in bytes.
const SecretSize = 16

// Token returns the line that a device joins with: the CA's fingerprint, so that
// the device knows its coordinator, and the secret, so that the coordinator admits it.
func (a *Authority) Token(secret [SecretSize]byte) string {
	fingerprint := a.Fingerprint()
	return "discreet1." + base64.RawURLEncoding.EncodeToString(append(fingerprint[:], secret[:]...))
}
