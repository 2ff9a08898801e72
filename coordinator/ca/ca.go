// Package ca is the certificate authority of one federation: it keeps the key
// that enrolment rests on, certifies devices, and says who a peer is.
//
// Begin with [Open], which makes what is missing in a data folder, and
// [Authority.Issue], which admits a device. [Authority.ServerTLS] is what the
// coordinator listens with, [Identify] reads a verified client certificate, and
// [LoadOperator] is the operator's side of the connection.
//
// The data folder holds ca-key.pem (the CA's private key; whoever has it can admit
// devices), ca.pem, server.pem (certificate and key) and operator.pem (certificate,
// key and the CA's certificate: all that an operator's command needs).
package ca

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

const (
	keyFile      = "ca-key.pem"
	certFile     = "ca.pem"
	serverFile   = "server.pem"
	operatorFile = "operator.pem"

	// authorityYears is how long the CA's certificate holds, and with it every
	// device's and operator's, because neither is ever renewed.
	authorityYears = 20
	// Clocks of devices may be behind ours by this much.
	clockSkew = 24 * time.Hour
)

// Authority is an opened certificate authority. It is safe for concurrent use.
type Authority struct {
	dir   string
	key   ed25519.PrivateKey
	cert  *x509.Certificate
	hosts []string // names and addresses of the server certificate, sorted

	mu     sync.Mutex // guards server
	server serverCertificate
}

// Open reads the authority in dir and makes what is missing: the CA at the first
// start, the operator's credential, and a server certificate for hosts (DNS names
// and IP addresses) besides localhost, 127.0.0.1 and ::1. A server certificate for
// other hosts, or one near its end, is replaced.
func Open(dir string, hosts []string, now time.Time) (*Authority, error) {
	a := &Authority{dir: dir}
	var err error
	if a.hosts, err = hostNames(hosts); err != nil {
		return nil, err
	}
	if err := a.openRoot(now); err != nil {
		return nil, err
	}
	if now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("ca: %s ended on %s; the devices have to enrol anew with a new CA: start with an empty data folder",
			certFile, a.cert.NotAfter.Format(time.DateOnly))
	}
	if err := a.openOperator(now); err != nil {
		return nil, err
	}
	if _, err := a.serverCertificate(now); err != nil {
		return nil, err
	}
	return a, nil
}

// openRoot reads the CA's key and certificate or makes them.
func (a *Authority) openRoot(now time.Time) error {
	key, keyErr := readKey(filepath.Join(a.dir, keyFile))
	cert, certErr := readCertificate(filepath.Join(a.dir, certFile))
	noKey, noCert := errors.Is(keyErr, fs.ErrNotExist), errors.Is(certErr, fs.ErrNotExist)
	switch {
	case noKey && certErr == nil:
		return fmt.Errorf("ca: %s stands in %s without its key; put %s back beside it", certFile, a.dir, keyFile)
	case keyErr != nil && !noKey:
		return keyErr
	case certErr != nil && !noCert:
		return certErr
	case noKey:
		var err error
		if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return fmt.Errorf("ca: making the CA key: %w", err)
		}
		if err := writeKey(filepath.Join(a.dir, keyFile), key); err != nil {
			return err
		}
	}
	a.key = key
	if noCert { // also where a crash came between the two files: nothing was issued yet
		return a.makeRoot(now)
	}
	if !cert.IsCA || !a.public().Equal(cert.PublicKey) {
		return fmt.Errorf("ca: %s is not the certificate of the key in %s; put the matching pair back", certFile, keyFile)
	}
	a.cert = cert
	return nil
}

// makeRoot signs the CA's own certificate and writes it.
func (a *Authority) makeRoot(now time.Time) error {
	id := sha256.Sum256(a.public())
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organisation}, CommonName: "discreet CA " + hex.EncodeToString(id[:4])},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := a.sign(template, template, a.public())
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("ca: reading the new CA certificate: %w", err)
	}
	return writeFile(filepath.Join(a.dir, certFile), certificatePEM(der))
}

// sign issues a certificate for public from a template, with a random serial.
func (a *Authority) sign(template, parent *x509.Certificate, public ed25519.PublicKey) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, fmt.Errorf("ca: drawing a serial number: %w", err)
	}
	serial[0] &= 0x7f
	template.SerialNumber = new(big.Int).SetBytes(serial)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("ca: signing a certificate: %w", err)
	}
	return der, nil
}

func (a *Authority) public() ed25519.PublicKey { return a.key.Public().(ed25519.PublicKey) }

// PublicKey returns the CA's Ed25519 key, under which devices check each other's
// credentials.
func (a *Authority) PublicKey() ed25519.PublicKey { return a.public() }

// Certificate returns the CA's X.509 certificate in DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// Fingerprint returns the SHA-256 of the CA's certificate in DER, which enrolment
// tokens carry.
func (a *Authority) Fingerprint() [32]byte { return sha256.Sum256(a.cert.Raw) }

// OperatorPath returns the file with the operator's credential.
func (a *Authority) OperatorPath() string { return filepath.Join(a.dir, operatorFile) }

// Issue certifies a device's Ed25519 key: an X.509 client certificate in DER for
// TLS, and the credential that other devices check in a roster.
func (a *Authority) Issue(device ed25519.PublicKey, now time.Time) (certificate, credential []byte, err error) {
	if len(device) != ed25519.PublicKeySize {
		return nil, nil, fmt.Errorf("ca: a device key of %d bytes, want %d", len(device), ed25519.PublicKeySize)
	}
	id := secagg.DeviceID(device)
	certificate, err = a.sign(clientTemplate(Device, hex.EncodeToString(id[:]), now, a.cert.NotAfter), a.cert, device)
	if err != nil {
		return nil, nil, err
	}
	return certificate, secagg.Certify(a.key, device), nil
}

// openOperator makes operator.pem where it is missing and checks that an existing
// one belongs to this CA.
func (a *Authority) openOperator(now time.Time) error {
	old, err := os.ReadFile(a.OperatorPath())
	if err == nil {
		if _, err := parseOperator(old, a.OperatorPath()); err != nil {
			return err
		}
		if c, err := readCertificate(a.OperatorPath()); err != nil || c.CheckSignatureFrom(a.cert) != nil {
			return fmt.Errorf("ca: %s was issued by another CA; move it away, and a new one is made at the next start", a.OperatorPath())
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ca: reading the operator's credential: %w", err)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("ca: making the operator's key: %w", err)
	}
	der, err := a.sign(clientTemplate(Operator, "operator", now, a.cert.NotAfter), a.cert, public)
	if err != nil {
		return err
	}
	private, err := keyPEM(key)
	if err != nil {
		return err
	}
	return writeFile(a.OperatorPath(), certificatePEM(der), private, certificatePEM(a.cert.Raw))
}

// clientTemplate is a certificate for TLS clients of the given role and name.
func clientTemplate(role Role, name string, now, end time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{
			Organization:       []string{organisation},
			OrganizationalUnit: []string{role.String()},
			CommonName:         name,
		},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}
