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
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

const (
	// authorityYears is how long the CA's certificate holds, and with it every
	// device's and operator's, because neither is ever renewed.
	authorityYears = 20
	// Clocks of devices may be behind ours by this much.
	clockSkew = 24 * time.Hour
)

// root is the CA itself.
type root struct {
	dir  string
	key  ed25519.PrivateKey // nil where it is not in the folder
	cert *x509.Certificate  // nil before the CA is made
}

// readRoot reads what the folder holds of the CA's key and certificate, and tells
// whether they belong together.
func readRoot(dir string) (root, error) {
	r := root{dir: dir}
	var err error
	if r.key, err = readKey(filepath.Join(dir, keyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return root{}, err
	}
	if r.cert, err = readCertificate(filepath.Join(dir, certFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return root{}, err
	}
	if r.cert == nil {
		return r, nil
	}
	if _, ok := r.cert.PublicKey.(ed25519.PublicKey); !ok || !r.cert.IsCA {
		return root{}, fmt.Errorf("ca: %s in %s is not the certificate of a CA with an Ed25519 key; put back the file as it was written", certFile, dir)
	}
	if r.key != nil && !r.PublicKey().Equal(r.key.Public()) {
		return root{}, fmt.Errorf("ca: %s is not the certificate of the key in %s; put the matching pair back", certFile, keyFile)
	}
	return r, nil
}

// live tells whether the CA's certificate still holds.
func (r *root) live(now time.Time) error {
	if now.After(r.cert.NotAfter) {
		return fmt.Errorf("ca: %s ended on %s; the devices have to enrol anew with a new CA: start with an empty data folder",
			certFile, r.cert.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// make draws the CA's key, unless a crash has left one, and signs its certificate.
func (r *root) make(now time.Time) error {
	return r.locked(func() error {
		there, err := readRoot(r.dir)
		if err != nil {
			return err
		}
		if there.cert != nil {
			return fmt.Errorf("ca: another process has just made a CA in %s; go on with that, or name an empty folder", r.dir)
		}
		r.key = there.key
		return r.makeLocked(now)
	})
}

func (r *root) makeLocked(now time.Time) (err error) {
	if r.key == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return fmt.Errorf("ca: making the CA key: %w", err)
		}
		if err := writeKey(filepath.Join(r.dir, keyFile), key); err != nil {
			return err
		}
		r.key = key
	}
	public := r.key.Public().(ed25519.PublicKey)
	id := sha256.Sum256(public)
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organisation}, CommonName: "discreet CA " + hex.EncodeToString(id[:4])},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := r.sign(template, template, public)
	if err != nil {
		return err
	}
	if r.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("ca: reading the new CA certificate: %w", err)
	}
	return writeFile(filepath.Join(r.dir, certFile), certificatePEM(der))
}

// sign issues a certificate for public from a template, with a random serial.
func (r *root) sign(template, parent *x509.Certificate, public ed25519.PublicKey) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, fmt.Errorf("ca: drawing a serial number: %w", err)
	}
	serial[0] &= 0x7f
	template.SerialNumber = new(big.Int).SetBytes(serial)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, r.key)
	if err != nil {
		return nil, fmt.Errorf("ca: signing a certificate: %w", err)
	}
	return der, nil
}

// PublicKey returns the CA's Ed25519 key, under which devices check each other's
// credentials.
func (r *root) PublicKey() ed25519.PublicKey { return r.cert.PublicKey.(ed25519.PublicKey) }

// Certificate returns the CA's X.509 certificate in DER.
func (r *root) Certificate() []byte { return r.cert.Raw }

// Fingerprint returns the SHA-256 of the CA's certificate in DER, which enrolment
// tokens carry.
func (r *root) Fingerprint() [32]byte { return sha256.Sum256(r.cert.Raw) }

// openOnce opens what is made once for a CA, the operator's credential and the log's
// key, and makes what is missing. It returns the log's key and credential.
func (r *root) openOnce(now time.Time) (logKey ed25519.PrivateKey, credential []byte, err error) {
	open := func() (err error) {
		if logKey, credential, err = r.openLog(); err != nil { // the first, since without it nothing else was given out
			return err
		}
		return r.openOperator(now)
	}
	if r.key == nil || len(existing(r.dir, operatorFile, logFile)) == 2 {
		err = open() // nothing is made, so that a folder may be read-only
	} else {
		err = r.locked(open)
	}
	return logKey, credential, err
}

// openOperator makes operator.pem where it is missing and checks that an existing
// one belongs to this CA.
func (r *root) openOperator(now time.Time) error {
	path := filepath.Join(r.dir, operatorFile)
	old, err := os.ReadFile(path)
	if err == nil {
		if _, err := parseOperator(old, path); err != nil {
			return err
		}
		if c, err := readCertificate(path); err != nil || c.CheckSignatureFrom(r.cert) != nil {
			return fmt.Errorf("ca: %s was issued by another CA; move it away, and a new one is made at the next start", path)
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
	der, err := r.sign(clientTemplate(Operator, "operator", now, r.cert.NotAfter), r.cert, public)
	if err != nil {
		return err
	}
	private, err := keyPEM(key)
	if err != nil {
		return err
	}
	return writeFile(path, certificatePEM(der), private, certificatePEM(r.cert.Raw))
}

// Issued is what the CA issues for a device.
type Issued struct {
	PublicKey   ed25519.PublicKey // the device's
	Certificate []byte            // X.509 client certificate for TLS, DER
	Credential  []byte            // what other devices check in a roster, 64 bytes
}

func (r *root) issue(device ed25519.PublicKey, now time.Time) (Issued, error) {
	if len(device) != ed25519.PublicKeySize {
		return Issued{}, fmt.Errorf("ca: a device key of %d bytes, want %d", len(device), ed25519.PublicKeySize)
	}
	id := secagg.DeviceID(device)
	der, err := r.sign(clientTemplate(Device, id.String(), now, r.cert.NotAfter), r.cert, device)
	if err != nil {
		return Issued{}, err
	}
	return Issued{PublicKey: device, Certificate: der, Credential: secagg.Certify(r.key, device)}, nil
}

// CheckIssued tells whether the CA has issued this for the device whose key it names.
func (r *root) CheckIssued(i Issued, now time.Time) error {
	if len(i.PublicKey) != ed25519.PublicKeySize || len(i.Certificate) > maxCertificate {
		return fmt.Errorf("ca: a device key of %d bytes with a certificate of %d, want %d and at most %d",
			len(i.PublicKey), len(i.Certificate), ed25519.PublicKeySize, maxCertificate)
	}
	id := secagg.DeviceID(i.PublicKey)
	leaf, err := x509.ParseCertificate(i.Certificate)
	if err != nil {
		return fmt.Errorf("ca: the certificate of device %v: %w", id, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(r.cert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("ca: the certificate of device %v was not issued by this coordinator's CA, or its time is not now: %w", id, err)
	}
	peer, err := identify(leaf)
	if err != nil {
		return err
	}
	if peer.Role != Device || peer.ID != id {
		return fmt.Errorf("ca: the certificate is for the %v %v, want device %v", peer.Role, peer.ID, id)
	}
	if err := secagg.VerifyCredential(r.PublicKey(), i.PublicKey, i.Credential); err != nil {
		return fmt.Errorf("ca: the credential of device %v: %w", id, err)
	}
	return nil
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
